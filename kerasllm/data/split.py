"""A stratified split: rows held out for validation, each class in its proportion."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

_ROWS_AT_A_TIME = 1 << 16


def split_stratified(
    labels: Sequence | np.ndarray, fraction: float, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Splits rows in two, each class in proportion, the same way for the same seed.

    Each class gives `fraction` of its rows to validation, rounded so that the total is right: down
    first, then one more from the classes with the largest remainders. A class with two rows or
    more keeps at least one for training; a class with one row trains. Validation gets at least
    one row if any class can spare it and `fraction` is not 0.

    Args:
        labels: The label of each row: strings or integers.
        fraction: The part of the rows that validates, 0 <= fraction < 1.
        seed: Chooses the rows.

    Returns:
        The numbers of the rows that train and of those that validate: two sorted int64 arrays.

    Raises:
        ValueError: The fraction is not in its range.

    Example:
        >>> train, validation = split_stratified(["a", "a", "b", "b", "b", "b"], 1 / 3, seed=0)
        >>> len(train), len(validation)
        (4, 2)
    """
    if not 0 <= fraction < 1:
        raise ValueError(f"fraction must be at least 0 and below 1. Received: {fraction}")
    labels = np.asarray(labels)
    values, counts = np.unique(labels, return_counts=True)
    held_out = _held_out(counts, fraction)

    # Few bytes a row, whatever the labels are: there may be millions of rows.
    classes = np.empty(len(labels), np.min_scalar_type(len(values)))
    for start in range(0, len(labels), _ROWS_AT_A_TIME):
        part = slice(start, start + _ROWS_AT_A_TIME)
        classes[part] = np.searchsorted(values, labels[part])
    # Raw bits, since NumPy promises the same ones in every version; its shuffles it may change.
    order = np.lexsort((np.random.Philox(seed).random_raw(len(classes)), classes))
    validates = np.zeros(len(order), dtype=bool)
    for start, count in zip(np.cumsum(counts) - counts, held_out):
        validates[order[start : start + count]] = True
    return np.flatnonzero(~validates), np.flatnonzero(validates)


def _held_out(counts: np.ndarray, fraction: float) -> np.ndarray:
    """How many rows of each class validate, int64 `[classes]`, by largest remainder."""
    most = np.maximum(counts - 1, 0)
    # Rounded, so that 0.1 of 30 rows is 3 and not 3.0000000000000004.
    quotas = np.where(most > 0, np.round(counts * fraction, 9), 0)
    held_out = np.minimum(np.floor(quotas).astype(np.int64), most)
    total = int(round(counts[most > 0].sum() * fraction, 9) + 0.5)
    if fraction > 0:
        total = max(total, 1)
    can_give = np.flatnonzero(held_out < most)
    by_remainder = can_give[np.argsort(-(quotas - held_out)[can_give], kind="stable")]
    held_out[by_remainder[: max(total - held_out.sum(), 0)]] += 1
    return held_out
