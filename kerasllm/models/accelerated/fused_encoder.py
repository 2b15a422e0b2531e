"""An encoder's forward pass for training on a CPU: products by oneDNN, all else fused by XLA.

The weights are those of the KerasHub classifier, and so are the numbers, to rounding; dropout draws
other elements. Where the head reads the first token, the last layer is computed for it alone: no
other token of it has a gradient. Where it reads the mean, or each token, the last layer is computed
for all.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial

import keras
import keras_hub
import tensorflow as tf

from kerasllm.models.accelerated.encoder_sublayers import Activate, Add, Attention, Drop, Norm
from kerasllm.models.accelerated.packed_encoder import can_pack, layers_after_pooling, reads_tokens
from kerasllm.models.accelerated.program import Program
from kerasllm.models.heads import PooledTextClassifier
from kerasllm.models.kernel_layout import KernelLayout
from kerasllm.models.layers import parts_of, walk

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

    `tests/models/accelerated/test_fused_encoder.py` compares logits and gradients of every family
    with those of KerasHub's own forward pass, and so fails when KerasHub changes what this file
    relies on.

    Args:
        task: The classifier.
    """

    def __init__(self, task: keras_hub.models.TextClassifier):
        parts = parts_of(task)
        self._dtype = tf.as_dtype(task.backbone.compute_dtype)
        self._embed = _Embeddings(list(walk(parts.embeddings)), self._dtype)
        blocks = [block for block, *_ in parts.blocks]
        self._pools = isinstance(task, PooledTextClassifier)
        self._reads_first = not self._pools and not reads_tokens(task)
        self._blocks = [
            _Block(block, self._dtype, first_only=block is blocks[-1] and self._reads_first)
            for block in blocks
        ]
        self._head = layers_after_pooling(task)
        self._given = None

    def matrices(self) -> list[tf.Tensor]:
        """Returns the layers' trained matrices, `[inputs, outputs]`, as they are computed."""
        return [matrix for block in self._blocks for matrix in block.matrices()]

    def compilations(self, rows: int, length: int) -> list[Callable[[], None]]:
        """Returns what each compiles one of XLA's programs for a shape, in the order of their use.

        Several threads may call them. What is compiled already takes no time.

        Args:
            rows: Rows of what this is called with.
            length: Their length.
        """
        return [partial(each.compile, **sizes) for each, sizes in self._programs(rows, length)]

    def is_compiled(self, rows: int, length: int) -> bool:
        """Tells whether all of XLA's programs for a shape are on the disk."""
        return all(each.is_kept(**sizes) for each, sizes in self._programs(rows, length))

    def _programs(self, rows: int, length: int) -> list[tuple[Program, dict[str, int]]]:
        sublayers = [each for part in (self._embed, *self._blocks) for each in part.sublayers]
        programs = dict.fromkeys(each for sublayer in sublayers for each in sublayer.programs)
        # The last layer may be computed for the first token alone.
        lengths = [length, 1] if self._reads_first else [length]
        return [
            (program, {"rows": rows, "length": each, "tokens": rows * each})
            for each in lengths
            for program in programs
        ]

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
        if self._pools:
            x = _mean_of_tokens(x, inputs["padding_mask"])
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
        self._dtype = dtype
        width = self._norm.gamma.shape[0]
        self._normalise = Norm(width, self._norm.epsilon, dtype)
        self._drop = Drop(width, self._dropout.rate, dtype)
        self.sublayers = [self._normalise, self._drop]

    def __call__(self, inputs: Mapping[str, tf.Tensor]) -> tf.Tensor:
        length = tf.shape(inputs["token_ids"])[1]
        x = tf.gather(self._tokens.embeddings.value, inputs["token_ids"])
        for layer in self._segments:
            x += tf.gather(layer.embeddings.value, inputs["segment_ids"])
        x += self._positions.position_embeddings.value[:length]
        x = tf.cast(x, self._dtype)
        x = self._normalise(x, *_gamma_and_beta(self._norm))
        return self._drop(x, _seed(self._dropout))


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
        self._shape_of_heads = tuple(heads[0].bias.shape)
        width = self._norm.gamma.shape[0]
        # For a single query of each row XLA's programs do not pay.
        self._attend = Attention(
            *self._shape_of_heads, self._dropout_of_scores.rate, dtype, compiled=not first_only
        )
        self._add_product = [
            Add(width, layer.rate, dtype) for layer in (self._attention_dropout, self._dropout)
        ]
        self._normalise = [
            Norm(width, norm.epsilon, dtype) for norm in (self._attention_norm, self._norm)
        ]
        self._activate = Activate(self._inner.bias.shape[0], self._inner.activation, dtype)
        self.sublayers = [self._attend, *self._add_product, *self._normalise, self._activate]

    def matrices(self) -> list[tf.Tensor]:
        """Returns what trains of the matrices, in the order in which a call multiplies by them."""
        products = [*self._heads, [self._attention_output], [self._inner], [self._outer]]
        return [self._matrix(layers) for layers in products if _trains(layers)]

    def __call__(self, x: tf.Tensor, hidden: tf.Tensor, matrices: Iterator[tf.Tensor]) -> tf.Tensor:
        """Returns the layer's outputs for all tokens, or `[rows, width]`, for the first of each.

        Args:
            x: `[rows, length, width]`.
            hidden: float32 `[rows, 1, 1, length]`, added to the scores.
            matrices: What `matrices` gives, of this block and those after it.
        """
        heads = self._projections(x, matrices)
        mixed = self._attend(*heads, hidden, _seed(self._dropout_of_scores))
        mixed = tf.transpose(mixed, [0, 2, 1, 3])
        x = x[:, :1] if self._first_only else x
        mixed = self._product(mixed, [self._attention_output], matrices)
        x = self._add(0, mixed, x, self._attention_output, self._attention_dropout)
        inner = self._activate(self._product(x, [self._inner], matrices), _bias(self._inner))
        outer = self._product(inner, [self._outer], matrices)
        x = self._add(1, outer, x, self._outer, self._dropout)
        return x[:, 0] if self._first_only else x

    def _projections(self, x, matrices):
        """Returns query, key and value, each `[rows, heads, length, size]`."""
        rows, length = tf.unstack(tf.shape(x)[:2])

        def split(layers, x, length):
            product = self._product(x, layers, matrices)
            bias = tf.concat([_bias(layer) for layer in layers], 0)
            product = tf.nn.bias_add(product, tf.cast(bias, product.dtype))
            product = tf.reshape(product, [rows, length, len(layers), *self._shape_of_heads])
            return tf.unstack(tf.transpose(product, [2, 0, 3, 1, 4]), len(layers))

        split_heads = split(self._heads[0], x, length)
        if not self._first_only:
            return split_heads
        return *split(self._heads[1], x[:, 0], 1), *split_heads

    def _add(self, part, product, x, dense, dropped):
        norm = (self._attention_norm, self._norm)[part]
        product = tf.reshape(product, tf.shape(x))
        x = self._add_product[part](product, _bias(dense), x, _seed(dropped))
        return self._normalise[part](x, *_gamma_and_beta(norm))

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


def _mean_of_tokens(x: tf.Tensor, padding_mask: tf.Tensor) -> tf.Tensor:
    """Returns the mean of the states of the real tokens, as `MeanPooling` does."""
    mask = _float32(padding_mask)[:, :, None]
    count = tf.maximum(tf.reduce_sum(mask, 1), 1.0)
    return tf.cast(tf.reduce_sum(_float32(x) * mask, 1) / count, x.dtype)


def _of_type(layers, kind: type) -> list[keras.Layer]:
    return [layer for layer in layers if isinstance(layer, kind)]


def _trains(layers: Sequence[keras.Layer]) -> bool:
    """Tells whether a kernel, or a low-rank update of it, trains."""
    return any(
        weight.trainable for layer in layers for weight in layer.weights if weight is not layer.bias
    )


def _seed(layer: keras.layers.Dropout) -> tf.Tensor:
    """Returns the seed of a dropout's draw, uint32 `[2]`."""
    if not layer.rate:
        return tf.zeros([2], tf.uint32)
    return tf.cast(layer.seed_generator.next(), tf.uint32)


def _gamma_and_beta(norm: keras.layers.LayerNormalization) -> tuple[tf.Tensor, tf.Tensor]:
    return _float32(norm.gamma.value), _float32(norm.beta.value)


def _bias(layer: keras.Layer) -> tf.Tensor:
    return _float32(tf.reshape(layer.bias.value, [-1]))


def _float32(x: tf.Tensor) -> tf.Tensor:
    return tf.cast(x, tf.float32)
