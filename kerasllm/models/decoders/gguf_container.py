"""GGUF files as containers: a header that is checked to be whole, tensors read one at a time.

The header is read here: the `gguf` library takes seconds for a vocabulary, and believes any length
that a broken file gives. The library knows the types, and dequantises.
"""

from __future__ import annotations

import math
import mmap
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import gguf
import numpy as np

from kerasllm.errors import PresetError

BROKEN = "download the file again, or compare its size and sha256 with the source"
_VERSIONS = (2, 3)
# Scalars by the number of their type.
_SCALARS = dict(enumerate("BbHhIif?")) | {10: "Q", 11: "q", 12: "d"}
_STRING, _ARRAY = 8, 9


@dataclass(frozen=True)
class PackedTensor:
    """A tensor of a GGUF file that was not read yet.

    Attributes:
        file: The file.
        name: Its name there.
        kind: Its type.
        shape: Its shape, rows first.
        offset: Where its bytes begin.
    """

    file: Path
    name: str
    kind: gguf.GGMLQuantizationType
    shape: tuple[int, ...]
    offset: int

    @property
    def num_bytes(self) -> int:
        block, size = gguf.GGML_QUANT_SIZES[self.kind]
        return math.prod(self.shape) // block * size

    def read(self) -> np.ndarray:
        """Reads and dequantises the tensor, as float32."""
        packed = np.memmap(self.file, "uint8", "r", self.offset, (self.num_bytes,))
        value = gguf.dequantize(packed, self.kind)
        return np.asarray(value, "float32").reshape(self.shape)


@dataclass(frozen=True)
class Container:
    """What the header of a GGUF file says.

    Attributes:
        metadata: The values, by key.
        tensors: The tensors, by name.
    """

    metadata: Mapping[str, object]
    tensors: Mapping[str, PackedTensor]


def open_gguf(path: Path) -> Container:
    """Reads the header of a GGUF file, and checks that the file is whole.

    Raises:
        PresetError: It is not GGUF, or is truncated or broken.

    Reference:
        [The GGUF format](https://github.com/ggml-org/ggml/blob/master/docs/gguf.md).
    """
    try:
        with open(path, "rb") as opened:
            if opened.read(4) != b"GGUF":
                raise PresetError(
                    f"{path.name} is not a GGUF file", where=str(path), fix="give a .gguf file"
                )
            with mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ) as data:
                return _Header(path, data).read()
    except OSError as error:
        raise PresetError(
            f"{path} cannot be read: {error.strerror}", fix="check the path"
        ) from error
    except (LookupError, ValueError, OverflowError, struct.error) as error:
        raise PresetError(
            f"{path.name} is truncated or broken: {error}, and it has {path.stat().st_size} bytes",
            where=str(path),
            fix=BROKEN,
        ) from error


class _Header:
    """Reads values one after the other, and none beyond the end."""

    def __init__(self, path: Path, data: mmap.mmap):
        self._path = path
        self._data = data
        self._at = 4

    def read(self) -> Container:
        version = self._scalar("I")
        if version not in _VERSIONS:
            raise ValueError(f"its version is {version}, where {_VERSIONS} are known")
        num_tensors, num_values = self._scalar("Q"), self._scalar("Q")
        metadata = {}
        for _ in range(num_values):
            key = self._string()
            if key in metadata:
                raise ValueError(f"{key} occurs twice")
            metadata[key] = self._value(self._scalar("I"))
        listed = [self._tensor() for _ in range(num_tensors)]
        alignment = metadata.get("general.alignment", 32)
        if not isinstance(alignment, int) or alignment < 1:
            raise ValueError(f"general.alignment is {alignment!r}")
        start = -(-self._at // alignment) * alignment
        tensors = {}
        for name, shape, kind, offset in listed:
            tensor = PackedTensor(self._path, name, kind, shape, start + offset)
            if name in tensors:
                raise ValueError(f"tensor {name} occurs twice")
            if tensor.offset + tensor.num_bytes > len(self._data):
                raise ValueError(f"tensor {name} ends after the file")
            tensors[name] = tensor
        return Container(metadata, tensors)

    def _tensor(self) -> tuple:
        name = self._string()
        num_axes = self._scalar("I")
        if not 1 <= num_axes <= 4:
            raise ValueError(f"tensor {name} has {num_axes} axes")
        shape = tuple(self._scalar("Q") for _ in range(num_axes))[::-1]
        kind = gguf.GGMLQuantizationType(self._scalar("I"))
        if math.prod(shape) == 0 or shape[-1] % gguf.GGML_QUANT_SIZES[kind][0]:
            raise ValueError(f"tensor {name} has shape {shape}, which {kind.name} cannot have")
        return name, shape, kind, self._scalar("Q")

    def _value(self, kind: int) -> object:
        if kind == _STRING:
            return self._string()
        if kind != _ARRAY:
            value = self._scalar(_SCALARS[kind])
            # As the shortest number that it stands for: 1e-05 and not 9.99999975e-06.
            return float(str(np.float32(value))) if _SCALARS[kind] == "f" else value
        kind, count = self._scalar("I"), self._scalar("Q")
        if kind == _STRING:
            return self._strings(count)
        dtype = np.dtype(_SCALARS[kind]).newbyteorder("<")
        return np.frombuffer(self._bytes(count * dtype.itemsize), dtype).tolist()

    def _strings(self, count: int) -> list[str]:
        # Vocabularies and merges: tens of thousands, so in one loop.
        data, at, found, size_at = self._data, self._at, [], struct.Struct("<Q").unpack_from
        for _ in range(count):
            begin = at + 8
            at = begin + size_at(data, at)[0]
            if at > len(data):
                raise ValueError(f"a value ends at byte {at}")
            found.append(data[begin:at].decode("utf-8"))
        self._at = at
        return found

    def _string(self) -> str:
        return self._bytes(self._scalar("Q")).decode("utf-8")

    def _scalar(self, form: str) -> int | float | bool:
        form = f"<{form}"
        return struct.unpack(form, self._bytes(struct.calcsize(form)))[0]

    def _bytes(self, count: int) -> bytes:
        end = self._at + count
        if end > len(self._data):
            raise ValueError(f"a value ends at byte {end}")
        found = self._data[self._at : end]
        self._at = end
        return found
