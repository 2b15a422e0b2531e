"""An encoder that is computed from the vectors of its tokens on, in rows of one length.

One transformer layer is traced once, with its weights as arguments, and then called for each layer
and for rows of any number and length: to explain a single text must not wait for a whole model to
be traced. Gradients are taken with respect to the vectors alone.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import keras
import keras_hub
import tensorflow as tf

from kerasllm.models.accelerated.packed_encoder import (
    can_pack,
    layers_after_pooling,
    reads_tokens,
)
from kerasllm.models.heads import PooledTextClassifier
from kerasllm.models.kernel_layout import KernelLayout
from kerasllm.models.layers import parts_of, walk

_TANH_GELU = "keras_hub>gelu_approximate"


def can_embed(task: keras.Model) -> bool:
    """Returns whether `EmbeddedEncoder` computes a model: a BERT or the like in float32."""
    is_task = isinstance(task, keras_hub.models.Task)
    return is_task and task.backbone.compute_dtype == "float32" and can_pack(task)


class EmbeddedEncoder:
    """Computes the outputs of a classifier or a tagger of the vectors of its tokens.

    `tests/models/accelerated/test_embedded_encoder.py` compares outputs and gradients of every
    family with those of KerasHub's own forward pass. The weights are read when it is made.

    Args:
        task: A classifier or a tagger, see `can_embed`.
        vectors: The layer that makes the vectors.
    """

    def __init__(self, task: keras_hub.models.Task, vectors: keras.Layer):
        parts = parts_of(task)
        backbone = task.backbone
        blocks = [block for block, *_ in parts.blocks]
        layers = {layer.path: layer for layer in walk(blocks)}
        first = keras.tree.flatten(blocks[0].input)[0]
        # As a list: Keras wants the keys of a dictionary to be the names of tensors.
        self._embed = keras.Model([*backbone.input.values(), vectors.output], first)
        self._names = tuple(backbone.input)
        self._weights = [_weights_of(layers, block.path + "/") for block in blocks]
        path = blocks[0].path
        self._block = _Block(
            tuple(layers[f"{path}/self_attention_layer/query"].bias.shape),
            _activation(layers[f"{path}/feedforward_intermediate_dense"].activation),
            layers[f"{path}/feedforward_layer_norm"].epsilon,
        ).traced(self._weights[0])
        self._pools = isinstance(task, PooledTextClassifier)
        self._each = reads_tokens(task)
        self._head = [each for each in layers_after_pooling(task) if each.weights]

    def __call__(self, vectors: tf.Tensor, inputs: Mapping[str, Any]) -> tf.Tensor:
        """Returns the outputs, float32 `[rows, classes]` or `[rows, tokens, outputs]`.

        Args:
            vectors: float32 `[rows, tokens, width]`.
            inputs: The inputs of the classifier for as many rows, none of which is padded. Its
                token ids are not embedded.
        """
        x = self._embed([*(inputs[name] for name in self._names), vectors], training=False)
        for weights in self._weights:
            x = self._block(x, weights)
        if self._pools:
            x = tf.reduce_mean(x, axis=1)
        elif not self._each:
            x = x[:, 0]
        for layer in self._head:
            x = layer(x)
        return x


class _Block:
    """A transformer layer, with the norms after its two sublayers."""

    def __init__(self, heads: tuple[int, int], activation: Callable, epsilon: float):
        self._heads, self._activation, self._epsilon = heads, activation, epsilon

    def traced(self, weights: dict[str, tf.Tensor]) -> Callable:
        """Returns it as one function for rows of any number and length."""
        width = weights["outer_bias"].shape[0]
        specs = {name: tf.TensorSpec(each.shape, each.dtype) for name, each in weights.items()}
        signature = [tf.TensorSpec([None, None, width], tf.float32), specs]
        return tf.function(self._compute, input_signature=signature, autograph=False)

    def _compute(self, x: tf.Tensor, weights: dict[str, tf.Tensor]) -> tf.Tensor:
        rows, length, width = tf.shape(x)[0], tf.shape(x)[1], x.shape[-1]

        def dense(x, name):
            return _dense(x, weights[name], weights[f"{name}_bias"])

        def norm(x, name):
            return _norm(x, weights[f"{name}_gamma"], weights[f"{name}_beta"], self._epsilon)

        x = tf.reshape(x, [-1, width])
        heads = tf.reshape(dense(x, "heads"), [rows, length, 3, *self._heads])
        query, key, value = tf.unstack(tf.transpose(heads, [2, 0, 3, 1, 4]))
        query *= 1 / math.sqrt(self._heads[1])
        mixed = tf.matmul(tf.nn.softmax(tf.matmul(query, key, transpose_b=True)), value)
        mixed = tf.reshape(tf.transpose(mixed, [0, 2, 1, 3]), [-1, math.prod(self._heads)])
        x = norm(x + dense(mixed, "attention"), "attention_norm")
        x = norm(x + dense(self._activation(dense(x, "inner")), "outer"), "norm")
        return tf.reshape(x, [rows, length, width])


# Gradients of weights are not computed, nor traced, by these.


def _dense(x: tf.Tensor, matrix: tf.Tensor, bias: tf.Tensor) -> tf.Tensor:
    @tf.custom_gradient
    def of(x):
        product = tf.nn.bias_add(tf.matmul(x, matrix), bias)
        return product, lambda upstream: tf.matmul(upstream, matrix, transpose_b=True)

    return of(x)


def _norm(x: tf.Tensor, gamma: tf.Tensor, beta: tf.Tensor, epsilon: float) -> tf.Tensor:
    def mean(x):
        return tf.reduce_mean(x, axis=-1, keepdims=True)

    @tf.custom_gradient
    def of(x):
        centred = x - mean(x)
        scale = tf.math.rsqrt(mean(tf.square(centred)) + epsilon)
        normal = centred * scale

        def gradient(upstream):
            upstream *= gamma
            return scale * (upstream - mean(upstream) - normal * mean(upstream * normal))

        return normal * gamma + beta, gradient

    return of(x)


def _activation(function: Callable) -> Callable:
    """Returns an activation; GELU in its tanh form with a gradient that takes no powers."""
    by_tanh = keras.saving.get_registered_name(function) == _TANH_GELU
    return _tanh_gelu if by_tanh else function


@tf.custom_gradient
def _tanh_gelu(x: tf.Tensor) -> tuple[tf.Tensor, Callable]:
    scale, cubic = math.sqrt(2 / math.pi), 0.044715
    share = tf.tanh(scale * x * (1 + cubic * x * x))

    def gradient(upstream: tf.Tensor) -> tf.Tensor:
        slope = scale * (1 + 3 * cubic * x * x)
        return upstream * 0.5 * (1 + share + x * (1 - share * share) * slope)

    return 0.5 * x * (1 + share), gradient


def _weights_of(layers: dict[str, keras.Layer], path: str) -> dict[str, tf.Tensor]:
    """Returns the weights of a transformer layer, those of its products as matrices."""
    attention = path + "self_attention_layer/"
    heads = [_matrix_and_bias(layers[attention + name]) for name in ("query", "key", "value")]
    found = {
        "heads": tf.concat([matrix for matrix, _ in heads], 1),
        "heads_bias": tf.concat([bias for _, bias in heads], 0),
    }
    dense = {
        "attention": attention + "attention_output",
        "inner": path + "feedforward_intermediate_dense",
        "outer": path + "feedforward_output_dense",
    }
    for name, place in dense.items():
        found[name], found[f"{name}_bias"] = _matrix_and_bias(layers[place])
    norms = {
        "attention_norm": path + "self_attention_layer_norm",
        "norm": path + "feedforward_layer_norm",
    }
    for name, place in norms.items():
        found[f"{name}_gamma"] = tf.convert_to_tensor(layers[place].gamma)
        found[f"{name}_beta"] = tf.convert_to_tensor(layers[place].beta)
    return found


def _matrix_and_bias(layer: keras.Layer) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns the matrix and the bias of a layer."""
    matrix = KernelLayout.of(layer).matrix(tf.convert_to_tensor(layer.kernel))
    return matrix, tf.reshape(tf.convert_to_tensor(layer.bias), [-1])
