"""The words of texts, and the tokens of each word."""

from __future__ import annotations

import functools

import numpy as np

from kerasllm.data.token_offsets import SPECIAL, TokenOffsets
from kerasllm.data.words import Joins

NO_WORD = -1
"""Instead of a word, of a token that is of none: a special token, a space."""


@functools.cache
def _joins() -> Joins:
    """Returns what joins pieces of a text: `don't` and `3.5` are one word each."""
    return Joins.learn([["don't", "don’t", "3.5", "1,000"]])


def words_of(text: str) -> list[tuple[int, int]]:
    """Returns where the words of a text begin and end, in any script."""
    return _joins().words(text)


def words_of_tokens(tokens: TokenOffsets, words: list[list[tuple[int, int]]]) -> np.ndarray:
    """Returns the word of each token, counted over all texts, int `[tokens]`, or `NO_WORD`.

    A token belongs to the word that most of its characters are of; one without characters, such as
    the second of an emoji's bytes, to the word of the token before it.

    Args:
        tokens: The row.
        words: The words of each of its texts.
    """
    firsts = np.concatenate([[0], np.cumsum([len(some) for some in words])])
    found = np.full(len(tokens), NO_WORD)
    for text, places in enumerate(words):
        starts, ends = np.array(places, int).reshape(-1, 2).T
        before = NO_WORD
        for token in np.flatnonzero(tokens.owners == text):
            start, end = tokens.spans[token]
            if end > start and len(places):
                first = int(np.searchsorted(ends, start, side="right"))
                last = int(np.searchsorted(starts, end, side="left"))
                common = np.minimum(ends[first:last], end) - np.maximum(starts[first:last], start)
                before = NO_WORD
                if len(common):
                    before = int(firsts[text]) + first + int(np.argmax(common))
            found[token] = before
    found[tokens.owners == SPECIAL] = NO_WORD
    return found
