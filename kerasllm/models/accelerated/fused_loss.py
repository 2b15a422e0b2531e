"""The loss of a language model in chunks, each piece's softmax and gradient one XLA program."""

from __future__ import annotations

import functools
from collections.abc import Callable

import keras
import tensorflow as tf

from kerasllm.models.accelerated.fused_operations import compiled, halved
from kerasllm.training.chunked_loss import in_pieces
from kerasllm.training.losses import SmoothedSparseCategoricalCrossentropy

# Halves of a row of logits, and of these: more make programs long.
_TIMES = 3


def fused_loss(
    hidden: tf.Tensor,
    y: tf.Tensor,
    share: tf.Tensor,
    matrix: tf.Tensor,
    *,
    tied: bool,
    trains: bool,
    loss: keras.losses.Loss,
    tokens: int,
) -> tuple[tf.Tensor, tf.Tensor]:
    """Computes what `kerasllm.training.chunked_loss` does, where the head is a matrix.

    Args:
        hidden: float `[rows, length, width]`.
        y: int32 `[rows, length]`.
        share: float32 `[rows, length]`.
        matrix: `[vocabulary, width]` where `tied`, else `[width, vocabulary]`.
        tied: Whether the matrix is that of the embeddings.
        trains: Whether it has a gradient.
        loss: A Keras loss on logits whose reduction is `"sum"`.
        tokens: Tokens per chunk.
    """
    of_logits = _of_logits(loss)
    width = hidden.shape[-1]

    def of_piece(matrix, hidden, y, share):
        logits = tf.matmul(hidden, matrix, transpose_b=tied)
        piece, correct, of_those = of_logits(logits, y, share)
        of_hidden = tf.matmul(of_those, matrix, transpose_b=not tied)
        of_matrix = []
        if trains:
            pair = (of_those, hidden) if tied else (hidden, of_those)
            of_matrix = [tf.cast(tf.matmul(*pair, transpose_a=True), tf.float32)]
        return piece, correct, of_hidden, of_matrix

    @tf.custom_gradient
    def computed(flat, matrix):
        piece = functools.partial(of_piece, tf.stop_gradient(matrix))
        total, correct, of_hidden, of_matrix = in_pieces(
            piece, tf.stop_gradient(flat), y, share, tokens
        )

        def gradient(upstream, _):
            found = [tf.cast(upstream * each, matrix.dtype) for each in of_matrix]
            return tf.cast(upstream, flat.dtype) * of_hidden, *(found or [None])

        return (total, correct), gradient

    y, share = tf.reshape(y, [-1]), tf.reshape(share, [-1])
    total, correct = computed(tf.reshape(hidden, [-1, width]), matrix)
    return total, tf.stop_gradient(tf.reshape(correct, tf.shape(hidden)[:2]))


def _of_logits(loss: keras.losses.Loss) -> Callable:
    """Returns what gives of logits the loss, hits, and the gradient of the logits."""
    smoothing = _smoothing_of(loss)

    def compute(logits, y, share):
        values = tf.cast(logits, tf.float32)
        classes = tf.range(logits.shape[-1])
        highest = tf.reduce_max(halved(values, tf.maximum, _TIMES), -1, keepdims=True)
        # The first of the highest, as argmax gives it, which XLA computes one by one.
        places = tf.where(values == highest, classes, logits.shape[-1])
        first = tf.reduce_min(halved(places, tf.minimum, _TIMES), -1)
        if smoothing is None:
            with tf.GradientTape() as tape:
                tape.watch(values)
                total = loss(y, values, sample_weight=share)
            gradient = tape.gradient(total, values)
        else:
            total, gradient = _crossentropy(values, highest, y, share, smoothing)
        hits = tf.cast(tf.equal(first, y), tf.float32)
        return total, hits, tf.cast(gradient, logits.dtype)

    return compiled(compute, "loss")


def _crossentropy(values, highest, y, share, smoothing: float) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns the sum of the cross-entropies, counted by their shares, and the gradient."""
    count = values.shape[-1]
    weights = tf.exp(values - highest)
    total = tf.reduce_sum(halved(weights, tf.add, _TIMES - 1), -1, keepdims=True)
    own = tf.gather(values, y, batch_dims=1)
    each = (tf.math.log(total) + highest)[:, 0] - (1.0 - smoothing) * own
    if smoothing:
        each -= smoothing * tf.reduce_sum(halved(values, tf.add, _TIMES), -1) / count
    targets = tf.cast(tf.equal(tf.range(count), y[:, tf.newaxis]), tf.float32)
    targets = (1.0 - smoothing) * targets + smoothing / count
    return tf.reduce_sum(share * each), share[:, tf.newaxis] * (weights / total - targets)


def _smoothing_of(loss: keras.losses.Loss) -> float | None:
    """Returns the label smoothing of a cross-entropy; `None` of another loss."""
    if type(loss) is SmoothedSparseCategoricalCrossentropy:
        return loss.label_smoothing
    if type(loss) is not keras.losses.SparseCategoricalCrossentropy:
        return None
    config = loss.get_config()
    on_last_axis = config.get("axis", -1) == -1
    return (
        0.0 if config["from_logits"] and config["ignore_class"] is None and on_last_axis else None
    )
