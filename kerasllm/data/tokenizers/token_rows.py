"""Rows of different lengths in flat arrays: where they start, and how they are moved."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

Tokenize = Callable[[Sequence[str]], tuple[np.ndarray, ...]]
"""From texts to arrays with an entry a token (ids; or ids and spans), and row offsets, int64."""


def places(
    source_starts: np.ndarray, target_starts: np.ndarray, lengths: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Returns for each token of some rows its place in one flat array, and in another.

    Args:
        source_starts: Where each row starts in the one array, int64 `[rows]`.
        target_starts: Where each row starts in the other array, int64 `[rows]`.
        lengths: How many tokens each row has, int64 `[rows]`.

    Returns:
        Two arrays int64 `[tokens]`.
    """
    starts = row_offsets(lengths)
    steps = np.arange(starts[-1])
    taken = steps + np.repeat(source_starts - starts[:-1], lengths)
    return taken, steps + np.repeat(target_starts - starts[:-1], lengths)


def as_one(array: np.ndarray) -> np.ndarray:
    """Shows the two numbers of a span as one, which NumPy copies several times faster."""
    return array.view(np.int64)[:, 0] if array.ndim == 2 else array


def copy_rows(
    source: np.ndarray,
    source_starts: np.ndarray,
    target: np.ndarray,
    target_starts: np.ndarray,
    lengths: np.ndarray,
) -> None:
    """Copies rows of one flat array to their places in another, with rows of any lengths.

    Args:
        source: The ids to copy from.
        source_starts: Where each row starts in `source`, int64 `[rows]`.
        target: The ids to copy into.
        target_starts: Where each row starts in `target`, int64 `[rows]`.
        lengths: How many ids each row has, int64 `[rows]`.
    """
    taken, placed = places(source_starts, target_starts, lengths)
    target[placed] = source[taken]


def merge_paths(
    texts: Sequence[str], taken: np.ndarray, path: Tokenize, other_path: Tokenize
) -> tuple[np.ndarray, ...]:
    """Tokenizes some texts one way and the others another way.

    Args:
        texts: The texts.
        taken: Which of them take the first path, bool `[len(texts)]`.
        path: From texts to what `_tokenize` or `_tokenize_spans` returns.
        other_path: The same for the others.

    Returns:
        What the paths return, for all texts.
    """
    if taken.all():
        return path(texts)
    if not taken.any():
        return other_path(texts)
    parts = []
    for rows, tokenize in (
        (np.flatnonzero(taken), path),
        (np.flatnonzero(~taken), other_path),
    ):
        parts.append((rows, *tokenize([texts[row] for row in rows])))
    lengths = np.empty(len(texts), np.int64)
    for rows, *_, starts in parts:
        lengths[rows] = np.diff(starts)
    offsets = row_offsets(lengths)
    merged = [np.empty((offsets[-1], *each.shape[1:]), np.int32) for each in parts[0][1:-1]]
    for rows, *columns, starts in parts:
        from_places, to_places = places(starts[:-1], offsets[rows], lengths[rows])
        for target, source in zip(merged, columns):
            as_one(target)[to_places] = as_one(source)[from_places]
    return *merged, offsets


def flatten(rows: Sequence[Sequence[int]]) -> tuple[np.ndarray, np.ndarray]:
    """Returns rows of ids one after the other, int32, and where each starts, int64 `[rows + 1]`."""
    offsets = row_offsets(np.fromiter(map(len, rows), np.int64, len(rows)))
    ids = np.empty(offsets[-1], np.int32)
    for row, start, end in zip(rows, offsets, offsets[1:]):
        ids[start:end] = row
    return ids, offsets


def row_offsets(lengths: np.ndarray) -> np.ndarray:
    """Returns where rows of some lengths start one after the other, int64 `[rows + 1]`."""
    offsets = np.zeros(len(lengths) + 1, np.int64)
    np.cumsum(lengths, out=offsets[1:])
    return offsets
