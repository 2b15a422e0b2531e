"""The lengths that batches are padded to: few, and with little padding.

Where each length is compiled, all data sets take theirs from the same ones: another seed, another
split, another file finds what was compiled for the one before.
"""

from __future__ import annotations

import numpy as np

# Above this many distinct lengths the search for boundaries works on rounded lengths.
_MAX_DISTINCT_LENGTHS = 1024
# The same for rows with two lengths, which take the square of it.
_MAX_DISTINCT_SIDES = 256
# Rows that are processed together: what is computed of millions of rows takes a few bytes of each.
_ROWS_AT_A_TIME = 1 << 18
# The lengths that all data sets share: multiples of 2 up to 48, of 4 up to 96, and so on. Of
# movie_reviews 18 of them pad 4.4% of all tokens, where any 18 lengths pad 4.0%; multiples of 4
# would pad 5.7% at best, and multiples of 8 12%.
_FINEST, _FIRST_LENGTHS = 2, 24


def round_up(lengths: np.ndarray, most: int) -> np.ndarray:
    """Returns the smallest of the shared lengths that holds each length.

    Args:
        lengths: int `[rows]`.
        most: A length that no row has to be longer than, shared or not.

    Example:

    >>> round_up(np.array([3, 48, 49, 99]), 101).tolist()
    [4, 48, 52, 101]
    """
    longest = int(np.max(lengths, initial=1))
    shared = shared_lengths(longest)
    return np.minimum(shared, max(most, longest))[np.searchsorted(shared, lengths)]


def shared_lengths(longest: int) -> np.ndarray:
    """Returns the shared lengths up to the one that holds the longest row, int32, ascending."""
    found, step = [0], _FINEST
    while found[-1] < longest:
        if found[-1] == step * _FIRST_LENGTHS:
            step *= 2
        found.append(found[-1] + step)
    return np.array(found[1:], np.int32)


def bucket_boundaries(lengths: np.ndarray, count: int, longest: int | None = None) -> np.ndarray:
    """Chooses at most `count` padded lengths so that the fewest tokens are padding.

    The best boundaries are found by dynamic programming over the histogram of lengths, see
    `cheapest_lengths`.

    Args:
        lengths: int `[rows]`, tokens of each row.
        count: The most boundaries, and so the most shapes to compile.
        longest: The maximum number of tokens that a row may have; boundaries are then some of those
            that all data sets share, see `round_up`. Defaults to `None`: any.

    Returns:
        int32 array, ascending; the last one is the longest length (rounded up to a multiple
        where there are more than 1,024 distinct lengths).

    Example:

    >>> bucket_boundaries(np.array([3, 3, 4, 9, 10]), 2)
    array([ 4, 10], dtype=int32)
    """
    lengths = np.asarray(lengths)
    if not len(lengths):
        return np.array([1], dtype=np.int32)
    multiple = -(-int(lengths.max()) // _MAX_DISTINCT_LENGTHS)
    histogram = np.zeros(-(-int(lengths.max()) // multiple) + 1, np.int64)
    for start in range(0, len(lengths), _ROWS_AT_A_TIME):
        part = lengths[start : start + _ROWS_AT_A_TIME].astype(np.int64)
        histogram += np.bincount(-(-part // multiple), minlength=len(histogram))
    values = np.flatnonzero(histogram)
    rows, values = histogram[values], values * multiple
    if longest is not None:
        values, place = np.unique(round_up(values, longest), return_inverse=True)
        rows = np.bincount(place, weights=rows).astype(np.int64)
    return cheapest_lengths(values, rows, count)


def cheapest_lengths(
    values: np.ndarray, rows: np.ndarray, count: int, costs: np.ndarray | None = None
) -> np.ndarray:
    """Chooses at most `count` of some lengths, so that rows padded to them cost least.

    Args:
        values: Ascending lengths to choose from; the last one is chosen in any case.
        rows: How many rows are longer than the length before, and not longer than each.
        count: The maximum number of lengths.
        costs: What it costs to use each length, in tokens. Defaults to `None`: nothing.

    Returns:
        int32 array, ascending.
    """
    if costs is None and len(values) <= count:
        return values.astype(np.int32)
    before = np.concatenate([[0], np.cumsum(rows)])
    # tokens[i, j]: what rows of the lengths i..j cost when padded to values[j].
    tokens = ((before[None, 1:] - before[:-1, None]) * values[None, :]).astype(np.float64)
    if costs is not None:
        tokens += costs[None, :]
    tokens[np.tri(len(values), k=-1, dtype=bool)] = np.inf
    cost, choices, totals = tokens[0], [], [tokens[0, -1]]
    for _ in range(min(count, len(values)) - 1):
        # candidates[i, j]: the last bucket begins at length i and ends at j.
        candidates = np.concatenate([[0], cost[:-1]])[:, None] + tokens
        first = candidates.argmin(axis=0)
        choices.append(first)
        cost = candidates[first, np.arange(len(values))]
        totals.append(cost[-1])
    # Of equal ones the one with the most lengths.
    best = len(totals) - 1 - int(np.argmin(totals[::-1]))
    chosen, last = [], len(values) - 1
    for first in [*reversed(choices[:best]), np.zeros(len(values), dtype=np.int64)]:
        chosen.append(values[last])
        last = int(first[last]) - 1
        if last < 0:
            break
    return np.array(chosen[::-1], dtype=np.int32)


def bucket_pairs(lengths: np.ndarray, count: int) -> np.ndarray:
    """Chooses at most `count` pairs of padded lengths, so that few tokens are padding.

    The first pair holds every row. Each further one is the pair that then saves most, where every
    row takes the smallest pair that holds it. At the end each is chosen again, given the others.
    Up to 256 distinct lengths of a side are told apart.

    Args:
        lengths: int `[rows, 2]`, tokens of each row's source and target.
        count: The maximum number of pairs, and so the most shapes to compile.

    Returns:
        int32 `[pairs, 2]`, ascending; the last pair is the longest source and the longest target
        (rounded up to a multiple where there are more than 256 lengths).

    Example:

    >>> bucket_pairs(np.array([[4, 9], [4, 9], [10, 3], [10, 9]]), 2)
    array([[ 4,  9],
           [10,  9]], dtype=int32)
    """
    lengths = np.asarray(lengths)
    if not len(lengths):
        return np.array([[1, 1]], dtype=np.int32)
    longest = lengths.max(axis=0).astype(np.int64)
    multiples = np.maximum(-(-longest // _MAX_DISTINCT_SIDES), 1)
    sides = -(-longest // multiples) + 1
    histogram = np.zeros(sides.prod(), np.int64)
    for start in range(0, len(lengths), _ROWS_AT_A_TIME):
        part = -(-lengths[start : start + _ROWS_AT_A_TIME].astype(np.int64) // multiples)
        histogram += np.bincount(part[:, 0] * sides[1] + part[:, 1], minlength=len(histogram))
    histogram = histogram.reshape(sides)
    # Every pair of lengths, [sides, 2]; in the order of the histogram.
    pairs = np.stack(np.meshgrid(*map(np.arange, sides), indexing="ij"), axis=-1) * multiples
    flat, tokens = pairs.reshape(-1, 2), pairs.sum(axis=-1)

    def with_best(chosen: list[np.ndarray]) -> list[np.ndarray]:
        """Adds the pair that saves most tokens, if one saves any."""
        bucket = bucket_of(flat, np.array(chosen)).reshape(sides)
        saved = np.zeros(sides, np.int64)
        for number, pair in enumerate(chosen):
            rows = np.where(bucket == number, histogram, 0).cumsum(axis=0).cumsum(axis=1)
            saved += rows * np.maximum(pair.sum() - tokens, 0)
        return [*chosen, flat[saved.argmax()]] if saved.max() else chosen

    chosen = [flat[-1]]
    for _ in range(count - 1):
        chosen = with_best(chosen)
    for _ in chosen[1:]:
        # The oldest one goes: it was chosen before the others were known.
        chosen = with_best([chosen[0], *chosen[2:]])
    return np.unique(np.array(chosen, np.int32), axis=0)


def bucket_of(lengths: np.ndarray, boundaries: np.ndarray) -> np.ndarray:
    """Returns the number of the smallest of the boundaries that holds each length, or pair."""
    if boundaries.ndim == 1:
        return np.searchsorted(boundaries, lengths)
    fewest, found = np.full(len(lengths), np.iinfo(np.int64).max), np.zeros(len(lengths), np.int64)
    for number, (boundary, tokens) in enumerate(zip(boundaries, boundaries.sum(axis=1))):
        better = (lengths[:, 0] <= boundary[0]) & (lengths[:, 1] <= boundary[1])
        better &= tokens < fewest
        fewest[better], found[better] = tokens, number
    return found
