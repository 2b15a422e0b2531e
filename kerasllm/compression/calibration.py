"""The calibration of Keras' GPTQ and AWQ: the transformer layers of a model, on real texts.

Keras walks through the layers one by one, on windows that it cuts at random out of all tokens, one
at a time, and without masks. Here it gets one window that holds whole rows, and layers that take
them as a batch: so the texts begin where texts begin, and the same command gives the same weights.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from functools import partial

import keras
import keras_hub
import numpy as np

from kerasllm.errors import RecipeError
from kerasllm.models.layers import walk


def structure_of(
    backbone: keras_hub.models.Backbone,
    inputs: Mapping[str, np.ndarray],
    notify: Callable[[str], None] = lambda text: None,
) -> dict:
    """Returns the `quantization_layer_structure` of Keras' `GPTQConfig` and `AWQConfig`.

    Args:
        backbone: A KerasHub backbone whose layers follow one another.
        inputs: What it reads, by name, each int32 `[rows, length]`, without padding.
        notify: Called with the layer that is looked at. Defaults to nothing.

    Raises:
        RecipeError: If the layers need more than what the one below gives.
    """
    blocks = list(backbone.transformer_layers)
    refused = RecipeError(
        f"The layers of a {type(backbone).__name__} take more inputs than the output of the layer "
        "below, and Keras cannot calibrate them",
        where="quantization.method",
        fix="use int8 or int4",
    )
    if any(isinstance(block, (list, tuple)) for block in blocks):
        raise refused
    first, last = (_first(blocks[0].input), _first(blocks[-1].output))
    ends = keras.Model(backbone.input, [first, last])
    states, wanted = ends({name: inputs[name] for name in backbone.input}, training=False)
    layers = [_Batched(block) for block in blocks]
    found = states
    for layer in layers:
        try:
            found = layer(found)[0]
        except (TypeError, ValueError) as error:
            raise refused from error
    if not np.allclose(found, wanted, rtol=1e-3, atol=1e-3):
        raise refused
    for number, layer in enumerate(layers, start=1):
        layer.notify = partial(notify, f"quantizing layer {number} of {len(layers)}")
    for layer in walk(blocks):
        if isinstance(layer, (keras.layers.Dense, keras.layers.EinsumDense)):
            layer.quantized_call = partial(_observed, layer)
    return {"pre_block_layers": [lambda _: states], "sequential_blocks": layers}


def _observed(layer: keras.Layer, *args, **kwargs):
    """Calls a layer so that Keras sees what goes in.

    Keras 3.15 looks on from the place of `call`, which a layer that is to be quantized does not go
    through: it would see nothing, and round the weights as `int4` does.
    """
    if inspect.ismethod(layer.call):
        return type(layer).quantized_call(layer, *args, **kwargs)
    return layer.call(*args, **kwargs)


def save_all_weights(backbone: keras_hub.models.Backbone) -> None:
    """Makes layers quantized by GPTQ or AWQ write all of their weights when they are saved.

    Keras 3.15 leaves out `kernel_zero`, and then cannot load what it wrote.
    """
    for layer in walk([backbone]):
        if layer.quantization_mode in ("gptq", "awq"):
            layer.save_own_variables = partial(_save, layer)


def _save(layer: keras.Layer, store) -> None:
    names = layer.variable_serialization_spec[layer.quantization_mode]
    weights = [getattr(layer, name) for name in names]
    for number, weight in enumerate(weight for weight in weights if weight is not None):
        store[str(number)] = weight


class _Batched(keras.Layer):
    """A transformer layer whose first output is the whole batch, as Keras' calibration takes it.

    Args:
        block: The layer; it is called in inference.
    """

    def __init__(self, block: keras.Layer):
        super().__init__(dtype=block.dtype_policy)
        self.block = block
        self.notify = lambda: None
        self.built = True

    def call(self, inputs):
        self.notify()
        return (self.block(inputs, training=False),)


def _first(tensors):
    return tensors[0] if isinstance(tensors, (list, tuple)) else tensors
