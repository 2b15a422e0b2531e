"""The inputs of a language model's `generate`, in the forms of the Keras ecosystem."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import tensorflow as tf

# Samplers of KerasHub, with their own defaults.
_SETTINGS = {
    "topk": "top_k=5",
    "topp": "top_p=0.1",
    "beam": "beams=5",
    "greedy": "temperature=0",
    "random": "temperature=1.0",
}


def setting_for(sampler: Any) -> str:
    """Returns the setting of `generate` that does what a sampler of KerasHub does."""
    name = sampler if isinstance(sampler, str) else type(sampler).__name__
    name = name.lower().replace("_", "").removesuffix("sampler")
    return _SETTINGS.get(name, "top_k=5")


def as_prompts(inputs: Any) -> Any:
    """Returns a prompt or prompts as strings, and conversations as they are."""
    if tf.is_tensor(inputs):
        inputs = inputs.numpy()
    if hasattr(inputs, "tolist"):
        inputs = inputs.tolist()
    if isinstance(inputs, bytes):
        return inputs.decode("utf-8")
    if isinstance(inputs, str):
        return inputs
    if not isinstance(inputs, (list, tuple)):
        raise _not_prompts(inputs)
    found = [as_prompts(each) if _is_text(each) else each for each in inputs]
    for each in found:
        if not isinstance(each, (str, list, tuple, Mapping)):
            raise _not_prompts(each)
    return found


def _is_text(value: Any) -> bool:
    return isinstance(value, bytes) or (tf.is_tensor(value) and value.shape.rank == 0)


def _not_prompts(value: Any) -> ValueError:
    return ValueError(
        "`inputs` must be a text, a list of texts, or conversations: `generate` tokenizes them "
        f"itself. Received: {type(value).__name__} {str(value)[:40]}"
    )
