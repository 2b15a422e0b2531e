"""The tensors of a folder's safetensors files, one at a time: one file, or an index of shards."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import ml_dtypes  # noqa: F401  registers bfloat16 in NumPy, which safetensors needs
import numpy as np
import safetensors

from kerasllm.errors import PresetError
from kerasllm.json_files import read_json_file

WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"


@dataclass(frozen=True)
class StoredTensor:
    """A tensor that was not read yet.

    Attributes:
        file: Where it is.
        name: Its name there.
        shape: Its shape.
        dtype: Its type, as safetensors spells it: `"F32"`, `"BF16"`, ...
    """

    file: Path
    name: str
    shape: tuple[int, ...]
    dtype: str

    def read(self) -> np.ndarray:
        """Reads the tensor, in its own type.

        Raises:
            PresetError: If it holds no real numbers: weights of another kind are not computed with.
        """
        if self.dtype and not self.dtype.startswith(("F", "BF")):
            raise PresetError(
                f"the tensor {self.name} is of the type {self.dtype}, but weights must be real "
                "numbers",
                where=str(self.file),
                fix="use a model whose weights are stored as float32, float16 or bfloat16",
            )
        with safetensors.safe_open(self.file, framework="numpy") as opened:
            return opened.get_tensor(self.name)


def list_tensors(folder: Path) -> list[StoredTensor]:
    """Lists the tensors of a folder, without reading them.

    Raises:
        PresetError: A file is missing or broken.
    """
    try:
        return [tensor for file in _weight_files(folder) for tensor in _tensors_in(file)]
    except (safetensors.SafetensorError, OSError, ValueError, KeyError, TypeError) as error:
        raise PresetError(
            f"{WEIGHTS} cannot be read: {error}", where=str(folder), fix="download the file again"
        ) from error


def _weight_files(folder: Path) -> list[Path]:
    if not (folder / INDEX).is_file():
        return [folder / WEIGHTS]
    index = read_json_file(folder / INDEX)
    mapping = index.get("weight_map") if isinstance(index, dict) else None
    if not isinstance(mapping, dict) or not all(isinstance(x, str) for x in mapping.values()):
        raise PresetError(
            "weight_map does not say which file each tensor is in",
            where=str(folder / INDEX),
            fix="download the file again",
        )
    names = sorted(set(mapping.values()))
    for name in names:
        if name != Path(name).name:
            raise PresetError(
                f"{name!r} is not the name of a file",
                where=str(folder / INDEX),
                fix="download the file again",
            )
        if not (folder / name).is_file():
            raise PresetError(
                f"{name} is missing", where=str(folder / INDEX), fix="download the file again"
            )
    return [folder / name for name in names]


def _tensors_in(file: Path) -> Iterator[StoredTensor]:
    with safetensors.safe_open(file, framework="numpy") as opened:
        for name in opened.keys():
            part = opened.get_slice(name)
            yield StoredTensor(file, name, tuple(part.get_shape()), part.get_dtype())
