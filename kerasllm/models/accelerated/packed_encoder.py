"""A padding-free encoder: it computes the tokens of a batch concatenated, without padding.

Half of a batch of sentences is padding. Only attention looks at other tokens and needs rows; all
else is computed for the real tokens only.
"""

from __future__ import annotations

import math

import keras
import keras_hub
import tensorflow as tf

from kerasllm.models.adapters.low_rank import is_frozen
from kerasllm.models.heads import MeanPooling, PooledTextClassifier
from kerasllm.models.kernel_layout import KernelLayout
from kerasllm.models.layers import parts_of, walk
from kerasllm.models.token_head import TOKENS

_HIDDEN = -1e9
# By class and not by inheritance: a subclass may compute something else.
_FAMILIES = (
    keras_hub.models.BertBackbone,
    keras_hub.models.DistilBertBackbone,
    keras_hub.models.ElectraBackbone,
    keras_hub.models.RobertaBackbone,
    keras_hub.models.XLMRobertaBackbone,
)

# What may follow the state of the first token, the mean of all, or the states of each.
_OF_HEADS = (keras.layers.Dense, keras.layers.Dropout)


def can_pack(task: keras_hub.models.TextClassifier) -> bool:
    """Returns whether `PackedEncoder` computes a classifier: BERT, RoBERTa and their like.

    Not one with adapters or with weights of 8 or 4 bits, whose layers compute in ways of their own.
    """
    if type(task.backbone) not in _FAMILIES:
        return False
    parts = parts_of(task)
    return (
        not any(is_frozen(layer) or layer.quantization_mode for layer in walk([task]))
        and not any(block.normalize_first for block, *_ in parts.blocks)
        and all(isinstance(each, _OF_HEADS) for each in layers_after_pooling(task))
    )


def layers_after_pooling(task: keras_hub.models.TextClassifier) -> list[keras.Layer]:
    """Returns the layers that make logits of the first token's state, the mean of all, or each."""
    parts = parts_of(task)
    if isinstance(task, PooledTextClassifier) or reads_tokens(task):
        return [layer for layer in parts.head if not isinstance(layer, MeanPooling)]
    return [*parts.pooler, *parts.head]


def reads_tokens(task: keras.Model) -> bool:
    """Returns whether a task has outputs for every token."""
    return getattr(task, "pooling", None) == TOKENS


class PackedEncoder:
    """Computes the logits of a classifier, from its first token, the mean or each; see `can_pack`.

    `tests/models/accelerated/test_packed_encoder.py` compares every family with KerasHub's own
    forward pass, and so fails when KerasHub changes what this file relies on.

    Args:
        task: The classifier.
    """

    def __init__(self, task: keras_hub.models.TextClassifier):
        parts = parts_of(task)
        blocks = [block for block, *_ in parts.blocks]
        layers = {layer.path: layer for layer in walk(blocks)}
        self._embed = keras.Model(task.backbone.input, _first(blocks[0].input))
        self._blocks = [_Block(layers, block.path + "/") for block in blocks]
        self._pools = isinstance(task, PooledTextClassifier)
        self._each = reads_tokens(task)
        self._head = [each for each in layers_after_pooling(task) if each.weights]

    def __call__(
        self,
        inputs: dict[str, tf.Tensor],
        lengths: tf.Tensor,
        most_tokens: tf.Tensor | None = None,
    ) -> tf.Tensor:
        """Returns the logits, float32 `[rows, classes]`; of a head on every token those of all
        real tokens, `[tokens, outputs]`, one row after the other.

        Args:
            inputs: The inputs of the classifier, each `[rows, length]`, padded at their ends.
            lengths: How many tokens each row has, int32 `[rows]`, at least 1.
            most_tokens: How many tokens are computed, int32, at least the sum of `lengths`: the
                first one again and again, so that there are few shapes. Defaults to `None`: those
                of the rows alone.
        """
        rows, length = tf.unstack(tf.shape(inputs["token_ids"]))
        mask = tf.sequence_mask(lengths, length)
        there = tf.cast(tf.where(tf.reshape(mask, [-1]))[:, 0], tf.int32)
        count = tf.size(there)
        # Padding takes its numbers from the first token, and counts for nothing.
        number = tf.scatter_nd(there[:, None], tf.range(count), [rows * length])
        row_of_token = there // length
        if most_tokens is not None:
            there = tf.pad(there, [[0, most_tokens - count]])
        hidden = tf.where(mask, 0.0, _HIDDEN)[:, None, None]

        def in_rows(heads):
            heads = tf.reshape(tf.gather(heads, number), [rows, length, *heads.shape[1:]])
            return tf.transpose(heads, [0, 2, 1, 3])

        def attend(query, key, value):
            scores = tf.matmul(in_rows(query), in_rows(key), transpose_b=True)
            scores = tf.cast(scores, tf.float32) / math.sqrt(query.shape[-1]) + hidden
            mixed = tf.matmul(tf.cast(tf.nn.softmax(scores), value.dtype), in_rows(value))
            mixed = tf.reshape(tf.transpose(mixed, [0, 2, 1, 3]), [-1, *query.shape[1:]])
            return tf.gather(mixed, there)

        x = self._embed(inputs, training=False)
        x = tf.gather(tf.reshape(x, [rows * length, x.shape[-1]]), there)
        for block in self._blocks:
            x = block(x, attend)
        if self._pools:
            # Summed in float32, as `MeanPooling` does.
            mean = tf.math.segment_mean(tf.cast(x[:count], tf.float32), row_of_token)
            x = tf.cast(mean, x.dtype)
        elif self._each:
            x = x[:count]
        else:
            x = tf.gather(x, tf.cumsum(lengths, exclusive=True))
        for layer in self._head:
            x = layer(x)
        return tf.cast(x, tf.float32)


class _Block:
    """A transformer layer, with the norms after its two sublayers."""

    def __init__(self, layers: dict[str, keras.Layer], path: str):
        attention = path + "self_attention_layer/"
        self._heads = [layers[attention + name] for name in ("query", "key", "value")]
        self._attention_output = layers[attention + "attention_output"]
        self._attention_norm = layers[path + "self_attention_layer_norm"]
        self._inner = layers[path + "feedforward_intermediate_dense"]
        self._outer = layers[path + "feedforward_output_dense"]
        self._norm = layers[path + "feedforward_layer_norm"]

    def __call__(self, x, attend):
        heads = self._heads[0].bias.shape
        mixed = attend(*(tf.reshape(_dense(layer, x), [-1, *heads]) for layer in self._heads))
        mixed = tf.reshape(mixed, [-1, math.prod(heads)])
        x = self._attention_norm(x + _dense(self._attention_output, mixed))
        return self._norm(x + self._outer(self._inner(x)))


def _dense(layer: keras.layers.EinsumDense, x: tf.Tensor) -> tf.Tensor:
    """Computes a layer on `[tokens, inputs]`, as one product of matrices."""
    matrix = KernelLayout.of(layer).matrix(tf.convert_to_tensor(layer.kernel))
    bias = tf.reshape(layer.bias, [-1])
    # In mixed precision weights are kept in another type than is computed in.
    return tf.nn.bias_add(tf.matmul(x, tf.cast(matrix, x.dtype)), tf.cast(bias, x.dtype))


def _first(tensors):
    return tensors[0] if isinstance(tensors, (list, tuple)) else tensors
