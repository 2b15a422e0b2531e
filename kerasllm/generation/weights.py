"""The weights of a KerasHub decoder, read out of its layers for `kerasllm.generation.forward`.

Walking KerasHub's layers for every token is slow on a processor: they repeat the keys and values of
grouped heads, restack all caches, and multiply by many small matrices. What is read here is laid
out for one token at a time: few matrices, each `[outputs, inputs]`, which the fast kernels want.

`tests/generation/test_generator.py` compares every family with KerasHub's own forward pass, and so
fails when KerasHub changes what this file relies on.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import keras
import keras_hub
import tensorflow as tf

from kerasllm.models.adapters.low_rank import FrozenDense, FrozenEinsumDense, merged_matrix
from kerasllm.models.kernel_layout import KernelLayout
from kerasllm.models.layers import walk

_GATED = (
    keras_hub.models.LlamaBackbone,
    keras_hub.models.Llama3Backbone,
    keras_hub.models.MistralBackbone,
    keras_hub.models.QwenBackbone,
    keras_hub.models.Qwen3Backbone,
)


@dataclass(frozen=True)
class Architecture:
    """What a decoder computes, beside its weights.

    Attributes:
        heads: The number of query heads.
        key_value_heads: The number of key and value heads, each shared by several query heads.
        head_size: The width of a head.
        epsilon: Of the norms.
        window: How many tokens a token sees, itself among them. `None`: all before it.
        rotary: Whether positions turn queries and keys; else they are added to the embeddings.
        gated: Whether the feed-forward part has a gate (SiLU); else it is GELU.
        dtype: What it computes in. Norms, softmax and logits are float32 always.
    """

    heads: int
    key_value_heads: int
    head_size: int
    epsilon: float
    window: int | None
    rotary: bool
    gated: bool
    dtype: str


def can_be_read(backbone: keras_hub.models.Backbone) -> bool:
    """Returns whether the weights of a backbone can be read: GPT-2, Llama, Mistral, Qwen 2 and 3.

    By class and not by inheritance: a subclass may compute something else.
    """
    return type(backbone) in (keras_hub.models.GPT2Backbone, *_GATED)


def architecture(backbone: keras_hub.models.Backbone) -> Architecture:
    """Returns what a backbone computes; see `can_be_read`."""
    layers = _by_path(backbone)
    block = layers["transformer_layer_0"]
    if not isinstance(backbone, _GATED):
        heads = key_value_heads = backbone.num_heads
        window = None
    else:
        heads, key_value_heads = backbone.num_query_heads, backbone.num_key_value_heads
        window = _window(block)
    query = layers["transformer_layer_0/self_attention/query"]
    return Architecture(
        heads=heads,
        key_value_heads=key_value_heads,
        head_size=KernelLayout.of(query).outputs // heads,
        epsilon=block.layer_norm_epsilon,
        window=window,
        rotary=isinstance(backbone, _GATED),
        gated=isinstance(backbone, _GATED),
        dtype=backbone.compute_dtype,
    )


def read_weights(backbone: keras_hub.models.Backbone) -> dict:
    """Reads the weights of a backbone as they are now.

    Adapters and quantized kernels are merged: what is read is what the layers would multiply by.

    Args:
        backbone: A KerasHub backbone; see `can_be_read`.

    Returns:
        Tensors by name, nested. Matrices are `[outputs, inputs]` in the backbone's compute dtype,
        norms float32.
    """
    reader = WeightReader(backbone)
    gated = isinstance(backbone, _GATED)
    embedding = reader.tensor(backbone.token_embedding.embeddings)
    weights = {
        "embedding": embedding,
        "head": embedding,
        "blocks": [
            (_gated_block if gated else _gpt2_block)(reader, f"transformer_layer_{number}/")
            for number in range(backbone.num_layers)
        ],
        "norm": reader.norm("sequence_output_layernorm" if gated else "layer_norm"),
    }
    if not backbone.token_embedding.tie_weights:
        weights["head"] = tf.transpose(reader.tensor(backbone.token_embedding.reverse_embeddings))
    if gated:
        rotary = backbone.transformer_layers[0]._self_attention_layer.rotary_embedding_layer
        size = architecture(backbone).head_size
        weights["frequencies"] = tf.cast(rotary._get_inverse_freq(size), tf.float32)
    else:
        weights["positions"] = reader.tensor(backbone.position_embedding.position_embeddings)
    return weights


def _gpt2_block(reader: WeightReader, path: str) -> dict:
    attention = path + "self_attention/"
    return {
        "attention_norm": reader.norm(path + "self_attention_layer_norm"),
        "query_key_value": reader.dense(*(attention + n for n in ("query", "key", "value"))),
        "attention_output": reader.dense(attention + "attention_output"),
        "feedforward_norm": reader.norm(path + "feedforward_layer_norm"),
        "feedforward": reader.dense(path + "feedforward_intermediate_dense"),
        "feedforward_output": reader.dense(path + "feedforward_output_dense"),
    }


def _gated_block(reader: WeightReader, path: str) -> dict:
    attention, feedforward = path + "self_attention/", path + "feedforward_"
    block = {
        "attention_norm": reader.norm(path + "self_attention_layernorm"),
        "query_key_value": reader.dense(*(attention + n for n in ("query", "key", "value"))),
        "attention_output": reader.dense(attention + "attention_output"),
        "feedforward_norm": reader.norm(path + "feedforward_layernorm"),
        "feedforward": reader.dense(feedforward + "gate_dense", feedforward + "intermediate_dense"),
        "feedforward_output": reader.dense(feedforward + "output_dense"),
    }
    if reader.has(attention + "query_dense_layernorm"):
        block["query_norm"] = reader.norm(attention + "query_dense_layernorm")
        block["key_norm"] = reader.norm(attention + "key_dense_layernorm")
    return block


class WeightReader:
    """Reads the layers of a backbone, which are given, or named by their paths.

    Args:
        backbone: A KerasHub backbone.
    """

    def __init__(self, backbone: keras_hub.models.Backbone):
        self._layers = _by_path(backbone)
        self._dtype = backbone.compute_dtype

    def has(self, path: str) -> bool:
        """Whether there is a layer of this path."""
        return path in self._layers

    def layer(self, place: str | keras.Layer) -> keras.Layer:
        """Returns the layer of a path."""
        return self._layers[place] if isinstance(place, str) else place

    def tensor(self, variable: keras.Variable) -> tf.Tensor:
        """Returns a weight in the dtype that the backbone computes in."""
        # The variable itself would be read, and maybe copied, for every token.
        return tf.cast(tf.convert_to_tensor(variable.value), self._dtype)

    def dense(self, *places: str | keras.Layer) -> dict:
        """Returns `weight` and, where there is one, `bias`, of layers side by side."""
        layers = [self.layer(place) for place in places]
        read = {"weight": _joined([self._matrix(layer) for layer in layers])}
        if layers[0].bias is not None:
            biases = [tf.reshape(self.tensor(layer.bias), [-1]) for layer in layers]
            read["bias"] = _joined(biases)
        return read

    def norm(self, place: str | keras.Layer) -> dict:
        """Returns `scale` and, where there is one, `bias`."""
        layer = self.layer(place)
        if isinstance(layer, keras.layers.LayerNormalization):
            parts = {"scale": layer.gamma, "bias": layer.beta}
        else:
            # T5's norm has another name for it.
            parts = {"scale": layer.scale if hasattr(layer, "scale") else layer.weight}
        return {
            name: tf.cast(tf.convert_to_tensor(value.value), tf.float32)
            for name, value in parts.items()
        }

    def _matrix(self, layer: keras.Layer) -> tf.Tensor:
        if isinstance(layer, (FrozenDense, FrozenEinsumDense)):
            matrix = merged_matrix(layer)
        else:
            # Not `.value`: a layer with Keras' own adapter or quantization gives its sum.
            matrix = KernelLayout.of(layer).matrix(tf.convert_to_tensor(layer.kernel))
        return tf.transpose(tf.cast(matrix, self._dtype))


def _by_path(backbone: keras_hub.models.Backbone) -> dict[str, keras.Layer]:
    return {layer.path: layer for layer in walk(backbone.layers)}


def _window(block: keras.Layer) -> int | None:
    """Returns how far back a block looks: Mistral and Qwen name it differently."""
    if not getattr(block, "use_sliding_window_attention", True):
        return None
    window = getattr(block, "sliding_window", None) or getattr(block, "sliding_window_size", None)
    return window or None


def _joined(tensors: Sequence[tf.Tensor]) -> tf.Tensor:
    return tensors[0] if len(tensors) == 1 else tf.concat(tensors, 0)
