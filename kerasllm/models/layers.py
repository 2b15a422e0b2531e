"""The parts of a KerasHub model by depth: embeddings, transformer layers, pooler, head.

Keras has no public way to reach the layers inside a layer, so the one place that does so is here.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import keras


@dataclass(frozen=True)
class Parts:
    """The layers of a text classifier, from the input up.

    Attributes:
        embeddings: What makes vectors of token ids, with norms and projections.
        blocks: The layers that compute transformer layer 1, 2, ...; in a model that shares
            weights between layers (ALBERT) the same ones come more than once.
        pooler: What the backbone computes after its last transformer layer.
        head: What the classifier adds to the backbone.
    """

    embeddings: tuple[keras.Layer, ...]
    blocks: tuple[tuple[keras.Layer, ...], ...]
    pooler: tuple[keras.Layer, ...]
    head: tuple[keras.Layer, ...]


def parts_of(task: keras.Model) -> Parts:
    """Returns the parts of a KerasHub `TextClassifier`."""
    backbone = task.backbone
    blocks = _blocks(backbone)
    in_blocks = {id(layer) for block in blocks for layer in block}
    # Keras lists layers in the order in which they compute.
    listed = list(backbone.layers)
    own = {id(layer) for layer in walk([backbone])}
    last = max(number for number, layer in enumerate(listed) if id(layer) in in_blocks)
    return Parts(
        embeddings=tuple(layer for layer in listed[:last] if id(layer) not in in_blocks),
        blocks=blocks,
        pooler=tuple(listed[last + 1 :]),
        head=tuple(
            layer
            for layer in task.layers
            # A head may compute with the embeddings, which are no layer of its own.
            if id(layer) not in own and not isinstance(layer, keras.layers.InputLayer)
        ),
    )


def walk(layers: Iterable[keras.Layer]) -> Iterator[keras.Layer]:
    """Yields each layer and every layer inside it, once."""
    seen = set()
    for layer in layers:
        for inner in layer._flatten_layers():
            if id(inner) not in seen:
                seen.add(id(inner))
                yield inner


def variables_of(layers: Iterable[keras.Layer]) -> list[keras.Variable]:
    """Returns the weights of layers, each once."""
    weights = {id(weight): weight for layer in layers for weight in layer.weights}
    return list(weights.values())


def layer_depths(task: keras.Model) -> dict[str, int]:
    """Returns how deep each weight of a classifier lies, for layer-wise learning rates.

    A weight that several transformer layers share (ALBERT) has the depth of the highest of them.

    Args:
        task: A KerasHub `TextClassifier`.

    Returns:
        The depth by the variable's `path`: 0 for embeddings, 1 for the first transformer layer,
        up to the number of layers, and one more for the pooler and the head.

    Reference:
        [ULMFiT](https://arxiv.org/abs/1801.06146), 3.2, for rates that fall with depth.
    """
    parts = parts_of(task)
    depths = {variable.path: 0 for variable in variables_of(parts.embeddings)}
    for depth, block in enumerate(parts.blocks, start=1):
        depths.update({variable.path: depth for variable in variables_of(block)})
    top = len(parts.blocks) + 1
    depths.update({variable.path: top for variable in variables_of(parts.pooler + parts.head)})
    return depths


def ignores_padding(task: keras.Model) -> bool:
    """Returns whether a classifier's logits stay the same when its inputs are padded further.

    Not so for FNet, which mixes all positions by design, nor for KerasHub 0.32's RoFormerV2, whose
    mask hides the outputs of padding and not its inputs. Neither takes a padding mask. Texts must
    always be padded to the same length for these.
    """
    return "padding_mask" in task.input


def trainable_share(task: keras.Model) -> tuple[int, int]:
    """Returns the number of parameters that train, and of all, in however few bits they are held.

    Quantized layers tell by `parameter_count` how many they have: two of 4 bits share a byte.
    """
    layers = [layer for layer in walk([task]) if hasattr(layer, "parameter_count")]
    told = {id(weight) for layer in layers for weight in layer.weights}
    others = [weight for weight in task.weights if id(weight) not in told]
    train = sum(math.prod(weight.shape) for weight in task.trainable_weights)
    total = sum(math.prod(weight.shape) for weight in others)
    return train, total + sum(layer.parameter_count for layer in layers)


def _blocks(backbone: keras.Model) -> tuple[tuple[keras.Layer, ...], ...]:
    if not hasattr(backbone, "transformer_layers"):
        return _of_both_sides(backbone)
    listed = list(backbone.transformer_layers)
    if not isinstance(listed[0], (list, tuple)):
        return tuple((layer,) for layer in listed)
    # ALBERT: groups of layers, each of which runs as often as it takes to reach `num_layers`.
    calls = backbone.num_layers // len(listed)
    return tuple(tuple(group) for group in listed for _ in range(calls))


def _of_both_sides(backbone: keras.Model) -> tuple[tuple[keras.Layer, ...], ...]:
    """Returns layer 1 of the encoder and of the decoder, layer 2 of both..."""
    sides = [
        getattr(backbone, f"{side}_transformer_layers", None) or getattr(backbone, f"{side}_layers")
        for side in ("encoder", "decoder")
    ]
    return tuple(
        tuple(layer for layer in both if layer is not None)
        for both in itertools.zip_longest(*sides)
    )
