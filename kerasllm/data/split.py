"""A stratified split: rows held out for validation, each class or label in its proportion."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

_ROWS_AT_A_TIME = 1 << 16
_CELLS_AT_A_TIME = 1 << 24
# Rows that are exchanged at the end, each time for the labels that are furthest from their share.
_SWAPS = 50


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

    # Few bytes per row for labels of any kind: there may be millions of rows.
    classes = np.empty(len(labels), np.min_scalar_type(len(values)))
    for start in range(0, len(labels), _ROWS_AT_A_TIME):
        part = slice(start, start + _ROWS_AT_A_TIME)
        classes[part] = np.searchsorted(values, labels[part])
    return _choose_rows(classes, counts, held_out, seed)


def split_label_sets(sets: np.ndarray, fraction: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Splits rows with several labels in two, each label in proportion, the same for a seed.

    Iterative stratification (Sechidis et al., 2011): the label with the fewest rows left gives its
    share of them first, so that the frequent labels can make up for what the rare ones leave. Rows
    with the same set of labels are taken alike. `fraction` of all rows, rounded, validate; a label
    keeps at least one row for training, so fewer do where nearly every row has a label that no
    other row has.

    Args:
        sets: uint8 `[rows, bytes]`, the labels of each row as bits, the first label in the highest
            bit of the first byte (`np.packbits`).
        fraction: The part of the rows that validates, 0 <= fraction < 1.
        seed: Chooses the rows.

    Returns:
        The numbers of the rows that train and of those that validate: two sorted int64 arrays.

    Raises:
        ValueError: The fraction is not in its range.

    Example:
        >>> sets = np.packbits([[1, 0], [1, 0], [0, 1], [0, 1], [1, 1], [1, 1]], axis=1)
        >>> train, validation = split_label_sets(sets, 1 / 3, seed=0)
        >>> len(train), len(validation)
        (4, 2)
    """
    if not 0 <= fraction < 1:
        raise ValueError(f"fraction must be at least 0 and below 1. Received: {fraction}")
    if not len(sets):
        return np.empty(0, np.int64), np.empty(0, np.int64)
    distinct, classes, counts = np.unique(sets, axis=0, return_inverse=True, return_counts=True)
    held_out = _LabelSets(distinct, counts).held_out(fraction, np.random.Philox(seed))
    return _choose_rows(classes.reshape(-1), counts, held_out, seed)


class _LabelSets:
    """Distinct sets of labels, and how many rows have each.

    Args:
        sets: uint8 `[sets, bytes]`, see `split_label_sets`.
        counts: int64 `[sets]`, the rows of each.
    """

    def __init__(self, sets: np.ndarray, counts: np.ndarray):
        self._counts = counts
        step = max(_CELLS_AT_A_TIME // (8 * sets.shape[1]), 1)
        pairs = [
            np.argwhere(np.unpackbits(sets[start : start + step], axis=1)) + (start, 0)
            for start in range(0, len(sets), step)
        ]
        self._owners, self._members = np.concatenate(pairs).T
        self._starts = np.searchsorted(self._owners, np.arange(len(sets) + 1))
        # The sets of each label, one label after the other.
        self._label_count = 8 * sets.shape[1]
        by_label = np.argsort(self._members, kind="stable")
        self._sets_of = self._owners[by_label]
        self._firsts = np.searchsorted(self._members[by_label], np.arange(self._label_count + 1))
        self._rows_of = self._label_rows(counts)

    def held_out(self, fraction: float, random: np.random.Philox) -> np.ndarray:
        """Returns how many rows of each set validate, int64 `[sets]`."""
        counts, held = self._counts, np.zeros(len(self._counts), np.int64)
        if not fraction:
            return held
        total = max(int(round(counts.sum() * fraction, 9) + 0.5), 1)
        # Of each label: rows that are not assigned, rows that should still validate.
        left, wanted = self._rows_of.copy(), self._rows_of * fraction
        free = np.ones(len(counts), bool)
        assigned = taken = 0
        while left.any():
            label = int(np.argmin(np.where(left > 0, left, np.iinfo(np.int64).max)))
            sets = self._sets_of[self._firsts[label] : self._firsts[label + 1]]
            sets = sets[free[sets]]
            rows = int(counts[sets].sum())
            # Up or down, whichever keeps the number of all rows right.
            share = max(float(np.round(wanted[label], 9)), 0.0)
            short = fraction * (assigned + rows) - taken - math.floor(share)
            validate = self._rows_of[label] * fraction - wanted[label]
            trains = self._rows_of[label] - rows - validate > 0.5
            most = rows if trains else rows - 1
            count = min(math.floor(share) + (share % 1 > 0 and short > 0.5), most)
            held[sets] = _spread(counts[sets], count, random)
            free[sets] = False
            left -= self._label_rows(counts, sets)
            wanted -= self._label_rows(held, sets)
            assigned, taken = assigned + rows, taken + count
        unlabelled = np.flatnonzero(free)
        if len(unlabelled):
            rows = int(counts[unlabelled].sum())
            # A set without labels takes what is missing.
            most = rows if assigned > taken else rows - 1
            held[unlabelled] = _spread(counts[unlabelled], min(max(total - taken, 0), most), random)
        self._correct(held, total, fraction, random)
        return held

    def _correct(
        self, held: np.ndarray, total: int, fraction: float, random: np.random.Philox
    ) -> None:
        """Moves the rows whose labels gain most by it, until each label trains and `total` is met.

        Changes `held`, int64 `[sets]`.
        """
        validate = self._label_rows(held)
        for label in np.flatnonzero((self._rows_of > 0) & (validate == self._rows_of)):
            sets = self._sets_of[self._firsts[label] : self._firsts[label + 1]]
            if validate[label] == self._rows_of[label]:
                one = sets[held[sets] > 0][:1]
                held[one] -= 1
                validate -= self._label_rows(np.ones_like(held), one)
        order = np.argsort(random.random_raw(len(held)), kind="stable")
        weight = 1 / np.maximum(self._rows_of, 1)
        wanted = self._rows_of * fraction

        def error() -> float:
            return float(weight @ (wanted - validate) ** 2)

        def move(sign: int) -> np.ndarray:
            """Adds a row to those that validate, or takes one, and returns its set, if any can."""
            cost = self._sum(weight * (1 - 2 * sign * (wanted - validate)))
            if sign > 0:
                last = (self._rows_of - validate <= 1).astype(float)
                possible = (held < self._counts) & (self._sum(last) == 0)
                # One row trains, though none has a label.
                possible &= held.sum() < self._counts.sum() - 1
            else:
                possible = held > 0
            cost[~possible] = np.inf
            best = order[[np.argmin(cost[order])]]
            return shift(best[possible[best]], sign)

        def shift(row: np.ndarray, sign: int) -> np.ndarray:
            nonlocal validate
            held[row] += sign
            validate = validate + sign * self._label_rows(np.ones_like(held), row)
            return row

        while missing := total - int(held.sum()):
            if not len(move(1 if missing > 0 else -1)):
                return
        for _ in range(_SWAPS):
            before = error()
            taken = move(-1)
            added = move(1)
            if error() >= before - 1e-9 or not len(added):
                shift(added, -1)
                shift(taken, 1)
                break

    def _label_rows(self, rows: np.ndarray, sets: np.ndarray | None = None) -> np.ndarray:
        """Returns the rows of each label, int64 `[labels]`, by the rows of all or some sets."""
        if sets is None:
            members, owners = self._members, self._owners
        else:
            sizes = self._starts[sets + 1] - self._starts[sets]
            owners = np.repeat(sets, sizes)
            before = np.repeat(np.cumsum(sizes) - sizes, sizes)
            members = self._members[self._starts[owners] + np.arange(len(owners)) - before]
        found = np.bincount(members, rows[owners], minlength=self._label_count)
        return found.astype(np.int64)

    def _sum(self, values: np.ndarray) -> np.ndarray:
        """Returns the sum of the values of each set's labels, float64 `[sets]`."""
        weights = values[self._members]
        return np.bincount(self._owners, weights, minlength=len(self._counts)).astype(float)


def _spread(counts: np.ndarray, count: int, random: np.random.Philox) -> np.ndarray:
    """Returns how many of `count` rows each set gives, int64 `[sets]`: one of each equal range."""
    if not count:
        return np.zeros(len(counts), np.int64)
    ends = np.cumsum(counts)
    edges = np.arange(count + 1) * int(ends[-1]) // count
    sizes = np.diff(edges)
    places = edges[:-1] + (random.random_raw(count) % sizes.astype(np.uint64)).astype(np.int64)
    return np.bincount(np.searchsorted(ends, places, side="right"), minlength=len(counts))


def _choose_rows(
    classes: np.ndarray, counts: np.ndarray, held_out: np.ndarray, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Returns the rows that train and those that validate, by how many of each class do."""
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
