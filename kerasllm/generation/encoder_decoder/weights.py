"""The weights of an encoder-decoder's decoder, read out of its layers for `forward`.

`tests/generation/encoder_decoder/test_generator.py` compares every family with its backbone's own
forward pass, and so fails when KerasHub changes what this file relies on.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import keras
import keras_hub
import tensorflow as tf

from kerasllm.generation.weights import WeightReader
from kerasllm.models.encoder_decoder import EncoderDecoder
from kerasllm.models.encoder_decoder_backbone import EncoderDecoderBackbone

_TRANSFORMER = (keras_hub.models.BartBackbone, EncoderDecoderBackbone)
_T5 = (keras_hub.models.T5Backbone,)


@dataclass(frozen=True)
class Architecture:
    """What a decoder computes, beside its weights.

    Attributes:
        heads: The number of attention heads.
        head_size: The width of a head.
        epsilon: Of the norms.
        activation: Of the feed-forward parts.
        gated: Whether the feed-forward parts have a gate.
        normalizes_first: Whether each part of a layer normalizes its input, or else its sum.
        score_scale: What the scores of attention are multiplied by.
        embedding_scale: What token vectors are multiplied by.
        hidden_scale: What hidden states are multiplied by before the output layer.
        logits_soft_cap: What logits cannot exceed, or `None`.
        dtype: What it computes in. Norms, softmax and logits are float32 always.
    """

    heads: int
    head_size: int
    epsilon: float
    activation: Callable
    gated: bool
    normalizes_first: bool
    score_scale: float
    embedding_scale: float
    hidden_scale: float
    logits_soft_cap: float | None
    dtype: str


def can_be_read(backbone: keras_hub.models.Backbone) -> bool:
    """Returns whether weights can be read: BART, T5, and kerasllm's own (mBART, Marian).

    By class and not by inheritance: a subclass may compute something else.
    """
    return type(backbone) in (*_TRANSFORMER, *_T5)


def architecture(model: EncoderDecoder) -> Architecture:
    """Returns what a decoder computes; see `can_be_read`."""
    backbone = model.backbone
    layer = backbone.decoder_transformer_layers[0]
    shared = {
        "hidden_scale": model.hidden_scale,
        "logits_soft_cap": model.logits_soft_cap,
        "dtype": backbone.compute_dtype,
    }
    if isinstance(backbone, _T5):
        attention = layer.self_attention
        return Architecture(
            heads=attention.num_heads,
            head_size=attention.key_value_dim,
            epsilon=layer.layer_norm.epsilon,
            activation=layer.input_projector.activation,
            gated=layer.use_gated_activation,
            normalizes_first=True,
            # It is in the weights.
            score_scale=1.0,
            embedding_scale=1.0,
            **shared,
        )
    head_size = backbone.hidden_dim // layer.num_heads
    return Architecture(
        heads=layer.num_heads,
        head_size=head_size,
        epsilon=layer.layer_norm_epsilon,
        activation=layer.activation,
        gated=False,
        normalizes_first=layer.normalize_first,
        score_scale=head_size**-0.5,
        embedding_scale=getattr(backbone, "embedding_scale", 1.0),
        **shared,
    )


def read_weights(model: EncoderDecoder) -> dict:
    """Reads the weights of a decoder as they are now, with adapters merged.

    Args:
        model: A model with a backbone that `can_be_read`.

    Returns:
        Tensors by name, nested. Matrices are `[outputs, inputs]` in the backbone's compute dtype,
        norms float32. What a family does not have is left out.
    """
    backbone = model.backbone
    reader = WeightReader(backbone)
    embedding = reader.tensor(backbone.token_embedding.embeddings)
    weights = {"embedding": embedding, "head": embedding}
    if not model.output_embedding.tie_weights:
        weights["head"] = tf.transpose(reader.tensor(model.output_embedding.reverse_embeddings))
    if model.final_logits_bias is not None:
        weights["head_bias"] = tf.constant(model.final_logits_bias, tf.float32)
    layers = backbone.decoder_transformer_layers
    if isinstance(backbone, _T5):
        weights["blocks"] = [_t5_block(reader, layer) for layer in layers]
        weights["norm"] = reader.norm(backbone.decoder_layer_norm)
        weights["distances"] = _distances(layers[0].self_attention)
        return weights
    weights["blocks"] = [_block(reader, layer.path + "/") for layer in layers]
    weights["positions"] = _positions(backbone)
    # BART has a norm of the embeddings and none at the end; others have either, both or none.
    for name, norm in (
        ("embedding_norm", backbone.decoder_embeddings_layer_norm),
        ("norm", getattr(backbone, "decoder_layer_norm", None)),
    ):
        if norm is not None:
            weights[name] = reader.norm(norm)
    return weights


def _block(reader: WeightReader, path: str) -> dict:
    """Reads a KerasHub `TransformerDecoder`."""

    def dense(*names: str) -> dict:
        return reader.dense(*(path + name for name in names))

    return {
        "self_norm": reader.norm(path + "self_attention_layer_norm"),
        "self_query_key_value": dense(
            *(f"self_attention/{name}" for name in ("query", "key", "value"))
        ),
        "self_output": dense("self_attention/attention_output"),
        "cross_norm": reader.norm(path + "cross_attention_layer_norm"),
        "cross_query": dense("cross_attention/query"),
        "cross_key_value": dense("cross_attention/key", "cross_attention/value"),
        "cross_output": dense("cross_attention/attention_output"),
        "feedforward_norm": reader.norm(path + "feedforward_layer_norm"),
        "feedforward": dense("feedforward_intermediate_dense"),
        "feedforward_output": dense("feedforward_output_dense"),
    }


def _t5_block(reader: WeightReader, layer: keras.Layer) -> dict:
    own, cross = layer.self_attention, layer.cross_attention
    inner = [layer.input_projector]
    if layer.use_gated_activation:
        inner.append(layer.gate_projector)
    return {
        "self_norm": reader.norm(layer.self_attention_layer_norm),
        "self_query_key_value": reader.dense(
            own.query_projector, own.key_projector, own.value_projector
        ),
        "self_output": reader.dense(own.output_projector),
        "cross_norm": reader.norm(layer.cross_attention_layer_norm),
        "cross_query": reader.dense(cross.query_projector),
        "cross_key_value": reader.dense(cross.key_projector, cross.value_projector),
        "cross_output": reader.dense(cross.output_projector),
        "feedforward_norm": reader.norm(layer.layer_norm),
        "feedforward": reader.dense(*inner),
        "feedforward_output": reader.dense(layer.output_projector),
    }


def _distances(attention: keras.Layer) -> tf.Tensor:
    """Returns T5's bias of the scores by how far back a token is, float32 `[distances, heads]`.

    The last one is that of all greater distances.
    """
    count = attention.relative_attention_max_distance + 1
    bias = attention.compute_bias(1, count, query_start_index=count - 1)
    return tf.cast(tf.transpose(bias[0, :, 0, ::-1]), tf.float32)


def _positions(backbone: keras_hub.models.Backbone) -> tf.Tensor:
    """Returns the vectors of the decoder's positions, `[positions, width]`."""
    layer = backbone.decoder_position_embedding
    shape = [1, layer.sequence_length, backbone.hidden_dim]
    return tf.convert_to_tensor(layer(tf.zeros(shape, backbone.compute_dtype))[0])
