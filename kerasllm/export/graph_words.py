"""Words of raw texts inside a TensorFlow graph, by the rules of `kerasllm.data.words`."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import tensorflow as tf

from kerasllm.data.words import (
    CODES,
    EXTEND,
    IDEOGRAPH,
    LETTERS,
    SINGLE,
    SPACE,
    WORD,
    Joins,
    character_classes,
)


class GraphWords(NamedTuple):
    """Words of texts, one after the other; characters are counted over all texts.

    Attributes:
        starts: int64 `[words]`, the first character of each.
        ends: int64 `[words]`, the character after its last one.
        rows: int64 `[words]`, its text.
    """

    starts: tf.Tensor
    ends: tf.Tensor
    rows: tf.Tensor


def words_in(characters: tf.RaggedTensor, joins: Joins) -> GraphWords:
    """Returns the words of texts.

    Args:
        characters: int32 `[texts, (characters)]`, code points.
        joins: Which pieces are one word.
    """
    codes = characters.values
    count = tf.size(codes, tf.int64)
    places = tf.range(count)
    row = tf.cast(characters.value_rowids(), tf.int64)
    begins_row = tf.concat([[True], row[1:] != row[:-1]], 0)[:count]
    classes = _classes(codes)
    # What belongs to the character before it is of that one's class.
    anchor = (classes != EXTEND) | begins_row
    base = tf.gather(tf.where(anchor)[:, 0], tf.cumsum(tf.cast(anchor, tf.int64)) - 1)
    kinds = tf.gather(classes, base)
    kinds = tf.where(kinds == EXTEND, SINGLE, kinds)
    before = tf.concat([[SPACE], kinds[:-1]], 0)[:count]
    before = tf.where(begins_row, SPACE, before)
    alone = (kinds == SINGLE) | (kinds == IDEOGRAPH)
    begins = (kinds != SPACE) & (
        (before == SPACE) | (alone & (base == places)) | ((kinds == WORD) & (before != WORD))
    )
    starts = tf.where(begins)[:, 0]
    stops = tf.concat([tf.where(begins | (kinds == SPACE) | begins_row)[:, 0], [count]], 0)
    ends = tf.gather(stops, tf.searchsorted(stops, starts, side="right"))
    rows = tf.gather(row, starts)
    if len(joins.keys):
        of_pieces = tf.gather(kinds, starts), tf.gather(codes, starts)
        joined = _joined(starts, ends, rows, *of_pieces, joins)
        pieces = tf.size(starts)
        kept = tf.concat([[True], ~joined], 0)[:pieces]
        closes = tf.concat([~joined, [True]], 0)[:pieces]
        starts, rows = tf.boolean_mask(starts, kept), tf.boolean_mask(rows, kept)
        ends = tf.boolean_mask(ends, closes)
    return GraphWords(starts, ends, rows)


def _joined(starts, ends, rows, kinds, codes, joins: Joins) -> tf.Tensor:
    """Returns which pieces are one word with the next one, bool `[pieces - 1]`."""
    found = tf.where(kinds == WORD, tf.cast(LETTERS, tf.int64), tf.cast(codes, tf.int64))
    found = tf.where(kinds == IDEOGRAPH, tf.cast(-1, tf.int64), found)
    left, right = found[:-1], found[1:]
    beside = (starts[1:] == ends[:-1]) & (rows[1:] == rows[:-1])
    letters = found == LETTERS
    inner = letters[:-2] & letters[2:] & beside[:-1] & beside[1:] & ~letters[1:-1]
    pieces = tf.size(found)
    both = tf.concat([[False], inner, [False]], 0)
    # Of less than two pieces there are no neighbours.
    both = tf.pad(both, [[0, tf.maximum(pieces - tf.size(both), 0)]])[:pieces]
    infix = tf.cast(both[:-1] | both[1:], tf.int64)
    keys = (left * CODES + right) * 2 + infix
    known = tf.constant(joins.keys)
    near = tf.minimum(tf.searchsorted(known, keys), len(joins.keys) - 1)
    return beside & (left >= 0) & (right >= 0) & (tf.gather(known, near) == keys)


def _classes(codes: tf.Tensor) -> tf.Tensor:
    table = character_classes().astype(np.int32)
    changes = np.flatnonzero(np.diff(table, prepend=-1)).astype(np.int32)
    return tf.gather(table[changes], tf.searchsorted(changes, codes, side="right") - 1)


def first_tokens(
    words: GraphWords, token_starts: tf.Tensor, token_ends: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns the first token of each word; see `kerasllm.data.word_windows`.

    Args:
        words: The words.
        token_starts: int64 `[tokens]`, the first character of each token, counted over all texts.
        token_ends: int64 `[tokens]`.

    Returns:
        int32 `[words]`, the token; and whether there is one, bool `[words]`.
    """
    count = tf.size(token_starts)
    first = tf.searchsorted(token_ends, words.starts, side="right")
    near = tf.minimum(first, tf.maximum(count - 1, 0))
    padded = tf.concat([token_starts, [0]], 0)
    there = (first < count) & (tf.gather(padded, near) < words.ends)
    return near, there
