"""The forward pass of a KerasHub decoder, layer by layer.

KerasHub's backbones take a padding mask and nothing else. Walking their layers, which they offer,
allows more: several texts in one row without attention between them, layers that are computed again
in the backward pass, and hidden states from which the logits are made in chunks.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import keras
import keras_hub
from keras import ops

# Families whose layers all take a hidden state and masks, and whose positions are relative
# (rotary) or given to an embedding. By name and not by inheritance: a subclass may differ.
WALKABLE = (
    keras_hub.models.GPT2Backbone,
    keras_hub.models.LlamaBackbone,
    keras_hub.models.Llama3Backbone,
    keras_hub.models.MistralBackbone,
    keras_hub.models.QwenBackbone,
    keras_hub.models.Qwen3Backbone,
)
"""Backbones that `hidden_states` walks through."""


def can_be_walked(backbone: keras_hub.models.Backbone) -> bool:
    """Returns whether `hidden_states` takes segments, and can compute layers again."""
    return type(backbone) in WALKABLE


def hidden_states(
    backbone: keras_hub.models.Backbone,
    token_ids,
    segment_ids=None,
    *,
    training: bool = False,
    rematerialize: bool = False,
):
    """Computes what a decoder's last layer gives.

    Args:
        backbone: A KerasHub decoder.
        token_ids: int32 `[rows, length]`, padded at the end of a row.
        segment_ids: int32 `[rows, length]`: which of the texts in a row a token belongs to, from 1
            on, 0 for padding. Texts do not attend to each other, and the positions of each begin
            at 0. Defaults to `None`: a row is one text.
        training: Whether dropout is on. Defaults to `False`.
        rematerialize: Whether the backward pass computes each layer again, instead of keeping all
            that it computed: less memory, one more forward pass. Defaults to `False`.

    Returns:
        Float `[rows, length, width]`.

    Raises:
        ValueError: If segments or rematerialization are asked of a family that cannot.

    References:
        [Training Deep Nets with Sublinear Memory Cost](https://arxiv.org/abs/1604.06174),
        [Efficient Sequence Packing](https://arxiv.org/abs/2107.02027)
    """
    token_ids = ops.convert_to_tensor(token_ids)
    if not can_be_walked(backbone):
        if segment_ids is not None or rematerialize:
            raise ValueError(
                "Segments and rematerialization are not supported by "
                f"{type(backbone).__name__}. Received: segment_ids={segment_ids}, "
                f"rematerialize={rematerialize}"
            )
        # A token attends to nothing after it: padding needs no mask.
        inputs = {"token_ids": token_ids, "padding_mask": ops.ones_like(token_ids)}
        return backbone(inputs, training=training)
    mask = None
    if segment_ids is not None:
        mask = ops.cast(segment_ids[:, :, None] == segment_ids[:, None, :], "int32")
    x = backbone.token_embedding(token_ids)
    if isinstance(backbone, keras_hub.models.GPT2Backbone):
        positions = None if mask is None else positions_in_segments(mask)
        x = backbone.embeddings_add((x, backbone.position_embedding(x, positions=positions)))
        x = backbone.embeddings_dropout(x, training=training)
    for layer in backbone.transformer_layers:
        compute = _layer(layer, mask, training)
        x = (_rematerialized(layer, compute) if rematerialize else compute)(x)
    return backbone.layer_norm(x)


def positions_in_segments(same_segment):
    """Returns the position of each token in its text, int32 `[rows, length]`.

    Args:
        same_segment: int32 `[rows, length, length]`, 1 where two tokens are of one text.
    """
    length = same_segment.shape[-1] or ops.shape(same_segment)[-1]
    earlier = ops.arange(length)[None, :] < ops.arange(length)[:, None]
    return ops.sum(same_segment * ops.cast(earlier, "int32"), axis=-1)


def logits(backbone: keras_hub.models.Backbone, hidden):
    """Returns the float32 logits `[..., vocabulary]` of hidden states `[..., width]`."""
    values = ops.cast(backbone.token_embedding(hidden, reverse=True), "float32")
    cap = getattr(backbone, "final_logit_soft_cap", None)
    return values if cap is None else ops.tanh(values / cap) * cap


def _layer(layer: keras.Layer, mask, training: bool) -> Callable:
    return lambda x: layer(x, decoder_attention_mask=mask, training=training)


def _rematerialized(layer: keras.Layer, compute: Callable) -> Callable:
    """Returns `compute`, computed again in the backward pass with the same random numbers."""
    generators = [v for v in layer.variables if v.name == "seed_generator_state"]
    states = list(zip(generators, _current_values(generators), strict=True))
    if keras.config.backend() == "jax":
        # The inner scope hides all values of the step's own: of weights as well.
        taken = {id(variable) for variable in generators}
        states += [(each, each.value) for each in layer.variables if id(each) not in taken]

    def again(x):
        with keras.StatelessScope(state_mapping=states):
            return compute(x)

    return keras.remat(again)


def _current_values(variables: Sequence[keras.Variable]) -> list:
    # Read in the scope of the first pass: the second is not in it, and would find others.
    return [ops.copy(variable.value) for variable in variables]
