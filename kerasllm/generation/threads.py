"""A core for each part of a product, instead of all cores for each operation.

To read a token takes hundreds of operations of some microseconds. Where two cores share each of
them, waking the second takes longer than the operation: a softmax of 9 rows takes 50 microseconds
instead of 4. So an operation is left to one core, and a matrix is cut into as many parts as there
are cores, whose products are computed at the same time.
"""

from __future__ import annotations

import json
from pathlib import Path

import tensorflow as tf

from kerasllm.errors import KerasllmError
from kerasllm.models import decoders, presets
from kerasllm.runtime.switches import is_off
from kerasllm.runtime.threads import MOST_CORES, available_cores, operations_at_once
from kerasllm.training.precision import computes_bfloat16

# What `kerasllm.generation.weights` reads, by the names that KerasHub and Hugging Face give it.
_READ_CLASSES = tuple(
    f"{name}Backbone" for name in ("GPT2", "Llama", "Llama3", "Mistral", "Qwen", "Qwen3")
)
_READ_TYPES = ("gpt2", "llama", "mistral", "qwen2", "qwen3")
# Bytes that the rows of a part must begin at, for TensorFlow to cut a matrix without copying it.
_ALIGNED = 64


def cores_for_text(preset: str | Path, precision: str) -> int:
    """Returns how many cores are given an operation each where a model only writes text.

    It does not start TensorFlow, whose threads can be set afterwards.

    Args:
        preset: The preset of the model.
        precision: What it computes in, or `"auto"`.

    Returns:
        As many as there are, from 2 to 4, in bfloat16 on a processor, for the decoders that
        `kerasllm.generation.forward` computes; `1` for all others, whose operations are shared, and
        where `KERASLLM_SLICES=0`. In float32 XLA computes, which shares its products well.
    """
    cores = available_cores()
    if not 2 <= cores <= MOST_CORES or is_off("KERASLLM_SLICES"):
        return 1
    if not (precision.endswith("bfloat16") or (precision == "auto" and computes_bfloat16())):
        return 1
    if tf.config.list_physical_devices("GPU") or tf.config.list_physical_devices("TPU"):
        return 1
    try:
        return cores if _is_read(presets.resolve(preset)) else 1
    except KerasllmError:
        return 1  # Opening the model tells why.


def _is_read(place: str | Path) -> bool:
    """Returns whether `kerasllm.generation.weights` reads the model of a folder or a GGUF file."""
    if decoders.is_decoder(place):
        return decoders.read_config(place).get("model_type") in _READ_TYPES
    try:
        config = json.loads((Path(place) / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return config.get("class_name") in _READ_CLASSES


def parts_of(weight: tf.Tensor) -> int:
    """Returns how many parts a matrix `[outputs, inputs]` is multiplied in.

    One for each operation that is computed at a time, where that cuts it into equal parts without
    copying them.
    """
    outputs, inputs = weight.shape
    parts = operations_at_once()
    aligned = inputs * weight.dtype.size % _ALIGNED == 0
    return parts if aligned and outputs % parts == 0 else 1
