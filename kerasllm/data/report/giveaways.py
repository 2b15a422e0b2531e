"""Tokens that give a label away: they occur with a single label only.

A model learns such a token instead of the text: a marker of the place that a text was taken from,
a name, a score that was left in it.
"""

from __future__ import annotations

import math
import re
from collections import Counter, defaultdict
from collections.abc import Iterable
from typing import NamedTuple

_TOKENS = re.compile(r"\w+|[^\w\s]+")
_FEWEST, _SHARE = 12, 0.002
_PRECISION = 0.985
_LARGEST_BASE = 0.8
# Of the rows of a label; a topic has its words too, but no word that most of its texts have.
_TELLING = 0.3
_MOST = 10
_LONGEST = 40


class Giveaway(NamedTuple):
    """A token, the label that it gives away, and what for.

    Attributes:
        token: The token, in lower case.
        label: The label.
        rows: Texts that hold the token.
        precision: The share of them with the label.
        recall: The share of the label's texts that hold it.
        information: What the token tells of the label, in bits (mutual information).
    """

    token: str
    label: str
    rows: int
    precision: float
    recall: float
    information: float

    @property
    def is_telling(self) -> bool:
        """Whether so much of the label has it that a model need not read on."""
        return self.recall >= _TELLING


def giveaways(texts: Iterable[tuple[str, str]]) -> list[Giveaway]:
    """Returns the tokens that give a label away, those that tell most first.

    Args:
        texts: Texts with the label of each.

    Example:

    >>> rows = [("good", "a")] * 20 + [("bad", "b")] * 20
    >>> giveaways(rows)[0][:3]
    ('good', 'a', 20)
    """
    of_token: dict[str, Counter] = defaultdict(Counter)
    labels: Counter = Counter()
    for text, label in texts:
        labels[label] += 1
        for token in {token for token in _TOKENS.findall(text.lower()) if len(token) <= _LONGEST}:
            of_token[token][label] += 1
    total = sum(labels.values())
    fewest = max(_FEWEST, math.ceil(_SHARE * total))
    found = []
    for token, counts in of_token.items():
        rows = sum(counts.values())
        label, hits = counts.most_common(1)[0]
        if rows < fewest or hits < _PRECISION * rows or labels[label] > _LARGEST_BASE * total:
            continue
        # As rare a surprise as one in a million tokens, by chance.
        if rows * math.log(labels[label] / total) > math.log(1e-6):
            continue
        information = _information(rows, hits, labels[label], total)
        found.append(Giveaway(token, label, rows, hits / rows, hits / labels[label], information))
    return sorted(found, key=lambda one: -one.information)[:_MOST]


def _information(rows: int, hits: int, label: int, total: int) -> float:
    """Returns the mutual information, in bits, of two events that are counted."""
    bits = 0.0
    for both, one, other in (
        (hits, rows, label),
        (rows - hits, rows, total - label),
        (label - hits, total - rows, label),
        (total - rows - label + hits, total - rows, total - label),
    ):
        if both:
            bits += both / total * math.log2(both * total / (one * other))
    return bits
