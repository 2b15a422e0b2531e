"""Rows of tokens that a language model learns to go on with: whole texts, packs, or full blocks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import tensorflow as tf

from kerasllm.data.token_store import TokenStore

# Where attention and positions of texts in one row are kept apart.
SEGMENTS = "segment_ids"

# What is counted over all pieces is counted of so many at a time.
_PIECES_AT_A_TIME = 1 << 14


@dataclass(frozen=True, eq=False)
class Sequences:
    """Rows that are made up of pieces of a token store's rows.

    A piece of `n` tokens stands for `n` predictions: from each of its tokens the next one of the
    store's row, which the piece need not hold itself.

    Attributes:
        store: The tokens.
        pieces: int64 `[pieces, 3]`: for each its row in the store, its first token there, and its
            number of tokens.
        first_pieces: int64 `[rows + 1]`, the first piece of each row.
        context: int64 `[pieces]`, how many of a piece's first predictions are not counted, since
            another piece makes them; or `None`: none.
        text_bytes: The bytes of the text that all rows hold, in UTF-8, or `None`.
    """

    store: TokenStore
    pieces: np.ndarray
    first_pieces: np.ndarray
    context: np.ndarray | None = None
    text_bytes: int | None = None

    def __len__(self) -> int:
        return len(self.first_pieces) - 1

    @cached_property
    def lengths(self) -> np.ndarray:
        """int32 `[rows]`, tokens of each row."""
        ends = np.concatenate([[0], np.cumsum(self.pieces[:, 2])])
        return np.diff(ends[self.first_pieces]).astype(np.int32)

    @cached_property
    def is_packed(self) -> bool:
        """Whether a row holds several pieces, which must not see each other."""
        return bool((np.diff(self.first_pieces) > 1).any())

    @cached_property
    def trained_tokens(self) -> int:
        """How many predictions count."""
        total = 0
        for first in range(0, len(self.pieces), _PIECES_AT_A_TIME):
            part = slice(first, first + _PIECES_AT_A_TIME)
            rows, starts, counts = self.pieces[part].T
            total += int(self.store.trained(rows, starts + 1, counts).sum())
            if self.context is not None:
                total -= int(self.store.trained(rows, starts + 1, self.context[part]).sum())
        return total

    def take(self, rows: np.ndarray) -> Sequences:
        """Returns some of the rows."""
        chosen, firsts = self._pieces_of(rows)
        context = None if self.context is None else self.context[chosen]
        return Sequences(self.store, self.pieces[chosen], firsts, context)

    def places(self, row: int) -> list[tuple[str, int]]:
        """Returns the file and the line of each text in a row."""
        first, last = self.first_pieces[row : row + 2]
        return [self.store.where(int(piece[0])) for piece in self.pieces[first:last]]

    def batch(self, rows: np.ndarray, length: int, inputs: Sequence[str], pad_id: int) -> tuple:
        """Returns `(x, y, sample_weight)`; see `pipeline.TrainingRows`.

        Args:
            rows: int64, which rows.
            length: What they are padded to.
            inputs: Of `token_ids` and `segment_ids`.
            pad_id: The id to pad with.

        Returns:
            The inputs, int32 `[rows, length]`; the next token of each, int32 `[rows, length]`; and
            1 where that one is learned, else 0, float32 `[rows, length]`.
        """
        chosen, firsts = self._pieces_of(rows)
        store_rows, starts, counts = self.pieces[chosen].T
        tokens = self.store.slices(store_rows, starts, counts + 1)
        ends = np.cumsum(counts + 1)
        is_input, is_target = np.ones((2, len(tokens)), bool)
        is_input[ends - 1] = False
        is_target[ends - counts - 1] = False
        real = np.arange(length) < self.lengths[rows][:, None]

        def padded(values, fill, dtype):
            array = np.full(real.shape, fill, dtype)
            array[real] = values
            return array

        x = {"token_ids": padded(tokens[is_input], pad_id, np.int32)}
        if SEGMENTS in inputs:
            number = np.arange(len(chosen)) - np.repeat(firsts[:-1], np.diff(firsts)) + 1
            x[SEGMENTS] = padded(np.repeat(number, counts), 0, np.int32)
        weights = self.store.trained(store_rows, starts + 1, counts).astype(np.float32)
        if self.context is not None:
            behind = np.arange(len(weights)) - np.repeat(np.cumsum(counts) - counts, counts)
            weights[behind < np.repeat(self.context[chosen], counts)] = 0.0
        y = padded(tokens[is_target], pad_id, np.int32)
        return x, y, padded(weights, 0.0, np.float32)

    def signature(self, rows: int, length: int | None, inputs: Sequence[str]) -> tuple:
        """Returns the specs of what `batch` gives."""
        whole = tf.TensorSpec([rows, length], tf.int32)
        weights = tf.TensorSpec([rows, length], tf.float32)
        return dict.fromkeys(inputs, whole), whole, weights

    def _pieces_of(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Returns the numbers of the rows' pieces, and where each row's begin in them."""
        counts = np.diff(self.first_pieces)[rows]
        firsts = np.concatenate([[0], np.cumsum(counts)])
        offset = np.repeat(self.first_pieces[:-1][rows] - firsts[:-1], counts)
        return np.arange(firsts[-1]) + offset, firsts


def scoring_inputs(
    sequences: Sequences, rows: np.ndarray, length: int, inputs: Sequence[str], pad_id: int
) -> dict[str, np.ndarray]:
    """Returns what a model scores some rows by, each int32 `[rows, length]`.

    Besides the model's inputs these are `targets`, the next tokens, and `counted`, 1 where one
    counts.
    """
    names = [name for name in inputs if name not in ("targets", "counted")]
    x, y, weights = sequences.batch(rows, length, names, pad_id)
    return {**x, "targets": y, "counted": weights.astype(np.int32)}


def whole_rows(store: TokenStore, rows: np.ndarray | None = None) -> Sequences:
    """Returns each row of a store as a row of its own.

    Args:
        store: The tokens.
        rows: Which rows. Defaults to `None`: all. Rows of one token, in which nothing can be
            predicted, are left out.
    """
    rows = np.arange(len(store)) if rows is None else np.asarray(rows)
    rows = rows[store.lengths[rows] > 1]
    counts = store.lengths[rows].astype(np.int64) - 1
    pieces = np.stack([rows, np.zeros_like(counts), counts], axis=1)
    return Sequences(store, pieces, np.arange(len(rows) + 1))


def packed_rows(store: TokenStore, length: int, rows: np.ndarray | None = None) -> Sequences:
    """Packs whole rows of a store into rows of at most `length` tokens, the fullest fit first.

    Args:
        store: The tokens, no row with more than `length + 1`.
        length: The most tokens of a pack.
        rows: Which rows. Defaults to `None`: all.

    Returns:
        Packs of whole texts; what is left over is padding.

    Reference:
        Best-fit decreasing: D. S. Johnson, "Near-optimal bin packing algorithms", 1973; for
        packing sequences, [Efficient Sequence Packing](https://arxiv.org/abs/2107.02027).
    """
    alone = whole_rows(store, rows)
    counts = alone.pieces[:, 2]
    if len(counts) and counts.max() > length:
        raise ValueError(f"A row has {counts.max()} tokens. Received: length={length}")
    # By the room that is left, since there are no more kinds of room than `length`.
    open_packs: list[list[int]] = [[] for _ in range(length + 1)]
    packs: list[list[int]] = []
    room_of = np.zeros(length + 1, bool)
    for piece in np.argsort(-counts, kind="stable"):
        count = int(counts[piece])
        fits = np.flatnonzero(room_of[count:])
        if len(fits):
            room = int(fits[0]) + count
            pack = open_packs[room].pop()
            room_of[room] = bool(open_packs[room])
        else:
            room, pack = length, len(packs)
            packs.append([])
        packs[pack].append(int(piece))
        open_packs[room - count].append(pack)
        room_of[room - count] = True
    order = np.array([piece for pack in packs for piece in pack], np.int64)
    firsts = np.cumsum([0, *map(len, packs)])
    return Sequences(store, alone.pieces[order], firsts)


def full_blocks(store: TokenStore, length: int, *, seed: int | None = None) -> Sequences:
    """Cuts the texts of a store, one after the other, into rows of exactly `length` tokens.

    Args:
        store: The tokens.
        length: Tokens of a row; the last one may have fewer.
        seed: Seed of the order of the texts. Defaults to `None`: as they are in the store.
    """
    rows = whole_rows(store).pieces[:, 0]
    if seed is not None:
        rows = np.random.default_rng(seed).permutation(rows)
    counts = store.lengths[rows].astype(np.int64) - 1
    ends = np.cumsum(counts)
    total = int(ends[-1]) if len(ends) else 0
    # A piece begins where a text begins, and where a block does.
    cuts = np.unique(np.concatenate([ends - counts, np.arange(0, total, length)]))
    text = np.searchsorted(ends, cuts, side="right")
    sizes = np.diff(np.append(cuts, total))
    pieces = np.stack([rows[text], cuts - (ends - counts)[text], sizes], axis=1)
    firsts = np.searchsorted(cuts, np.arange(0, total, length))
    return Sequences(store, pieces, np.append(firsts, len(pieces)))


def separate_pieces(sequences: Sequences) -> Sequences:
    """Returns each piece as a row of its own, for models that cannot keep them apart."""
    return replace(sequences, first_pieces=np.arange(len(sequences.pieces) + 1))


def windows(store: TokenStore, length: int, stride: int) -> Sequences:
    """Cuts each text into windows that overlap, so that every prediction has context before it.

    Args:
        store: The tokens.
        length: The most tokens of a window.
        stride: How far a window is from the one before; its predictions before these last ones
            are context and do not count.

    Returns:
        A row for each window; each prediction counts in exactly one.

    Reference:
        As in Hugging Face's guide to the perplexity of fixed-length models.
    """
    if not 1 <= stride <= length:
        raise ValueError(f"The stride must be from 1 to {length}. Received: stride={stride}")
    pieces, context = [], []
    for row, _, count in whole_rows(store).pieces:
        starts = np.arange(0, max(count - length, 0) + stride, stride)
        starts = starts[: np.flatnonzero(starts + length >= count)[0] + 1]
        sizes = np.minimum(count - starts, length)
        seen = np.concatenate([[0], (starts + sizes)[:-1]])
        pieces.append(np.stack([np.full(len(starts), row), starts, sizes], axis=1))
        context.append(seen - starts)
    pieces = np.concatenate(pieces) if pieces else np.empty((0, 3), np.int64)
    context = np.concatenate(context) if context else np.empty(0, np.int64)
    return Sequences(store, pieces, np.arange(len(pieces) + 1), context)
