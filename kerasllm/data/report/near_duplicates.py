"""Texts that are nearly the same, by MinHash (Broder, 1997) of rensa and bands of it.

Two texts are compared by the sets of their shingles, four characters each, without case and
punctuation: the share of them that both have. 126 minima of each set estimate it; texts that agree
in a band of six of them are compared. What is kept of a text is 210 bytes.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np

THRESHOLD = 0.7
"""The share of shingles that texts must have in common to be called near duplicates."""

_SHINGLE = 4
_BANDS, _ROWS = 21, 6
_MINIMA = _BANDS * _ROWS
# A shorter text has too few shingles for a share of them.
_FEWEST_SHINGLES = 16
_MOST_CHARACTERS = 1 << 16
_PAIRS_AT_A_TIME = 1 << 16
_WORDS = re.compile(r"[^\W_]+")
_MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)


def is_installed() -> bool:
    """Whether near duplicates can be found here: rensa is optional."""
    try:
        import rensa  # noqa: F401
    except ImportError:
        return False
    return True


def plain(text: str) -> str:
    """Returns a text without case, punctuation and the kind of space.

    Example:

    >>> plain("  It's GOOD!")
    'it s good'
    """
    return " ".join(_WORDS.findall(text.casefold()))


class Sketches:
    """What is kept of texts to compare them: add them in order, then ask for groups."""

    def __init__(self):
        self._bands: list[np.ndarray] = []
        self._minima: list[np.ndarray] = []
        self._short: list[np.ndarray] = []

    def add(self, texts: Sequence[str]) -> None:
        """Adds texts that went through `plain`."""
        import rensa

        hashes, offsets = _shingles(texts)
        matrix = rensa.RMinHash.digest_matrix_from_flat_token_hashes(hashes, offsets, _MINIMA, 1)
        minima = np.array(matrix.to_rows(), np.uint64).reshape(len(texts), _BANDS, _ROWS)
        mixed = np.zeros(minima.shape[:2], np.uint64)
        for place in range(_ROWS):
            mixed = (mixed ^ minima[:, :, place]) * _MULTIPLIER
            mixed ^= mixed >> np.uint64(29)
        self._bands.append((mixed >> np.uint64(32)).astype(np.uint32))
        self._minima.append((minima.reshape(len(texts), -1) & np.uint64(255)).astype(np.uint8))
        self._short.append(np.diff(offsets.astype(np.int64)) < _FEWEST_SHINGLES)

    def pairs(self, threshold: float = THRESHOLD) -> np.ndarray:
        """Returns pairs of texts that are nearly the same, int64 `[pairs, 2]`, the first first.

        They connect all texts that are alike, see `groups_of`, and are not all pairs of these.
        """
        if not self._bands:
            return np.empty((0, 2), np.int64)
        bands, minima = np.concatenate(self._bands), np.concatenate(self._minima)
        usable = np.flatnonzero(~np.concatenate(self._short))
        found, group = np.empty((0, 2), np.int64), np.arange(len(bands))
        for band in range(_BANDS):
            keys = bands[usable, band]
            order = np.argsort(keys, kind="stable")
            rows, keys = usable[order], keys[order]
            begins = np.r_[True, keys[1:] != keys[:-1]]
            first = rows[np.maximum.accumulate(np.where(begins, np.arange(len(keys)), 0))]
            # With the first of its band, and with the one before.
            later = np.flatnonzero(~begins)
            for earlier in (first[later], rows[later - 1]):
                pairs = np.stack([earlier, rows[later]], 1)
                pairs = pairs[group[pairs[:, 0]] != group[pairs[:, 1]]]
                pairs = pairs[_likeness(minima, pairs) >= threshold]
                if len(pairs):
                    found = np.concatenate([found, pairs])
                    group = groups_of(found, len(group))
        return found


def _likeness(minima: np.ndarray, pairs: np.ndarray) -> np.ndarray:
    """Returns the estimated share of shingles that pairs have in common, float32 `[pairs]`."""
    same = np.empty(len(pairs), np.float32)
    for start in range(0, len(pairs), _PAIRS_AT_A_TIME):
        part = slice(start, start + _PAIRS_AT_A_TIME)
        one, other = pairs[part].T
        same[part] = (minima[one] == minima[other]).mean(1)
    # Of bytes, one in 256 agrees by chance.
    return (same - 1 / 256) / (1 - 1 / 256)


def groups_of(pairs: np.ndarray, count: int) -> np.ndarray:
    """Returns the first row of each row's group, int64 `[count]`, where pairs are connected."""
    group = np.arange(count)
    one, other = pairs.T
    while True:
        before = group.copy()
        least = np.minimum(group[one], group[other])
        np.minimum.at(group, group[one], least)
        np.minimum.at(group, group[other], least)
        group = group[group]
        if np.array_equal(group, before):
            return group


def _shingles(texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """Returns the hashes of all shingles, uint64, and where each text's begin, uint64."""
    texts = [text[:_MOST_CHARACTERS] for text in texts]
    signs = np.frombuffer("".join(texts).encode("utf-32-le", "surrogatepass"), np.uint32)
    sizes = np.fromiter(map(len, texts), np.int64, len(texts))
    counts = np.maximum(sizes - _SHINGLE + 1, 0)
    offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.uint64)
    total = max(len(signs) - _SHINGLE + 1, 0)
    hashes = np.zeros(total, np.uint64)
    for place in range(_SHINGLE):
        hashes = (hashes ^ signs[place : place + total]) * _MULTIPLIER
        hashes ^= hashes >> np.uint64(31)
    # Those that begin in one text and end in the next are none.
    ends = np.repeat(np.cumsum(sizes), sizes)[:total]
    return hashes[np.arange(total) + _SHINGLE <= ends], offsets
