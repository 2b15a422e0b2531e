"""The base below adapters: identified by its weights, frozen, and quantized."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Sequence

import keras
import keras_hub
import ml_dtypes
import numpy as np

from kerasllm.distribution.memory import bytes_of
from kerasllm.models import decoders
from kerasllm.models.adapters.low_rank import freeze, is_frozen
from kerasllm.models.built_layers import cast_weight
from kerasllm.models.layers import walk
from kerasllm.training.host_values import value_of


class Base:
    """What a backbone was before it got adapters.

    Attributes:
        fingerprint: See `fingerprint`.
        bytes: The size of its weights.
        parameters: How many they were.
    """

    def __init__(self, backbone: keras_hub.models.Backbone):
        self.fingerprint = fingerprint(backbone)
        self.bytes = bytes_of(backbone.variables)
        self.parameters = sum(math.prod(each.shape) for each in backbone.weights)


def base_of(backbone: keras_hub.models.Backbone) -> Base:
    """Returns what a backbone was before it got adapters, or is, if it has none."""
    if not hasattr(backbone, "base_of_adapters"):
        return Base(backbone)
    return backbone.base_of_adapters


def prepare(
    backbone: keras_hub.models.Backbone,
    layers: Iterable[keras.Layer],
    whole: Sequence[str] = (),
    *,
    quantize: str | None = None,
    cast: bool = False,
) -> None:
    """Stills a backbone and readies some of its layers for updates.

    Args:
        backbone: Changed in place.
        layers: Dense layers that will get updates.
        whole: Names of `decoders.tensors` that stay trainable. Defaults to `()`.
        quantize: What the other kernels of its transformer layers are held in. Defaults to
            `None`: as they are.
        cast: Whether matrices that do not train are held in the dtype that is computed in.
            Defaults to `False`.
    """
    backbone.base_of_adapters = base_of(backbone)
    updates = [update for layer in frozen_layers(backbone) for update in layer.updates.values()]
    adapting = {id(variable) for update in updates for variable in update.variables}
    # By variable: a layer that does not train would hold the updates inside it back, too.
    for variable in backbone.variables:
        variable.trainable = variable.trainable and id(variable) in adapting
    tensors = decoders.tensors(backbone)
    training = [part for name in whole for part in tensors[name].parts]
    if quantize:
        busy = {id(part.layer) for part in training}
        for module in decoders.modules(backbone).values():
            for layer in module.layers:
                if id(layer) not in busy:
                    freeze(layer, quantize)
    for layer in layers:
        freeze(layer)
    for part in training:
        part.variable.trainable = True
    if cast:
        cast_frozen(backbone)


def cast_frozen(backbone: keras.Model) -> None:
    """Holds float32 matrices that do not train in the dtype that is computed in.

    In mixed precision each step would cast them to it: the numbers stay what they were.
    """
    for layer in walk([backbone]):
        for weight in [each for each in vars(layer).values() if isinstance(each, keras.Variable)]:
            matrix = len(weight.shape) > 1 and weight.dtype == "float32" and not weight.trainable
            if matrix and layer.compute_dtype != "float32":
                cast_weight(layer, weight, layer.compute_dtype)


def frozen_layers(backbone: keras.Model) -> list[keras.Layer]:
    """Returns the layers that have updates or are ready for them."""
    return [layer for layer in walk([backbone]) if is_frozen(layer)]


def base_weights(backbone: keras_hub.models.Backbone) -> dict[str, np.ndarray]:
    """Returns what a decoder computes with below its adapters, float32 by transformers' names.

    Of a quantized one, what its kernels dequantize to: the base that gives the same logits
    elsewhere.
    """
    return {
        name: np.asarray(tensor.to_huggingface(), "float32")
        for name, tensor in decoders.tensors(backbone).items()
    }


def fingerprint(backbone: keras_hub.models.Backbone, most: int = 4096) -> str:
    """Returns a digest of a base's weights, the same for every precision it is loaded in.

    Args:
        backbone: A decoder without adapters.
        most: How many entries of each weight count, evenly spread. Defaults to `4096`.
    """
    digest = hashlib.sha256()
    for name, tensor in sorted(decoders.tensors(backbone).items()):
        digest.update(f"{name} {tensor.shape}".encode())
        for part in tensor.parts:
            value = value_of(part.variable).reshape(-1)
            spread = value[:: max(1, value.size // most)]
            digest.update(spread.astype(ml_dtypes.bfloat16).tobytes())
    return digest.hexdigest()
