"""Presets whose weights Keras quantized: how they are loaded, and what they compute in.

Such a preset names the layers that are quantized in a map of dtype policies, which a plain policy
in its place would take away.
"""

from __future__ import annotations

import json
from pathlib import Path

import keras

from kerasllm.models.layers import walk


def saved_policy(folder: str | Path, precision: str) -> str | keras.dtype_policies.DTypePolicyMap:
    """Returns the policy to load a preset with, to compute in a precision.

    Args:
        folder: A preset, maybe a KerasHub folder.
        precision: A Keras dtype policy.

    Returns:
        `precision`; for a folder with quantized layers a map that keeps these and has all else in
        it.
    """
    file = Path(folder) / "config.json"
    if not file.is_file():
        return precision
    config = json.loads(file.read_text(encoding="utf-8")).get("config", {}).get("dtype")
    if not isinstance(config, dict) or config.get("class_name") != "DTypePolicyMap":
        return precision
    inside = config["config"]
    inside["default_policy"] = precision
    for policy in inside["policy_map"].values():
        policy["config"]["source_name"] = precision
    return keras.dtype_policies.get(config)


def is_quantized(model: keras.Model) -> bool:
    """Returns whether a layer of a model is quantized."""
    return any(layer.quantization_mode for layer in walk([model]))


def compute_with_activations_as_they_are(model: keras.Model) -> None:
    """Lets int8 layers bring their weights back to the dtype of what comes in, not that to int8.

    Keras rounds both. On processors TensorFlow's product of int8 matrices is some five times
    slower than that of floats, and the rounding costs accuracy.
    """
    for layer in walk([model]):
        if layer.quantization_mode == "int8" and getattr(layer, "inputs_quantizer", None):
            layer.inputs_quantizer = None
