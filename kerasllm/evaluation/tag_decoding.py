"""Decodes the logits of words to tags: the most likely valid sequence.

The one decoder of tags: `evaluate`, `predict` and `serve` use it, and what is exported does the
same in a graph.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from kerasllm.data.tag_schemes import TagSet

_NEVER = -1e30
# Sentences whose words are decoded together: those of similar length.
_AT_ONCE = 256


class Decoded(NamedTuple):
    """The tags of words.

    Attributes:
        tags: int32 `[words]`.
        probabilities: float64 `[words]`, that of each tag by itself.
    """

    tags: np.ndarray
    probabilities: np.ndarray


def decode_tags(logits: np.ndarray, offsets: np.ndarray, tags: TagSet) -> Decoded:
    """Returns the most likely valid tags of sentences (Viterbi).

    Args:
        logits: float `[words, tags]`.
        offsets: int `[sentences + 1]`, where the words of each sentence begin and end.
        tags: The tags, and which may follow which.

    Reference:
        [Viterbi, 1967](https://ieeexplore.ieee.org/document/1054010)
    """
    chances = _log_softmax(np.asarray(logits, np.float64))
    if tags.follows.all() and tags.first.all() and tags.last.all():
        found = chances.argmax(-1).astype(np.int32)
    else:
        found = np.zeros(len(chances), np.int32)
        lengths = np.diff(offsets)
        order = np.argsort(lengths, kind="stable")
        order = order[lengths[order] > 0]
        for start in range(0, len(order), _AT_ONCE):
            rows = order[start : start + _AT_ONCE]
            longest = int(lengths[rows[-1]])
            places = np.minimum(
                offsets[rows][:, None] + np.arange(longest), max(len(chances) - 1, 0)
            )
            there = np.arange(longest) < lengths[rows][:, None]
            found[places[there]] = _viterbi(chances[places], lengths[rows], tags)[there]
    own = np.take_along_axis(chances, found[:, None].astype(np.int64), 1)[:, 0]
    return Decoded(found, np.exp(own))


def span_probabilities(decoded: Decoded, starts: np.ndarray, ends: np.ndarray) -> np.ndarray:
    """Returns the probability of spans: the mean of those of their words' tags.

    Args:
        decoded: The tags.
        starts: int `[spans]`, the first word of each.
        ends: int `[spans]`, the word after its last one.
    """
    total = np.append(0.0, np.cumsum(decoded.probabilities))
    return (total[ends] - total[starts]) / np.maximum(ends - starts, 1)


def _viterbi(chances: np.ndarray, lengths: np.ndarray, tags: TagSet) -> np.ndarray:
    """Returns the best tags of rows of words, int32 `[rows, longest]`."""
    rows, longest, count = chances.shape
    moves = np.where(tags.follows, 0.0, _NEVER)
    best = chances[:, 0] + np.where(tags.first, 0.0, _NEVER)
    before = np.zeros((longest, rows, count), np.int32)
    for place in range(1, longest):
        ways = best[:, :, None] + moves
        before[place] = ways.argmax(1)
        new = np.take_along_axis(ways, before[place][:, None], 1)[:, 0] + chances[:, place]
        goes_on = (place < lengths)[:, None]
        best = np.where(goes_on, new, best)
        # After the end of a row nothing changes.
        before[place] = np.where(goes_on, before[place], np.arange(count))
    found = np.zeros((rows, longest), np.int32)
    found[:, -1] = (best + np.where(tags.last, 0.0, _NEVER)).argmax(-1)
    for place in range(longest - 1, 0, -1):
        found[:, place - 1] = before[place][np.arange(rows), found[:, place]]
    return found


def _log_softmax(logits: np.ndarray) -> np.ndarray:
    shifted = logits - logits.max(-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))
