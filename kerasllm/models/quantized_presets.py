"""Presets whose weights Keras quantized, loaded as models with weights in floating point.

A quantized layer of Keras is no faster on a CPU, most often slower, does not train, and exposes its
integers when its kernel is read. What 8 or 4 bits save is space; so the weights are dequantized
when they are loaded, and the model is like any other: it trains, is exported, writes
text. `keras_hub` by itself keeps the integers.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import keras
import numpy as np

from kerasllm.json_files import read_json_file
from kerasllm.models.kernel_layout import KernelLayout
from kerasllm.models.layers import walk


def load_preset(
    from_preset: Callable[..., keras.Model], folder: str | Path, precision: str, **options
) -> keras.Model:
    """Loads a preset, with weights in floating point however they were saved.

    Args:
        from_preset: That of a KerasHub class.
        folder: What it takes.
        precision: A Keras dtype policy.
        **options: Passed on.
    """
    policies = _quantized(folder)
    if policies is None:
        return from_preset(str(folder), dtype=precision, **options)
    source = from_preset(str(folder), dtype=policies, **options)
    plain = from_preset(str(folder), dtype=precision, load_weights=False, **options)
    _copy_dequantized(source, plain)
    return plain


def _quantized(folder: str | Path) -> keras.dtype_policies.DTypePolicyMap | None:
    """Returns the policies of the layers of a folder, `None` where none is quantized."""
    file = Path(folder) / "config.json"
    if not file.is_file():
        return None
    config = read_json_file(file)
    policy = config.get("config", {}).get("dtype") if isinstance(config, dict) else None
    if not isinstance(policy, dict) or policy.get("class_name") != "DTypePolicyMap":
        return None
    return keras.dtype_policies.get(policy)


def _copy_dequantized(source: keras.Model, target: keras.Model) -> None:
    """Gives a model the weights of another one with quantized layers.

    Args:
        source: The model with quantized layers.
        target: A model of the same layers, none quantized.
    """
    # In order, not by name: Keras numbers those that have none, separately in each model.
    for layer, own in zip(walk([source]), walk([target]), strict=True):
        if not layer.quantization_mode:
            for weight, one in zip(_weights_of(layer), _weights_of(own), strict=True):
                one.assign(weight)
        elif hasattr(layer, "embeddings"):
            _copy_embedding(layer, own)
        else:
            _copy_kernel(layer, own)


def _copy_kernel(layer: keras.Layer, target: keras.Layer) -> None:
    """Sets a kernel to what a quantized layer multiplies by, as its outputs tell."""
    # Rounded inputs are for integer products, which are slow on a processor.
    layer.inputs_quantizer = None
    layer.activation = keras.activations.linear
    layout = KernelLayout.of(target)
    each_input = np.eye(layout.inputs, dtype="float32")
    outputs = layer(each_input.reshape(1, layout.inputs, *layout.input_shape))
    bias = _bias(layer)
    if bias is not None:
        outputs = outputs - bias
    matrix = np.asarray(outputs).reshape(layout.inputs, layout.outputs)
    target.kernel.assign(layout.kernel(matrix))
    if bias is not None:
        target.bias.assign(bias)


def _copy_embedding(layer: keras.Layer, target: keras.Layer) -> None:
    rows, width = target.embeddings.shape
    target.embeddings.assign(layer(np.arange(rows)))
    if getattr(layer, "tie_weights", True):
        return
    layer.inputs_quantizer = None
    target.reverse_embeddings.assign(layer(np.eye(width, dtype="float32"), reverse=True))


def _weights_of(layer: keras.Layer) -> list[keras.Variable]:
    """Returns the weights of a layer itself, without those of layers in it."""
    return [each for each in vars(layer).values() if isinstance(each, keras.Variable)]


def _bias(layer: keras.Layer) -> keras.Variable | None:
    return getattr(layer, "bias", None)
