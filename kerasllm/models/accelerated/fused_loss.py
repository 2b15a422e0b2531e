"""The loss of a language model in pieces, each piece's softmax and gradient one XLA program."""

from __future__ import annotations

import functools
from collections.abc import Callable

import keras
import tensorflow as tf

from kerasllm.models.accelerated.fused_operations import compiled
from kerasllm.training.chunked_loss import in_pieces


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
        tokens: How many tokens a piece has.
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

    def compute(logits, y, share):
        values = tf.cast(logits, tf.float32)
        with tf.GradientTape() as tape:
            tape.watch(values)
            total = loss(y, values, sample_weight=share)
        gradient = tf.cast(tape.gradient(total, values), logits.dtype)
        # The first of the highest, as argmax gives it, which XLA computes one by one.
        highest = tf.reduce_max(logits, -1, keepdims=True)
        count = logits.shape[-1]
        first = tf.reduce_min(tf.where(logits == highest, tf.range(count), count), -1)
        return total, tf.cast(tf.equal(first, y), tf.float32), gradient

    return compiled(compute, "loss")
