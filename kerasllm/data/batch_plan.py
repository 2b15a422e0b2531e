"""Which rows go into which batch, and how long that batch is: known before the first step.

A plan is a pure function of the rows' lengths, the seed and the epoch. The number of steps, the
padding and the shapes that will be compiled can therefore be shown before training starts, a
worker finds its share of a global batch by arithmetic, and a resumed training starts at batch `k`.

Rows that a decoder reads besides an encoder have two lengths, that of the source and that of the
target. A batch of them has two widths.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from kerasllm.data.padded_lengths import (
    bucket_boundaries,
    bucket_of,
    bucket_pairs,
)

# Rows that are processed together: what is computed of millions of rows takes a few bytes of each.
_ROWS_AT_A_TIME = 1 << 18

Width = int | tuple[int, int]
"""The length that a batch is padded to: an int, or a pair of source and target."""


@dataclass(frozen=True, eq=False)
class BatchPlan:
    """The batches of one pass over the data.

    Attributes:
        order: int32 `[rows]` (int64 of more than 2^31 rows), the rows in the order of their use.
        starts: int64 `[steps + 1]`; batch `k` holds `order[starts[k]:starts[k + 1]]`.
        widths: int32 `[steps]`, the length in tokens that batch `k` is padded to; int32
            `[steps, 2]`, source and target, of rows with two lengths.
        batch_size: Rows of a full batch. Only the last batch of a plan may have fewer.
        real_tokens: int64 `[steps]`, the tokens of batch `k` that are not padding; of source and
            target together.
    """

    order: np.ndarray
    starts: np.ndarray
    widths: np.ndarray
    batch_size: int
    real_tokens: np.ndarray

    def __len__(self) -> int:
        return len(self.widths)

    def rows(self, step: int) -> np.ndarray:
        """Returns the row numbers of batch `step`, int64 `[batch_size]` or fewer."""
        return self.order[self.starts[step] : self.starts[step + 1]].astype(np.int64)

    def width(self, step: int) -> Width:
        """Returns the length that batch `step` is padded to, or `(source, target)`."""
        return _as_width(self.widths[step])

    @property
    def shapes(self) -> list[Width]:
        """The distinct widths, ascending: each is a shape to compile."""
        return [_as_width(width) for width in np.unique(self.widths, axis=0)]

    @property
    def processed_tokens(self) -> int:
        """Tokens that the model computes on, padding included."""
        widths = self.widths.astype(np.int64)
        if widths.ndim == 2:
            widths = widths.sum(axis=1)
        return int((np.diff(self.starts) * widths).sum())

    @property
    def training_tokens(self) -> int:
        """Tokens that a training computes on: its last batch is padded to `batch_size` rows."""
        return self.batch_size * int(self.widths.astype(np.int64).sum())

    @property
    def padding(self) -> float:
        """The share of processed tokens that is padding, from 0 to 1."""
        processed = self.processed_tokens
        return 1.0 - float(self.real_tokens.sum()) / processed if processed else 0.0


class EpochPlans:
    """The plan of each epoch of a training: call it with the number of the epoch.

    Args:
        lengths: int `[rows]`, tokens of each row, special tokens included; or int `[rows, 2]`,
            those of its source and of its target.
        batch_size: Rows of a batch.
        buckets: The maximum number of lengths, or pairs of lengths, that batches are padded to.
        seed: Seed of the shuffles; `None` sorts by length, which pads least and is for evaluation.
            Defaults to `None`.
        pad_to: One length that every batch is padded to; or a pair, of source and target.
            Defaults to `None`: the best lengths for these rows, see `bucket_boundaries` and
            `bucket_pairs`.
        longest: The maximum number of tokens that a row may have. Lengths are then taken from those
            that all data sets share, up to it; see `kerasllm.data.padded_lengths.round_up`. Pairs
            are not. Defaults to `None`: those that pad least.

    Attributes:
        batch_size: As given.
        boundaries: int32 `[buckets]`, the lengths that batches are padded to; int32 `[buckets, 2]`
            of rows with two lengths. The last one holds every row.
        shared: Whether they are taken from those that all data sets share.
        steps: Batches of an epoch.

    Example:

    >>> plans = EpochPlans(np.array([3, 9, 4, 8, 8]), batch_size=2, buckets=2, seed=0)
    >>> plans.steps, plans(0).shapes
    (3, [4, 9])
    >>> EpochPlans(np.array([[3, 5], [9, 2]]), batch_size=1, buckets=2, seed=0)(0).shapes
    [(3, 5), (9, 5)]
    """

    def __init__(
        self,
        lengths: np.ndarray,
        batch_size: int,
        buckets: int,
        *,
        seed: int | None = None,
        pad_to: Width | None = None,
        longest: int | None = None,
    ):
        self._lengths = np.asarray(lengths)
        self.batch_size = batch_size
        self._seed = seed
        self._most = buckets
        self._fixed = pad_to
        self.steps = -(-len(self._lengths) // batch_size)
        self.share_lengths(longest)

    def share_lengths(self, longest: int | None) -> None:
        """Takes the lengths from those that all data sets share, or those that pad least.

        Args:
            longest: The maximum number of tokens that a row may have; `None`: those that pad least.
        """
        one_side = self._lengths.ndim == 1
        self.shared = longest is not None and self._fixed is None and one_side
        if self._fixed is not None:
            shape = (1, *self._lengths.shape[1:])
            self.boundaries = np.broadcast_to(np.int32(self._fixed), shape).copy()
        elif one_side:
            self.boundaries = bucket_boundaries(
                self._lengths, self._most, longest if self.shared else None
            )
        else:
            self.boundaries = bucket_pairs(self._lengths, self._most)
        # Which rows share a batch. What the batch is padded to may be chosen later.
        self._buckets = self.boundaries
        # The pipeline, the progress and the summary ask for the same one.
        self._last: tuple[int, BatchPlan] | None = None

    def __call__(self, epoch: int = 0) -> BatchPlan:
        """Returns the batches of an epoch."""
        last = self._last
        if last is None or last[0] != epoch:
            self._last = None
            plan = plan_batches(
                self._lengths,
                self.batch_size,
                self._buckets,
                seed=self._seed,
                epoch=epoch,
                pad_to=self.boundaries,
            )
            last = self._last = (epoch, plan)
        return last[1]

    def longest_of_batches(self) -> np.ndarray:
        """Returns the tokens of the longest row of each batch of the first epoch."""
        plan = self(0)
        ordered = self._lengths[plan.order]
        return np.maximum.reduceat(ordered, plan.starts[:-1]) if len(ordered) else ordered

    def pad_to(self, lengths: Sequence[int]) -> None:
        """Sets the lengths that batches are padded to; which rows share a batch stays.

        Args:
            lengths: Ascending; the last one holds every row.

        Raises:
            ValueError: If it does not.
        """
        longest = int(self._lengths.max(initial=1))
        if lengths[-1] < longest:
            raise ValueError(f"A row has {longest} tokens. Received: lengths={list(lengths)}")
        self.boundaries = np.asarray(lengths, np.int32)
        self._last = None

    @property
    def shapes(self) -> list[Width]:
        """The lengths of `boundaries` as `Rows.batch` takes them; the last one holds every row."""
        return [_as_width(width) for width in self.boundaries]


def plan_batches(
    lengths: np.ndarray,
    batch_size: int,
    boundaries: np.ndarray,
    *,
    seed: int | None = None,
    epoch: int = 0,
    pad_to: np.ndarray | None = None,
) -> BatchPlan:
    """Plans one epoch: rows of similar length share a batch, so that little is padded.

    With a seed, all rows are shuffled, then gathered into their buckets, cut into batches, and
    the batches are shuffled: every epoch has other batches in another order. Without a seed the
    rows are sorted by length, which pads least and is what evaluation and prediction use. Rows
    with two lengths are then sorted by their buckets, which is by source first.

    Args:
        lengths: int `[rows]`, tokens of each row, special tokens included; or int `[rows, 2]`,
            those of its source and of its target.
        batch_size: Rows of a batch.
        boundaries: Ascending lengths that batches are padded to; see `bucket_boundaries`. The
            last one must hold the longest row. Of rows with two lengths pairs, see `bucket_pairs`;
            the last one must hold the longest source and the longest target.
        seed: Seed of the shuffle, or `None` to sort by length. Defaults to `None`.
        epoch: Number of the epoch; each has its own shuffle. Defaults to `0`.
        pad_to: Lengths to pad to instead of `boundaries`, ascending; which rows share a batch
            does not depend on them. Defaults to `None`: `boundaries`.

    Returns:
        A `BatchPlan` in which every row stands once. A batch that straddles two buckets is padded
        to the longer one (to the smallest pair that holds all of its rows); the last batch of the
        plan holds what is left over.

    Raises:
        ValueError: If a row is longer than the last boundary.

    Example:

    >>> plan = plan_batches(np.array([3, 9, 4, 8]), 2, np.array([4, 9]), seed=0)
    >>> len(plan), plan.shapes
    (2, [4, 9])
    """
    lengths = np.asarray(lengths)
    boundaries = np.asarray(boundaries, dtype=np.int64)
    if len(lengths) and (lengths.max(axis=0) > boundaries[-1]).any():
        raise ValueError(
            "A row is longer than the last boundary. Received: "
            f"a row of {lengths.max(axis=0)} tokens, boundaries {boundaries.tolist()}"
        )
    rows = np.arange(len(lengths), dtype=index_dtype(len(lengths)))

    def by_bucket() -> np.ndarray:
        return _stable_order(
            rows, lambda part: bucket_of(lengths[part], boundaries), len(boundaries) - 1
        )

    if seed is None and lengths.ndim == 1:
        order = _stable_order(rows, lambda part: lengths[part], int(boundaries[-1]))
    elif seed is None:
        order = by_bucket()
    else:
        generator = np.random.default_rng([seed, epoch])
        generator.shuffle(rows)
        order = by_bucket()
        full = len(order) // batch_size
        if -(-len(order) // batch_size) > 1:
            # The short batch, if there is one, stays last: it is the only one of another size.
            shuffled = generator.permutation(full)
            cut = order[: full * batch_size].reshape(full, batch_size)
            order[: full * batch_size] = cut[shuffled].reshape(-1)
    steps = -(-len(order) // batch_size)
    starts = np.minimum(np.arange(steps + 1, dtype=np.int64) * batch_size, len(order))
    longest = np.empty((steps, *lengths.shape[1:]), np.int64)
    real_tokens = np.empty(steps, np.int64)
    together = max(_ROWS_AT_A_TIME // batch_size, 1)
    for first in range(0, steps, together):
        part = slice(first, min(first + together, steps))
        begin = starts[part]
        of_rows = lengths[order[begin[0] : begin[-1] + batch_size]].astype(np.int64)
        longest[part] = np.maximum.reduceat(of_rows, begin - begin[0])
        of_rows = of_rows.reshape(len(of_rows), -1).sum(axis=1)
        real_tokens[part] = np.add.reduceat(of_rows, begin - begin[0])
    widths = boundaries if pad_to is None else np.asarray(pad_to, dtype=np.int64)
    return BatchPlan(
        order=order,
        starts=starts,
        widths=widths[bucket_of(longest, widths)].astype(np.int32),
        batch_size=batch_size,
        real_tokens=real_tokens,
    )


def _as_width(width: np.ndarray) -> Width:
    return int(width) if np.ndim(width) == 0 else tuple(width.tolist())


def index_dtype(rows: int) -> np.dtype:
    """Returns the smaller of int32 and int64 that numbers so many rows."""
    return np.dtype(np.int32 if rows <= np.iinfo(np.int32).max else np.int64)


def _stable_order(
    rows: np.ndarray, key: Callable[[np.ndarray], np.ndarray], largest: int
) -> np.ndarray:
    """Returns rows sorted by a key from 0 to `largest`, those of one key in the order given.

    As `rows[np.argsort(key(rows), kind="stable")]`, which takes four times the memory of the rows.
    """
    starts = range(0, len(rows), _ROWS_AT_A_TIME)
    parts = [rows[start : start + _ROWS_AT_A_TIME] for start in starts]
    # In the smallest integers, which NumPy sorts by counting.
    keys = [key(part).astype(np.min_scalar_type(largest)) for part in parts]
    counts = [np.bincount(of_part, minlength=largest + 1) for of_part in keys]
    places = np.cumsum(sum(counts, np.zeros(largest + 1, np.int64)))
    order = np.empty_like(rows)
    # From the last part to the first: the place of a key's rows is filled from its end.
    for part, of_part, count in zip(parts[::-1], keys[::-1], counts[::-1]):
        in_part = part[np.argsort(of_part, kind="stable")]
        places -= count
        ends = np.cumsum(count)
        for value in np.flatnonzero(count):
            found = in_part[ends[value] - count[value] : ends[value]]
            order[places[value] : places[value] + len(found)] = found
    return order


def pad_rows(
    ids: np.ndarray, starts: np.ndarray, lengths: np.ndarray, width: int, pad_id: int
) -> np.ndarray:
    """Cuts rows out of one long array and pads them to one length.

    Args:
        ids: int32 `[tokens]`, the ids of all rows, one after the other.
        starts: int64 `[rows]`, where each wanted row begins.
        lengths: int `[rows]`, how many ids each has.
        width: The length to pad to, at least the longest row's.
        pad_id: The id to pad with.

    Returns:
        int32 `[rows, width]`.

    Example:

    >>> pad_rows(np.array([7, 8, 9]), np.array([1, 0]), np.array([2, 1]), 3, 0)
    array([[8, 9, 0],
           [7, 0, 0]])
    """
    positions = np.arange(width)
    real = positions < lengths[:, None]
    padded = np.full(real.shape, pad_id, dtype=ids.dtype)
    padded[real] = ids[(starts[:, None] + positions)[real]]
    return padded
