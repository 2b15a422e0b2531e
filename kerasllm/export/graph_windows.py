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
        room: The maximum number of tokens of a window, special tokens left out.
        stride: How many tokens a window moves on.
        compute: Takes windows, int32 `[windows, (tokens)]`, and returns float32 `[windows,
            (tokens), outputs]`.

    Returns:
        float32 `[sequences, (tokens), outputs]`: those of each token from the window that owns it.
    """
    found = cut_in_graph(ids, room, stride)
    outputs = compute(found.ids)
    # Windows are in order, and so are the tokens that they own.
    at = tf.cast(outputs.row_starts(), tf.int64) - found.starts
    owned = tf.ragged.range(at + found.own_starts, at + found.own_ends).values
    lengths = tf.cast(ids.row_lengths(), tf.int64)
    return tf.RaggedTensor.from_row_lengths(tf.gather(outputs.values, owned), lengths)


class GraphWindows(NamedTuple):
    """Windows over sequences; see `kerasllm.data.windows.Windows`.

    Attributes:
        ids: int32 `[windows, (tokens)]`.
        rows: int64 `[windows]`, the sequence of each.
        starts: int64 `[windows]`, its first token.
        own_starts: int64 `[windows]`, the first token that it owns.
        own_ends: int64 `[windows]`, the token after the last one that it owns.
    """

    ids: tf.RaggedTensor
    rows: tf.Tensor
    starts: tf.Tensor
    own_starts: tf.Tensor
    own_ends: tf.Tensor


def cut_in_graph(
    ids: tf.RaggedTensor, room: int | tf.Tensor, stride: int | tf.Tensor
) -> GraphWindows:
    """Cuts sequences into windows.

    Args:
        ids: int32 `[sequences, (tokens)]`, without special tokens.
        room: The maximum number of tokens of a window: of all sequences, or int64 `[sequences]`.
        stride: How many tokens a window moves on. As `room`.
    """
    lengths = tf.cast(ids.row_lengths(), tf.int64)
    room, stride = (tf.cast(each, tf.int64) + tf.zeros_like(lengths) for each in (room, stride))
    counts = 1 + tf.maximum(-(-(lengths - room) // stride), 0)
    rows = tf.repeat(tf.range(tf.size(lengths, tf.int64)), counts)
    firsts = tf.cumsum(counts, exclusive=True)
    number = tf.range(tf.size(rows, tf.int64)) - tf.gather(firsts, rows)
    room, stride = tf.gather(room, rows), tf.gather(stride, rows)
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
    return GraphWindows(windows, rows, starts, own_starts, own_ends)


class GraphPairs(NamedTuple):
    """Pairs of texts in a graph, in windows over the second one, and what a model computes of them.

    Attributes:
        first: string `[pairs]`, valid UTF-8.
        second: string `[pairs]`, valid UTF-8.
        starts: int32 `[pairs, (tokens)]`, the character that each token of the second text begins
            with.
        ends: int32 `[pairs, (tokens)]`, the character after its last one.
        windows: The windows over the second texts.
        of_first: float32 `[windows, outputs]`, of the first token of each window, a special one.
        of_second: float32 `[windows, (tokens), outputs]`, of the tokens of the second text.
    """

    first: tf.Tensor
    second: tf.Tensor
    starts: tf.RaggedTensor
    ends: tf.RaggedTensor
    windows: GraphWindows
    of_first: tf.Tensor
    of_second: tf.RaggedTensor
