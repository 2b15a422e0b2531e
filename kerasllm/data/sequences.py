"""Token rows to train a language model on: whole texts, packed texts, or full blocks."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from kerasllm.data.batch_plan import index_dtype
from kerasllm.data.rows import ArraySpec
from kerasllm.data.stored_tokens import TokenStore

# Where attention and positions of texts in one row are kept apart.
SEGMENTS = "segment_ids"

# What is counted over all pieces is counted piece by piece.
_PIECES_AT_A_TIME = 1 << 14
# Texts that are cut at a time: what that takes for a moment is tens of bytes of each.
_TEXTS_AT_A_TIME = 1 << 16


@dataclass(frozen=True, eq=False)
class Sequences:
    """Rows that are made up of pieces of a token store's rows.

    A piece of `n` tokens stands for `n` predictions: from each of its tokens the next one of the
    store's row, which the piece need not hold itself.

    There may be hundreds of millions of pieces: each takes as few bytes as its numbers need.

    Attributes:
        store: The tokens.
        pieces: `[pieces]` with three fields: the `row` of a piece in the store, its `first` token
            there, and its `count` of tokens.
        first_pieces: int `[rows + 1]`, the first piece of each row.
        context: int `[pieces]`, how many of a piece's first predictions are not counted, since
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
        if not len(self):
            return np.empty(0, np.int32)
        return np.add.reduceat(self.pieces["count"], self.first_pieces[:-1], dtype=np.int32)

    @property
    def store_rows(self) -> np.ndarray:
        """int `[texts]`, the rows of the store that pieces are of, each once."""
        return np.unique(self.pieces["row"])

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
            rows, starts, counts = _columns(self.pieces[part])
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
        return [self.store.where(int(number)) for number in self.pieces["row"][first:last]]

    def batch(
        self,
        rows: np.ndarray,
        length: int,
        inputs: Sequence[str],
        pad_id: int,
        *,
        step: int = 0,
        seed: int = 0,
    ) -> tuple:
        """Returns `(x, y, sample_weight)`; see `rows.Rows`. It draws nothing at random.

        Args:
            rows: int64, which rows.
            length: What they are padded to.
            inputs: Of `token_ids` and `segment_ids`.
            pad_id: The id to pad with.
            step: Not used. Defaults to `0`.
            seed: Not used. Defaults to `0`.

        Returns:
            The inputs, int32 `[rows, length]`; the next token of each, int32 `[rows, length]`; and
            1 where that one is learned, else 0, float32 `[rows, length]`.
        """
        chosen, firsts = self._pieces_of(rows)
        store_rows, starts, counts = _columns(self.pieces[chosen])
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
            offsets = np.arange(len(weights)) - np.repeat(np.cumsum(counts) - counts, counts)
            weights[offsets < np.repeat(self.context[chosen], counts)] = 0.0
        y = padded(tokens[is_target], pad_id, np.int32)
        return x, y, padded(weights, 0.0, np.float32)

    def signature(self, rows: int, length: int | None, inputs: Sequence[str]) -> tuple:
        """Returns the specs of what `batch` returns."""
        whole = ArraySpec((rows, length), np.int32)
        weights = ArraySpec((rows, length), np.float32)
        return dict.fromkeys(inputs, whole), whole, weights

    def _pieces_of(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Returns the numbers of the rows' pieces, and where each row's begin in them."""
        rows = np.asarray(rows)
        counts = self.first_pieces[rows + 1] - self.first_pieces[rows]
        firsts = np.concatenate([[0], np.cumsum(counts)])
        offset = np.repeat(self.first_pieces[rows] - firsts[:-1], counts)
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
    lengths = store.lengths
    rows = _rows_to_predict_in(lengths, rows)
    pieces = _no_pieces(lengths, len(rows))
    pieces["row"], pieces["count"] = rows, lengths[rows] - 1
    return Sequences(store, pieces, np.arange(len(rows) + 1, dtype=index_dtype(len(rows))))


def packed_rows(store: TokenStore, length: int, rows: np.ndarray | None = None) -> Sequences:
    """Packs whole rows of a store into rows of at most `length` tokens, the fullest fit first.

    Args:
        store: The tokens, no row with more than `length + 1`.
        length: The maximum number of tokens of a pack.
        rows: Which rows. Defaults to `None`: all.

    Returns:
        Packs of whole texts; what is left over is padding.

    Reference:
        Best-fit decreasing: D. S. Johnson, "Near-optimal bin packing algorithms", 1973; for
        packing sequences, [Efficient Sequence Packing](https://arxiv.org/abs/2107.02027).
    """
    pieces = whole_rows(store, rows).pieces
    most = int(pieces["count"].max(initial=0))
    if most > length:
        raise ValueError(f"A row has {most} tokens. Received: length={length}")
    pieces = pieces[np.argsort(-pieces["count"].astype(np.int32), kind="stable")]
    # Packs by the room that is left, since there are no more kinds of room than `length`: of each
    # kind the one on top of a pile, and under each pack the next of its pile.
    top, under = [-1] * (length + 1), array("q")
    has_room = np.zeros(length + 1, bool)
    pack_of = np.empty(len(pieces), index_dtype(len(pieces)))
    for piece, count in enumerate(pieces["count"].tolist()):
        fits = int(has_room[count:].argmax()) + count
        if has_room[fits]:
            room, pack = fits, top[fits]
            top[room] = under[pack]
            has_room[room] = top[room] >= 0
        else:
            room, pack = length, len(under)
            under.append(-1)
        pack_of[piece] = pack
        under[pack], top[room - count] = top[room - count], pack
        has_room[room - count] = True
    firsts = np.cumsum([0, *np.bincount(pack_of, minlength=len(under))])
    pieces = pieces[np.argsort(pack_of, kind="stable")]
    return Sequences(store, pieces, firsts.astype(index_dtype(len(pieces))))


def full_blocks(
    store: TokenStore, length: int, *, seed: int | None = None, rows: np.ndarray | None = None
) -> Sequences:
    """Cuts the texts of a store, one after the other, into rows of exactly `length` tokens.

    Args:
        store: The tokens.
        length: Tokens of a row; the last one may have fewer.
        seed: Seed of the order of the texts. Defaults to `None`: as they are in the store.
        rows: Which texts. Defaults to `None`: all.
    """
    lengths = store.lengths
    rows = _rows_to_predict_in(lengths, rows)
    if seed is not None:
        np.random.default_rng(seed).shuffle(rows)
    parts, firsts = [_no_pieces(lengths, 0)], [np.empty(0, np.int64)]
    # Tokens and pieces of the texts before.
    end = made = 0
    for start in range(0, len(rows), _TEXTS_AT_A_TIME):
        texts = rows[start : start + _TEXTS_AT_A_TIME]
        counts = lengths[texts].astype(np.int64) - 1
        begins = end + np.cumsum(counts) - counts
        blocks = np.arange(-(-end // length) * length, end + counts.sum(), length)
        # A piece begins where a text begins, and where a block does.
        cuts = np.union1d(begins, blocks)
        text = np.searchsorted(begins, cuts, side="right") - 1
        end += int(counts.sum())
        pieces = _no_pieces(lengths, len(cuts))
        pieces["row"], pieces["first"] = texts[text], cuts - begins[text]
        pieces["count"] = np.diff(cuts, append=end)
        parts.append(pieces)
        firsts.append(made + np.searchsorted(cuts, blocks))
        made += len(cuts)
    firsts = np.concatenate([*firsts, [made]]).astype(index_dtype(made))
    return Sequences(store, np.concatenate(parts), firsts)


def separate_pieces(sequences: Sequences) -> Sequences:
    """Returns each piece as a row of its own, for models that cannot keep them apart."""
    count = len(sequences.pieces)
    return replace(sequences, first_pieces=np.arange(count + 1, dtype=index_dtype(count)))


def windows(store: TokenStore, length: int, stride: int) -> Sequences:
    """Cuts each text into windows that overlap, so that every prediction has context before it.

    Args:
        store: The tokens.
        length: The maximum number of tokens of a window.
        stride: How far a window is from the one before; its predictions before these last ones
            are context and do not count.

    Returns:
        A row for each window; each prediction counts in exactly one.

    Reference:
        As in Hugging Face's guide to the perplexity of fixed-length models.
    """
    if not 1 <= stride <= length:
        raise ValueError(f"The stride must be from 1 to {length}. Received: stride={stride}")
    parts, context = [_no_pieces(store.lengths, 0)], [np.empty(0, np.int64)]
    for whole in whole_rows(store).pieces:
        count = int(whole["count"])
        starts = np.arange(0, max(count - length, 0) + stride, stride)
        starts = starts[: np.flatnonzero(starts + length >= count)[0] + 1]
        sizes = np.minimum(count - starts, length)
        seen = np.concatenate([[0], (starts + sizes)[:-1]])
        pieces = np.full(len(starts), whole)
        pieces["first"], pieces["count"] = starts, sizes
        parts.append(pieces)
        context.append(seen - starts)
    pieces, context = np.concatenate(parts), np.concatenate(context)
    return Sequences(store, pieces, np.arange(len(pieces) + 1), context)


def _rows_to_predict_in(lengths: np.ndarray, rows: np.ndarray | None = None) -> np.ndarray:
    """Returns the rows that have more than one token: some, or all."""
    if rows is None:
        rows = np.flatnonzero(lengths > 1)
    else:
        rows = np.asarray(rows)
        rows = rows[lengths[rows] > 1]
    return rows.astype(index_dtype(len(lengths)))


def _no_pieces(lengths: np.ndarray, count: int) -> np.ndarray:
    """Returns room for pieces of a store whose rows have these lengths, all zeros."""
    tokens = np.min_scalar_type(int(lengths.max(initial=0)))
    fields = [("row", index_dtype(len(lengths))), ("first", tokens), ("count", tokens)]
    return np.zeros(count, fields)


def _columns(pieces: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns rows, first tokens and counts of pieces, each int64 `[pieces]`."""
    row, first, count = (pieces[name].astype(np.int64) for name in pieces.dtype.names)
    return row, first, count
