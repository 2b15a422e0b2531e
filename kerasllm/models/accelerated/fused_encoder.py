"""An encoder's forward pass for training on a CPU: products by oneDNN, all else fused by XLA.

The weights are those of the KerasHub classifier, and so are the numbers, to rounding; dropout draws
other elements. Where the head reads the first token, the last layer is computed for it alone: no
other token of it has a gradient. Where it reads the mean, or each token, the last layer is computed
for all.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

import keras
import keras_hub
import tensorflow as tf

from kerasllm.models.accelerated.fused_operations import dropout, fused, layer_norm, softmax
from kerasllm.models.accelerated.packed_encoder import can_pack, layers_after_pooling
from kerasllm.models.heads import PooledTextClassifier
from kerasllm.models.kernel_layout import KernelLayout
from kerasllm.models.layers import parts_of, walk
from kerasllm.models.token_head import TokenHead

_HIDDEN = -1e9
_OF_EMBEDDINGS = (
    keras.layers.InputLayer,
    keras.layers.Add,
    keras.layers.Embedding,
    keras.layers.LayerNormalization,
    keras.layers.Dropout,
    keras_hub.layers.PositionEmbedding,
    keras_hub.layers.TokenAndPositionEmbedding,
)


def can_fuse(task: keras_hub.models.TextClassifier) -> bool:
    """Returns whether `FusedEncoder` computes a classifier: BERT, RoBERTa and their like."""
    if not can_pack(task):
        return False
    layers = list(walk(parts_of(task).embeddings))
    return all(isinstance(layer, _OF_EMBEDDINGS) for layer in layers) and all(
        len(_of_type(layers, kind)) == 1
        for kind in (
            keras.layers.ReversibleEmbedding,
            keras_hub.layers.PositionEmbedding,
            keras.layers.LayerNormalization,
            keras.layers.Dropout,
        )
    )


class FusedEncoder:
    """Computes the logits of a classifier in training; see `can_fuse`.

    `tests/models/accelerated/test_fused_encoder.py` compares logits and gradients of every family with those of
    KerasHub's own forward pass, and so fails when KerasHub changes what this file relies on.

    Args:
        task: The classifier.
    """

    def __init__(self, task: keras_hub.models.TextClassifier):
        parts = parts_of(task)
        self._dtype = tf.as_dtype(task.backbone.compute_dtype)
        self._embed = _Embeddings(list(walk(parts.embeddings)), self._dtype)
        blocks = [block for block, *_ in parts.blocks]
        pools = isinstance(task, PooledTextClassifier)
        self._mean = _averaging(self._dtype) if pools else None
        reads_first = not pools and not isinstance(task, TokenHead)
        self._blocks = [
            _Block(block, self._dtype, first_only=block is blocks[-1] and reads_first)
            for block in blocks
        ]
        self._head = layers_after_pooling(task)
        self._given = None

    def matrices(self) -> list[tf.Tensor]:
        """Returns what trains of the layers' matrices, `[inputs, outputs]`, as they are computed."""
        return [matrix for block in self._blocks for matrix in block.matrices()]

    @contextmanager
    def given(self, matrices: Sequence[tf.Tensor]) -> Iterator[None]:
        """Lets the calls in the block reuse what `matrices` returned."""
        self._given = matrices
        try:
            yield
        finally:
            self._given = None

    def __call__(self, inputs: Mapping[str, tf.Tensor]) -> tf.Tensor:
        """Returns the logits, float32 `[rows, classes]` or `[rows, length, outputs]`, with dropout.

        Args:
            inputs: The inputs of the classifier, each int32 `[rows, length]`.
        """
        matrices = iter(self.matrices() if self._given is None else self._given)
        hidden = tf.where(inputs["padding_mask"] > 0, 0.0, _HIDDEN)[:, None, None]
        x = self._embed(inputs)
        for block in self._blocks:
            x = block(x, hidden, matrices)
        if self._mean is not None:
            x = self._mean(x, inputs["padding_mask"])
        for layer in self._head:
            x = layer(x, training=True)
        return tf.cast(x, tf.float32)


class _Embeddings:
    """Sums the embeddings of each token; then norm and dropout."""

    def __init__(self, layers: list[keras.Layer], dtype: tf.DType):
        (self._tokens,) = _of_type(layers, keras.layers.ReversibleEmbedding)
        (self._positions,) = _of_type(layers, keras_hub.layers.PositionEmbedding)
        self._segments = [
            layer for layer in _of_type(layers, keras.layers.Embedding) if layer is not self._tokens
        ]
        (self._norm,) = _of_type(layers, keras.layers.LayerNormalization)
        (self._dropout,) = _of_type(layers, keras.layers.Dropout)
        rate, epsilon = self._dropout.rate, self._norm.epsilon

        @fused
        def embed(gamma, beta, seed, positions, *summands):
            x = _float32(positions) + sum(map(_float32, summands))
            normed = layer_norm(x, _float32(gamma), _float32(beta), epsilon)
            return tf.cast(dropout(normed, rate, seed), dtype)

        self._compute = embed

    def __call__(self, inputs: Mapping[str, tf.Tensor]) -> tf.Tensor:
        length = tf.shape(inputs["token_ids"])[1]
        summands = [tf.gather(self._tokens.embeddings.value, inputs["token_ids"])]
        summands += [
            tf.gather(layer.embeddings.value, inputs["segment_ids"]) for layer in self._segments
        ]
        return self._compute(
            self._norm.gamma.value,
            self._norm.beta.value,
            _seed(self._dropout),
            self._positions.position_embeddings.value[:length],
            *summands,
        )


class _Block:
    """A transformer layer, with the norms after its two sublayers.

    Args:
        block: KerasHub's layer.
        dtype: What it computes in.
        first_only: Whether only the first token of each row is computed.
    """

    def __init__(self, block: keras.Layer, dtype: tf.DType, first_only: bool):
        self._dtype = dtype
        self._first_only = first_only
        layers = {layer.path: layer for layer in walk([block])}
        attention = f"{block.path}/self_attention_layer/"
        heads = [layers[attention + name] for name in ("query", "key", "value")]
        # One product for all of them, where it is of the same tokens.
        self._heads = [heads[1:], heads[:1]] if first_only else [heads]
        self._attention_output = layers[attention + "attention_output"]
        self._attention_norm = layers[f"{block.path}/self_attention_layer_norm"]
        self._inner = layers[f"{block.path}/feedforward_intermediate_dense"]
        self._outer = layers[f"{block.path}/feedforward_output_dense"]
        self._norm = layers[f"{block.path}/feedforward_layer_norm"]
        dropouts = {layer.name: layer for layer in _of_type(walk([block]), keras.layers.Dropout)}
        self._attention_dropout = dropouts.pop("self_attention_dropout")
        self._dropout = dropouts.pop("feedforward_dropout")
        (self._dropout_of_scores,) = dropouts.values()
        self._shape_of_heads = _shape_of_heads(heads[0])
        self._split = _splitting(len(self._heads[0]), *self._shape_of_heads, dtype)
        scale = 1 / math.sqrt(self._shape_of_heads[1])
        self._softmax = _softmax(scale, self._dropout_of_scores.rate, dtype)
        self._activate = _activation(self._inner.activation, dtype)
        self._add_norm = [
            _adding(layer.rate, norm.epsilon, dtype)
            for layer, norm in (
                (self._attention_dropout, self._attention_norm),
                (self._dropout, self._norm),
            )
        ]

    def matrices(self) -> list[tf.Tensor]:
        """Returns what trains of the matrices, in the order in which a call multiplies by them."""
        products = [*self._heads, [self._attention_output], [self._inner], [self._outer]]
        return [self._matrix(layers) for layers in products if _trains(layers)]

    def __call__(
        self, x: tf.Tensor, hidden: tf.Tensor, matrices: Iterator[tf.Tensor]
    ) -> tf.Tensor:
        """Returns the layer's outputs for all tokens, or `[rows, width]`, for the first of each.

        Args:
            x: `[rows, length, width]`.
            hidden: float32 `[rows, 1, 1, length]`, added to the scores.
            matrices: What `matrices` gives, of this block and those after it.
        """
        query, key, value = self._projections(x, matrices)
        scores = self._softmax(
            tf.matmul(query, key, transpose_b=True), hidden, _seed(self._dropout_of_scores)
        )
        mixed = tf.transpose(tf.matmul(scores, value), [0, 2, 1, 3])
        x = x[:, :1] if self._first_only else x
        mixed = self._product(mixed, [self._attention_output], matrices)
        x = self._add(0, mixed, x, self._attention_output, self._attention_dropout)
        inner = self._activate(self._product(x, [self._inner], matrices), _bias(self._inner))
        outer = self._product(inner, [self._outer], matrices)
        x = self._add(1, outer, x, self._outer, self._dropout)
        return x[:, 0] if self._first_only else x

    def _projections(self, x, matrices):
        """Returns query, key and value, each `[rows, heads, length, size]`."""
        together = self._heads[0]
        biases = tf.concat([_bias(layer) for layer in together], 0)
        split = self._split(self._product(x, together, matrices), biases, x)
        if not self._first_only:
            return split
        query = self._product(x[:, 0], self._heads[1], matrices)
        query += tf.cast(_bias(self._heads[1][0]), query.dtype)
        return tf.reshape(query, [-1, *self._shape_of_heads])[:, :, None], *split

    def _add(self, part, product, x, dense, dropped):
        norm = (self._attention_norm, self._norm)[part]
        return self._add_norm[part](
            tf.reshape(product, tf.shape(x)),
            _bias(dense),
            x,
            norm.gamma.value,
            norm.beta.value,
            _seed(dropped),
        )

    def _product(self, x, layers, matrices) -> tf.Tensor:
        """Returns `[tokens, outputs]` of one or more dense layers, without their biases."""
        matrix = next(matrices) if _trains(layers) else self._matrix(layers)
        return tf.matmul(tf.reshape(x, [-1, matrix.shape[0]]), matrix)

    def _matrix(self, layers) -> tf.Tensor:
        matrices = [
            tf.cast(KernelLayout.of(layer).matrix(tf.convert_to_tensor(layer.kernel)), self._dtype)
            for layer in layers
        ]
        return matrices[0] if len(matrices) == 1 else tf.concat(matrices, 1)


# All layers of a model share these programs: XLA compiles each once a shape.
@functools.cache
def _splitting(count: int, heads: int, size: int, dtype: tf.DType) -> Callable:
    """Returns what makes `count` tensors `[rows, heads, length, size]` of their product."""

    @fused
    def split(product, bias):
        biased = _float32(product) + tf.reshape(bias, [count, heads, size])
        return tf.unstack(tf.cast(tf.transpose(biased, [2, 0, 3, 1, 4]), dtype), count)

    def call(product, bias, x):
        rows, length = tf.unstack(tf.shape(x)[:2])
        return split(tf.reshape(product, [rows, length, count, heads, size]), bias)

    return call


@functools.cache
def _softmax(scale: float, rate: float, dtype: tf.DType) -> Callable:
    @fused
    def attend(scores, hidden, seed):
        shares = softmax(_float32(scores) * scale + hidden)
        return tf.cast(dropout(shares, rate, seed), dtype)

    return attend


@functools.cache
def _activation(function: Callable, dtype: tf.DType) -> Callable:
    return fused(lambda product, bias: tf.cast(function(_float32(product) + bias), dtype))


@functools.cache
def _adding(rate: float, epsilon: float, dtype: tf.DType) -> Callable:
    """Returns what adds a product with its bias to `x`, and normalises the sum."""

    @fused
    def add(product, bias, x, gamma, beta, seed):
        summed = dropout(_float32(product) + bias, rate, seed) + _float32(x)
        return tf.cast(layer_norm(summed, _float32(gamma), _float32(beta), epsilon), dtype)

    return add


@functools.cache
def _averaging(dtype: tf.DType) -> Callable:
    """Returns what averages the states of the real tokens, as `MeanPooling` does."""

    @fused
    def average(x, padding_mask):
        mask = _float32(padding_mask)[:, :, None]
        count = tf.maximum(tf.reduce_sum(mask, 1), 1.0)
        return tf.cast(tf.reduce_sum(_float32(x) * mask, 1) / count, dtype)

    return average


def _of_type(layers, kind: type) -> list[keras.Layer]:
    return [layer for layer in layers if isinstance(layer, kind)]


def _trains(layers: Sequence[keras.Layer]) -> bool:
    """Tells whether a kernel, or a low-rank update of it, trains."""
    return any(
        weight.trainable
        for layer in layers
        for weight in layer.weights
        if weight is not layer.bias
    )


def _seed(layer: keras.layers.Dropout) -> tf.Tensor:
    """Returns the seed of a dropout's draw, uint32 `[2]`."""
    if not layer.rate:
        return tf.zeros([2], tf.uint32)
    return tf.cast(layer.seed_generator.next(), tf.uint32)


def _shape_of_heads(layer: keras.layers.EinsumDense) -> tuple[int, int]:
    return tuple(layer.bias.shape)


def _bias(layer: keras.Layer) -> tf.Tensor:
    return _float32(tf.reshape(layer.bias.value, [-1]))


def _float32(x: tf.Tensor) -> tf.Tensor:
    return tf.cast(x, tf.float32)
