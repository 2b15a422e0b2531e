"""Weights as safetensors files: one, or several with an index, in transformers' manner."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from kerasllm.models.decoders.layout import Tensor
from kerasllm.models.huggingface.stored import INDEX, WEIGHTS
from kerasllm.safetensors_file import save_tensors

LARGEST_FILE = 5_000_000_000
"""The maximum number of bytes of weights in a file, which is transformers' own limit."""


def save_weights(
    tensors: Mapping[str, Tensor | np.ndarray], folder: Path, *, largest: int = LARGEST_FILE
) -> None:
    """Writes tensors in float32; memory holds those of one file at a time.

    Args:
        tensors: The tensors by name.
        folder: The folder.
        largest: The maximum number of bytes in a file, unless one tensor alone is larger. Defaults
            to `LARGEST_FILE`.
    """
    files = _shared_out({name: 4 * math.prod(one.shape) for name, one in tensors.items()}, largest)
    names = [WEIGHTS]
    if len(files) > 1:
        stem = Path(WEIGHTS).stem
        names = [
            f"{stem}-{number:05}-of-{len(files):05}.safetensors"
            for number in range(1, len(files) + 1)
        ]
        _save_index(dict(zip(names, files)), tensors, folder)
    for file, held in zip(names, files, strict=True):
        values = {name: _value(tensors[name]) for name in held}
        # Without it, transformers does not know that the file is laid out as torch does it.
        save_tensors(values, folder / file, metadata={"format": "pt"})


def _shared_out(sizes: Mapping[str, int], largest: int) -> list[list[str]]:
    files: list[list[str]] = [[]]
    used = 0
    for name, size in sizes.items():
        if files[-1] and used + size > largest:
            files.append([])
            used = 0
        files[-1].append(name)
        used += size
    return files


def _save_index(
    files: Mapping[str, list[str]], tensors: Mapping[str, Tensor | np.ndarray], folder: Path
) -> None:
    total = sum(math.prod(one.shape) for one in tensors.values())
    index = {
        "metadata": {"total_parameters": total, "total_size": 4 * total},
        "weight_map": {name: file for file, held in files.items() for name in held},
    }
    (folder / INDEX).write_text(json.dumps(index, indent=2) + "\n", encoding="utf-8")


def _value(tensor: Tensor | np.ndarray) -> np.ndarray:
    value = tensor if isinstance(tensor, np.ndarray) else tensor.to_huggingface()
    return np.ascontiguousarray(value, "float32")
