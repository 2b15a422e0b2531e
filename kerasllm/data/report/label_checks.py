"""Labels: their distribution, and labels that occur in only one split."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping

import numpy as np

_BUCKETS = 20


def only_in_one_part(parts: Mapping[str, Mapping[str, int]]) -> dict[str, list[str]]:
    """Returns labels that are in one part alone, by the part.

    Args:
        parts: Rows by label, of each part.

    Example:

    >>> only_in_one_part({"train": {"a": 5, "b": 5}, "test": {"a": 2, "c": 1}})
    {'train': ['b'], 'test': ['c']}
    """
    if len(parts) < 2:
        return {}
    places = Counter(label for counts in parts.values() for label in counts)
    alone = {
        part: [label for label in counts if places[label] == 1] for part, counts in parts.items()
    }
    return {part: labels for part, labels in alone.items() if labels}


def labels_of(label: str | tuple[str, ...]) -> Iterable[str]:
    """Returns the classes of a row that has one, or several."""
    return label if isinstance(label, tuple) else (label,)


def histogram(values: np.ndarray) -> dict[str, list[float]]:
    """Returns the counts of numbers in up to 20 ranges, and the edges of these."""
    if not len(values):
        return {"counts": [], "edges": []}
    whole = np.all(values == np.round(values))
    width = float(values.max() - values.min())
    bins = int(min(_BUCKETS, max(width, 1))) if whole else _BUCKETS
    counts, edges = np.histogram(values, bins=bins)
    return {"counts": counts.tolist(), "edges": [round(float(edge), 4) for edge in edges]}
