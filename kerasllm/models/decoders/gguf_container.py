"""GGUF files as containers: opened and checked to be whole, metadata, tensors one at a time."""

from __future__ import annotations

import os
import struct
from collections.abc import Callable
from pathlib import Path

import gguf
import numpy as np

from kerasllm.errors import PresetError

BROKEN = "fetch the file again, or compare its size and sha256 with where it comes from"


def open_gguf(path: Path) -> gguf.GGUFReader:
    """Opens a GGUF file, and checks that it is whole.

    Raises:
        PresetError: It is not GGUF, or is truncated or broken.
    """
    try:
        with open(path, "rb") as opened:
            magic = opened.read(4)
    except OSError as error:
        raise PresetError(
            f"{path} cannot be read: {error.strerror}", fix="check the path"
        ) from error
    if magic != b"GGUF":
        raise PresetError(
            f"{path.name} is not a GGUF file", where=str(path), fix="give a .gguf file"
        )
    try:
        _check_header(path)
        reader = gguf.GGUFReader(path)
        ends = [tensor.data_offset + tensor.n_bytes for tensor in reader.tensors]
        if max(ends, default=reader.data_offset) > path.stat().st_size:
            raise ValueError("a tensor ends after the file")
        return reader
    except (
        ArithmeticError, LookupError, MemoryError, TypeError, ValueError, OSError, struct.error
    ) as error:  # fmt: skip
        raise PresetError(
            f"{path.name} is truncated or broken: it has {path.stat().st_size} bytes, and its "
            f"header leads elsewhere ({error})",
            where=str(path),
            fix=BROKEN,
        ) from error


# Bytes of a value, by the number of its type; 8 is a string, 9 an array.
_BYTES = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}
_STRING, _ARRAY = 8, 9


def _check_header(path: Path) -> None:
    """Walks over the metadata: the library would believe any length, and never end."""
    size = path.stat().st_size
    with open(path, "rb") as opened:

        def number(form: str) -> int:
            return struct.unpack(form, opened.read(struct.calcsize(form)))[0]

        def skip(count: int) -> None:
            if opened.tell() + count > size:
                raise ValueError("a value ends after the file")
            opened.seek(count, os.SEEK_CUR)

        opened.seek(4)
        if number("<I") & 0xFFFF == 0:
            raise ValueError("its numbers are big-endian")
        number("<Q")
        for _ in range(number("<Q")):
            skip(number("<Q"))
            kind, count = number("<I"), 1
            if kind == _ARRAY:
                kind, count = number("<I"), number("<Q")
            if kind == _STRING:
                for _ in range(count):
                    skip(number("<Q"))
            else:
                skip(_BYTES[kind] * count)


def metadata_of(reader: gguf.GGUFReader, path: Path) -> dict:
    """Returns the metadata but for the vocabulary, which would take a second.

    Raises:
        PresetError: A value cannot be read.
    """
    found = {}
    for key, field in reader.fields.items():
        if key.startswith("tokenizer.") and gguf.GGUFValueType.ARRAY in field.types:
            continue
        try:
            value = field.contents()
        except ValueError as error:
            raise PresetError(
                f"{key} cannot be read: {error}", where=str(path), fix=BROKEN
            ) from error
        # A float32 as the shortest number that it stands for: 1e-05 and not 9.99999975e-06.
        found[key] = float(str(np.float32(value))) if isinstance(value, float) else value
    return found


def reader_of(
    tensor: gguf.ReaderTensor, change: Callable[[np.ndarray], np.ndarray] | None = None
) -> Callable[[], np.ndarray]:
    """Returns what reads and dequantises a tensor, as float32.

    Args:
        tensor: The tensor.
        change: Applied to what was read. Defaults to `None`.
    """

    def read() -> np.ndarray:
        value = gguf.dequantize(tensor.data, tensor.tensor_type).astype("float32", copy=False)
        value = value.reshape([int(size) for size in reversed(tensor.shape)])
        return change(value) if change else value

    return read
