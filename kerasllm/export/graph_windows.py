"""Long texts in windows, inside a TensorFlow graph: outputs of each token of whole texts.

The arithmetic is that of `kerasllm.data.windows`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import tensorflow as tf


class GraphTexts(NamedTuple):
    """Texts in a graph, and what a model computes of their tokens.

    Attributes:
        texts: string `[texts]`, valid UTF-8.
        starts: int32 `[texts, (tokens)]`, the character that each token begins with; no special
            tokens are among them.
        ends: int32 `[texts, (tokens)]`, the character after its last one.
        logits: float32 `[texts, (tokens), outputs]`.
    """

    texts: tf.Tensor
    starts: tf.RaggedTensor
    ends: tf.RaggedTensor
    logits: tf.RaggedTensor


def compute_in_windows(
    ids: tf.RaggedTensor,
    room: int,
    stride: int,
    compute: Callable[[tf.RaggedTensor], tf.RaggedTensor],
) -> tf.RaggedTensor:
    """Computes outputs of all tokens of sequences; of long ones in windows.

    Args:
        ids: int32 `[sequences, (tokens)]`, without special tokens.
        room: The most tokens of a window, special tokens left out.
        stride: How many tokens a window moves on.
        compute: Takes windows, int32 `[windows, (tokens)]`, and returns float32 `[windows,
            (tokens), outputs]`.

    Returns:
        float32 `[sequences, (tokens), outputs]`: those of each token from the window that owns it.
    """
    lengths = tf.cast(ids.row_lengths(), tf.int64)
    counts = 1 + tf.maximum(-(-(lengths - room) // stride), 0)
    rows = tf.repeat(tf.range(tf.size(lengths, tf.int64)), counts)
    firsts = tf.cumsum(counts, exclusive=True)
    number = tf.range(tf.size(rows, tf.int64)) - tf.gather(firsts, rows)
    own_length = tf.gather(lengths, rows)
    starts = tf.minimum(number * stride, tf.maximum(own_length - room, 0))
    ends = tf.minimum(starts + room, own_length)
    own_starts = tf.where(number > 0, (starts + tf.roll(ends, 1, 0) + 1) // 2, starts)
    last = number + 1 == tf.gather(counts, rows)
    own_ends = tf.where(last, ends, tf.roll(own_starts, -1, 0))

    begin = tf.gather(ids.row_starts(), rows)
    windows = tf.RaggedTensor.from_row_lengths(
        tf.gather(ids.values, tf.ragged.range(begin + starts, begin + ends).values), ends - starts
    )
    outputs = compute(windows)
    # Windows are in order, and so are the tokens that they own.
    at = tf.cast(outputs.row_starts(), tf.int64) - starts
    owned = tf.ragged.range(at + own_starts, at + own_ends).values
    return tf.RaggedTensor.from_row_lengths(tf.gather(outputs.values, owned), lengths)
