"""The short check before each training, by the tokens of its rows: repeats, leaks, conflicts.

It reads the token store, not the texts: what is the same to the model is the same here. A million
rows take a second.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from kerasllm.data.stored_tokens import TokenStore
from kerasllm.plurals import counted

REFUSED_SHARE = 0.01
"""The share of the test rows that may be in the training data, by chance."""

# Shorter rows, such as a greeting, are the same by chance.
_FEWEST_TOKENS = 8
# Rows that were cut to fewer tokens may be the same up to there alone.
_FEWEST_CUT = 32
_PLACES = 3
# What is compared takes some 50 bytes a row for a moment.
_MOST_ROWS = 20_000_000
_A, _B, _C = (
    np.uint64(each) for each in (0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB)
)


@dataclasses.dataclass(frozen=True)
class Leak:
    """Rows of a part that are in the training data too.

    Args:
        part: The part.
        rows: How many of its rows.
        share: The share of its rows.
        places: `file:line` of some of them.
    """

    part: str
    rows: int
    share: float
    places: tuple[str, ...]

    def __str__(self) -> str:
        rows = counted(self.rows, f"{self.part} row is", f"{self.part} rows are")
        return f"{rows} in train too ({self.share:.1%})"


@dataclasses.dataclass(frozen=True)
class ShortCheck:
    """What was found before a training.

    Args:
        leaks: Leaks between the parts.
        duplicates: Training rows that repeat an earlier one.
        conflicts: Training rows whose text has other labels elsewhere.
        too_many: Whether there are so many rows that they were not compared.
    """

    leaks: tuple[Leak, ...] = ()
    duplicates: int = 0
    conflicts: int = 0
    too_many: bool = False

    @property
    def refused(self) -> list[Leak]:
        """The leaks by which what is measured at the end would be too good."""
        return [leak for leak in self.leaks if leak.part == "test" and leak.share > REFUSED_SHARE]

    def lines(self) -> list[str]:
        """Returns what to tell, in up to two lines."""
        if self.too_many:
            return [f"rows are not compared with each other: there are over {_MOST_ROWS:,}"]
        found = []
        if self.leaks:
            found.append(f"warning: {', '.join(map(str, self.leaks))}")
        repeats = []
        if self.duplicates:
            repeats.append(
                counted(self.duplicates, "training row repeats", "training rows repeat")
                + " an earlier one"
            )
        if self.conflicts:
            repeats.append(f"{self.conflicts:,} share their text with a row of another label")
        if repeats:
            found.append("; ".join(repeats))
        return found


def check_rows(parts: Mapping[str, Any], max_length: int | None = None) -> ShortCheck:
    """Compares the rows of the parts of a training.

    Args:
        parts: Rows by part, `train` among them; those that have a `store` and `store_rows`, the
            numbers of their rows in it, are compared.
        max_length: What longer rows were cut to. Defaults to `None`: none was cut.

    Example:

    >>> check_rows(data.parts).lines()
    ['warning: 12 test rows are in train too (1.2%)']
    """
    compared = {part: rows for part, rows in parts.items() if hasattr(rows, "store_rows")}
    if "train" not in compared:
        return ShortCheck()
    # Training and validation data may be of one store.
    stores = {rows.store.fingerprint: rows.store for rows in compared.values()}
    if sum(map(len, stores.values())) > _MOST_ROWS:
        return ShortCheck(too_many=True)
    of_store = {key: row_hashes(store, max_length) for key, store in stores.items()}
    hashes = {
        part: of_store[rows.store.fingerprint][rows.store_rows] for part, rows in compared.items()
    }
    train = hashes["train"]
    usable = np.flatnonzero(train)
    distinct, first, group = np.unique(train[usable], return_index=True, return_inverse=True)
    leaks = []
    for part, mine in hashes.items():
        if part == "train" or not len(mine):
            continue
        near = np.minimum(np.searchsorted(distinct, mine), len(distinct) - 1)
        rows = np.flatnonzero(distinct[near] == mine) if len(distinct) else ()
        if len(rows):
            store, numbers = parts[part].store, parts[part].store_rows
            places = (store.where(int(numbers[row])) for row in rows[:_PLACES])
            leaks.append(
                Leak(
                    part,
                    len(rows),
                    len(rows) / len(mine),
                    tuple(f"{file}:{line}" for file, line in places),
                )
            )
    conflicts = 0
    labels = getattr(parts["train"], "labels", None)
    if labels is not None and labels.dtype.kind in "iu":
        labels = labels[usable]
        group = group.reshape(-1)
        differ = labels != labels[first[group]]
        differ = differ.any(axis=1) if differ.ndim > 1 else differ
        conflicts = int(np.isin(group, group[differ]).sum())
    return ShortCheck(tuple(leaks), len(usable) - len(first), conflicts)


def row_hashes(store: TokenStore, max_length: int | None = None) -> np.ndarray:
    """Returns a number for the tokens of each row of a store, uint64; 0 for rows of few tokens.

    Args:
        store: The tokens.
        max_length: As for `check_rows`. Defaults to `None`.
    """
    found = []
    tokens = places = _mixed(0)
    for ids, offsets in store.batches():
        lengths = np.diff(offsets)
        if len(ids):
            tokens = _grown(tokens, int(ids.max()))
            places = _grown(places, int(lengths.max()))
        # A random number of the token times one of its place, and the sum of them.
        values = tokens[ids]
        values *= places[np.arange(1, len(ids) + 1) - np.repeat(offsets[:-1], lengths)]
        hashes = np.zeros(len(lengths), np.uint64)
        some = lengths > 0
        if some.any():
            hashes[some] = np.add.reduceat(values, offsets[:-1][some]) | np.uint64(1)
        hashes[lengths < _FEWEST_TOKENS] = 0
        if max_length is not None and max_length < _FEWEST_CUT:
            hashes[lengths >= max_length] = 0
        found.append(hashes)
    return np.concatenate(found) if found else np.empty(0, np.uint64)


def _grown(numbers: np.ndarray, largest: int) -> np.ndarray:
    return numbers if largest < len(numbers) else _mixed(2 * largest)


def _mixed(largest: int) -> np.ndarray:
    """Returns an odd random number for each number up to the largest, uint64 (SplitMix64)."""
    mixed = (np.arange(largest + 1, dtype=np.uint64) + np.uint64(1)) * _A
    mixed = (mixed ^ (mixed >> np.uint64(30))) * _B
    mixed = (mixed ^ (mixed >> np.uint64(27))) * _C
    return (mixed ^ (mixed >> np.uint64(31))) | np.uint64(1)
