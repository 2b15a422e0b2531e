"""Masking: which tokens a masked language model predicts, and what replaces them.

Everything is computed of the numbers drawn for each row (`rows.row_generator`) and of its tokens,
never of what the row is padded to: so masks are the same on any number of devices, on machines that
pad differently, and in a training that is resumed.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

TOKENS, WHOLE_WORDS, SPANS = "tokens", "whole_words", "spans"

# Lengths of spans in words, as SpanBERT draws them.
_GEOMETRIC, _LONGEST_SPAN = 0.2, 10
# Draws for a token of a row: its order, what replaces it, by which token; the start and the length
# of a span.
_DRAWS = 5
_LAST = 2.0


@dataclass(frozen=True)
class Masking:
    """How tokens are chosen and replaced.

    Attributes:
        units: `"tokens"`; `"whole_words"`, all tokens of a word or none; or `"spans"` of words,
            whose lengths are geometric. Defaults to `"tokens"`.
        rate: The share of a row's tokens that are predicted. Defaults to `0.15`.
        mask_share: The share of these that are replaced by the mask token. Defaults to `0.8`.
        random_share: The share that are replaced by a random token; the others stay. Defaults to
            `0.1`.

    References:
        [BERT](https://arxiv.org/abs/1810.04805), [SpanBERT](https://arxiv.org/abs/1907.10529).
    """

    units: str = TOKENS
    rate: float = 0.15
    mask_share: float = 0.8
    random_share: float = 0.1

    def most(self, length: int) -> int:
        """Returns the maximum number of tokens that are predicted of a row of so many."""
        return max(int(self.rate * length + 0.5), 1)


class Masked(NamedTuple):
    """Rows with some of their tokens hidden.

    Attributes:
        ids: int32 `[rows, length]`.
        positions: int32 `[rows, predictions]`, the places of the tokens to predict, in order, then
            0s.
        targets: int32 `[rows, predictions]`, these tokens.
        counted: bool `[rows, predictions]`, whether there is such a token.
    """

    ids: np.ndarray
    positions: np.ndarray
    targets: np.ndarray
    counted: np.ndarray


def mask_rows(
    ids: np.ndarray,
    lengths: np.ndarray,
    generators: Sequence[np.random.Generator],
    vocabulary,
    masking: Masking,
) -> Masked:
    """Hides tokens of rows.

    Of `n` tokens that are not special, `rate * n` are predicted, rounded, and at least one. Whole
    words and spans that would exceed that are skipped, or cut between words.

    Args:
        ids: int32 `[rows, length]`, padded.
        lengths: int `[rows]`, the tokens of each.
        generators: What draws for each row.
        vocabulary: A `kerasllm.data.tokenizers.vocabulary.Vocabulary`.
        masking: How.
    """
    rows, length = ids.shape
    drawn = np.full((_DRAWS, rows, length), _LAST)
    for row, generator in enumerate(generators):
        count = int(lengths[row])
        drawn[:, row, :count] = generator.random((_DRAWS, count))
    order, action, replacement, starts, sizes = drawn
    candidate = (np.arange(length) < lengths[:, None]) & ~vocabulary.special[ids]
    candidates = candidate.sum(axis=1)
    wanted = np.where(candidates, np.maximum((masking.rate * candidates + 0.5).astype(int), 1), 0)
    if masking.units == TOKENS:
        chosen = _lowest(np.where(candidate, order, _LAST), wanted)
    else:
        words = _Words.of(ids, candidate, vocabulary.continues)
        if masking.units == WHOLE_WORDS:
            chosen = words.whole(order, wanted)
        else:
            chosen, span = words.spans(starts, sizes, lengths, wanted)
            # A span is replaced as a whole.
            action = np.take_along_axis(action, span, axis=1)
    # A word may be longer than what is wanted of its row.
    chosen &= np.cumsum(chosen, axis=1) <= wanted[:, None]
    most = masking.most(length)
    positions = np.argsort(~chosen, axis=1, kind="stable")[:, :most]
    counted = np.take_along_axis(chosen, positions, axis=1)
    positions = np.where(counted, positions, 0).astype(np.int32)
    targets = np.where(counted, np.take_along_axis(ids, positions, axis=1), 0)
    hidden = chosen & (action < masking.mask_share)
    at_random = chosen & ~hidden & (action < masking.mask_share + masking.random_share)
    words = vocabulary.words
    random_ids = words[(np.minimum(replacement, 1 - 1e-9) * len(words)).astype(int)]
    masked = np.where(hidden, vocabulary.mask_id, np.where(at_random, random_ids, ids))
    return Masked(masked.astype(np.int32), positions, targets.astype(np.int32), counted)


def _lowest(values: np.ndarray, count: np.ndarray) -> np.ndarray:
    """Returns which values are the lowest of their row, `count` of each, bool."""
    order = np.argsort(values, axis=1, kind="stable")
    found = np.zeros(values.shape, bool)
    np.put_along_axis(found, order, np.arange(values.shape[1]) < count[:, None], axis=1)
    return found


@dataclass(frozen=True, eq=False)
class _Words:
    """The words of rows.

    Attributes:
        of_token: int `[rows, length]`, the number of each token's word, -1 of one that has none.
        first: int `[rows, words]`, the place of its first token.
        sizes: int `[rows, words]`, its tokens; 0 where a row has fewer words.
    """

    of_token: np.ndarray
    first: np.ndarray
    sizes: np.ndarray

    @classmethod
    def of(cls, ids: np.ndarray, candidate: np.ndarray, continues: np.ndarray) -> _Words:
        before = np.zeros_like(candidate)
        before[:, 1:] = candidate[:, :-1]
        begins = candidate & ~(continues[ids] & before)
        of_token = np.where(candidate, np.cumsum(begins, axis=1) - 1, -1)
        most = max(int(begins.sum(axis=1).max(initial=0)), 1)
        row, place = np.nonzero(candidate)
        number = of_token[row, place]
        sizes = np.zeros((len(ids), most), int)
        np.add.at(sizes, (row, number), 1)
        first = np.zeros_like(sizes)
        row, place = np.nonzero(begins)
        first[row, of_token[row, place]] = place
        return cls(of_token, first, sizes)

    def whole(self, order: np.ndarray, wanted: np.ndarray) -> np.ndarray:
        """Chooses whole words in a random order, as long as they do not exceed what is wanted."""
        scores = np.where(self.sizes > 0, np.take_along_axis(order, self.first, axis=1), _LAST)
        ranked = np.argsort(scores, axis=1, kind="stable")
        sizes = np.take_along_axis(self.sizes, ranked, axis=1)
        taken = np.zeros(sizes.shape, bool)
        used = np.zeros(len(sizes), int)
        for rank in range(sizes.shape[1]):
            fits = (sizes[:, rank] > 0) & (used + sizes[:, rank] <= wanted)
            used += sizes[:, rank] * fits
            taken[:, rank] = fits
            if (used >= wanted).all():
                break
        chosen = np.zeros_like(taken)
        np.put_along_axis(chosen, ranked, taken, axis=1)
        return self._tokens(self._at_least_one(chosen, ranked, wanted))

    def spans(
        self, starts: np.ndarray, lengths: np.ndarray, draws: np.ndarray, wanted: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Chooses spans of words; returns their tokens, and the number of each token's span."""
        numbers = np.arange(self.sizes.shape[1])
        count = (self.sizes > 0).sum(axis=1)
        ends = np.cumsum(self.sizes, axis=1)
        begin = ends - self.sizes
        chosen = np.zeros(self.sizes.shape, bool)
        span = np.zeros(self.sizes.shape, int)
        left = wanted.copy()
        every = np.arange(len(count))
        for draw in range(int(draws.max(initial=0))):
            if not left.any():
                break
            active = (left > 0) & (draw < draws) & (count > 0)
            u = np.minimum(starts[:, draw], 1 - 1e-9)
            start = np.minimum((u * count).astype(int), np.maximum(count - 1, 0))
            size = _span_lengths(np.minimum(lengths[:, draw], 1 - 1e-9))
            room = begin[every, start] + left
            inside = (numbers >= start[:, None]) & (numbers < (start + size)[:, None])
            inside &= (self.sizes > 0) & (ends <= room[:, None]) & active[:, None]
            # One that touches a chosen word is drawn again.
            inside &= ~(inside & chosen).any(axis=1)[:, None]
            chosen |= inside
            span[inside] = draw
            left -= (inside * self.sizes).sum(axis=1)
        ranked = np.argsort(np.where(self.sizes > 0, self.sizes, 1 << 30), axis=1, kind="stable")
        tokens = self._tokens(self._at_least_one(chosen, ranked, wanted))
        number = np.maximum(self.of_token, 0)
        return tokens, np.take_along_axis(span, number, axis=1)

    def _at_least_one(self, chosen, ranked, wanted) -> np.ndarray:
        """Gives rows whose words are all too long the first word in an order, as far as it goes."""
        empty = np.flatnonzero(~chosen.any(axis=1) & (wanted > 0))
        chosen[empty, ranked[empty, 0]] = True
        return chosen

    def _tokens(self, chosen: np.ndarray) -> np.ndarray:
        found = np.take_along_axis(chosen, np.maximum(self.of_token, 0), axis=1)
        return found & (self.of_token >= 0)


def _span_lengths(u: np.ndarray) -> np.ndarray:
    """Returns lengths from 1 to 10, geometric: the inverse of the distribution at `u`."""
    whole = 1 - (1 - _GEOMETRIC) ** _LONGEST_SPAN
    lengths = 1 + np.floor(np.log1p(-u * whole) / math.log(1 - _GEOMETRIC)).astype(int)
    return np.clip(lengths, 1, _LONGEST_SPAN)
