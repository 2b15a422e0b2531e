"""Which rows go into which batch, and how long that batch is: known before the first step.

A plan is a pure function of the rows' lengths, the seed and the epoch. The number of steps, the
padding and the shapes that will be compiled can therefore be shown before training starts, a
worker finds its share of a global batch by arithmetic, and resuming is to start at batch `k`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

# Above this many distinct lengths the search for boundaries works on rounded lengths.
_MAX_DISTINCT_LENGTHS = 1024


@dataclass(frozen=True, eq=False)
class BatchPlan:
    """The batches of one pass over the data.

    Attributes:
        order: int64 `[rows]`, the rows in the order in which they are used.
        starts: int64 `[steps + 1]`; batch `k` holds `order[starts[k]:starts[k + 1]]`.
        widths: int32 `[steps]`, the length in tokens that batch `k` is padded to.
        batch_size: Rows of a full batch. Only the last batch of a plan may have fewer.
        real_tokens: int64 `[steps]`, the tokens of batch `k` that are not padding.
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
        return self.order[self.starts[step] : self.starts[step + 1]]

    @property
    def shapes(self) -> list[int]:
        """The distinct widths, ascending: each is a shape to compile."""
        return [int(width) for width in np.unique(self.widths)]

    @property
    def processed_tokens(self) -> int:
        """Tokens that the model computes on, padding included."""
        return int((np.diff(self.starts) * self.widths.astype(np.int64)).sum())

    @property
    def padding(self) -> float:
        """The share of processed tokens that is padding, from 0 to 1."""
        processed = self.processed_tokens
        return 1.0 - float(self.real_tokens.sum()) / processed if processed else 0.0


class EpochPlans:
    """The plan of each epoch of a training: call it with the number of the epoch.

    Args:
        lengths: int `[rows]`, tokens of each row, special tokens included.
        batch_size: Rows of a batch.
        buckets: The most lengths that batches are padded to.
        seed: Seed of the shuffles; `None` sorts by length, which pads least and is for evaluation.
            Defaults to `None`.
        pad_to: One length that every batch is padded to. Defaults to `None`: the best lengths for
            these rows, see `bucket_boundaries`.

    Attributes:
        batch_size: As given.
        boundaries: int32, the lengths that batches are padded to.
        steps: Batches of an epoch.

    Example:

    >>> plans = EpochPlans(np.array([3, 9, 4, 8, 8]), batch_size=2, buckets=2, seed=0)
    >>> plans.steps, plans(0).shapes
    (3, [4, 9])
    """

    def __init__(
        self,
        lengths: np.ndarray,
        batch_size: int,
        buckets: int,
        *,
        seed: int | None = None,
        pad_to: int | None = None,
    ):
        self._lengths = np.asarray(lengths)
        self.batch_size = batch_size
        self._seed = seed
        if pad_to is None:
            self.boundaries = bucket_boundaries(self._lengths, buckets)
        else:
            self.boundaries = np.array([pad_to], dtype=np.int32)
        self.steps = -(-len(self._lengths) // batch_size)

    def __call__(self, epoch: int = 0) -> BatchPlan:
        """Returns the batches of an epoch."""
        return plan_batches(
            self._lengths, self.batch_size, self.boundaries, seed=self._seed, epoch=epoch
        )


def plan_batches(
    lengths: np.ndarray,
    batch_size: int,
    boundaries: np.ndarray,
    *,
    seed: int | None = None,
    epoch: int = 0,
) -> BatchPlan:
    """Plans one epoch: rows of like length share a batch, so that little is padded.

    With a seed, all rows are shuffled, then gathered into their buckets, cut into batches, and
    the batches are shuffled: every epoch has other batches in another order. Without a seed the
    rows are sorted by length, which pads least and is what evaluation and prediction use.

    Args:
        lengths: int `[rows]`, tokens of each row, special tokens included.
        batch_size: Rows of a batch.
        boundaries: Ascending lengths that batches are padded to; see `bucket_boundaries`. The
            last one must hold the longest row.
        seed: Seed of the shuffle, or `None` to sort by length. Defaults to `None`.
        epoch: Number of the epoch; each has its own shuffle. Defaults to `0`.

    Returns:
        A `BatchPlan` in which every row stands once. A batch that straddles two buckets is padded
        to the longer one; the last batch of the plan holds what is left over.

    Raises:
        ValueError: If a row is longer than the last boundary.

    Example:

    >>> plan = plan_batches(np.array([3, 9, 4, 8]), 2, np.array([4, 9]), seed=0)
    >>> len(plan), plan.shapes
    (2, [4, 9])
    """
    lengths = np.asarray(lengths, dtype=np.int64)
    boundaries = np.asarray(boundaries, dtype=np.int64)
    if len(lengths) and lengths.max() > boundaries[-1]:
        raise ValueError(
            f"A row is longer than the last boundary. Received: a row of {lengths.max()} tokens, "
            f"boundaries {boundaries.tolist()}"
        )
    if seed is None:
        order = np.argsort(lengths, kind="stable")
    else:
        generator = np.random.default_rng([seed, epoch])
        shuffled = generator.permutation(len(lengths))
        bucket = np.searchsorted(boundaries, lengths[shuffled])
        order = shuffled[np.argsort(bucket, kind="stable")]

    first_rows = np.arange(0, len(order), batch_size)
    if seed is not None and len(first_rows) > 1:
        # The short batch, if there is one, stays last: it is the only one of another size.
        full = len(order) // batch_size
        first_rows[:full] = generator.permutation(first_rows[:full])
    batches = [order[first : first + batch_size] for first in first_rows]
    sizes = np.array([len(batch) for batch in batches], dtype=np.int64)
    longest = np.array([lengths[batch].max() for batch in batches], dtype=np.int64)
    return BatchPlan(
        order=np.concatenate(batches) if batches else order,
        starts=np.concatenate([[0], np.cumsum(sizes)]),
        widths=boundaries[np.searchsorted(boundaries, longest)].astype(np.int32),
        batch_size=batch_size,
        real_tokens=np.array([lengths[batch].sum() for batch in batches], dtype=np.int64),
    )


def bucket_boundaries(lengths: np.ndarray, count: int) -> np.ndarray:
    """Chooses at most `count` padded lengths so that the fewest tokens are padding.

    The best boundaries are found by dynamic programming over the histogram of lengths:
    `cost[k][j]` is the least padding of all rows up to the `j`-th distinct length with `k`
    boundaries, the last of them being that length.

    Args:
        lengths: int `[rows]`, tokens of each row.
        count: The most boundaries, and so the most shapes to compile.

    Returns:
        int32 array, ascending; the last one is the longest length (rounded up to a multiple
        where there are more than 1,024 distinct lengths).

    Example:

    >>> bucket_boundaries(np.array([3, 3, 4, 9, 10]), 2)
    array([ 4, 10], dtype=int32)
    """
    lengths = np.asarray(lengths, dtype=np.int64)
    if not len(lengths):
        return np.array([1], dtype=np.int32)
    multiple = -(-int(lengths.max()) // _MAX_DISTINCT_LENGTHS)
    values, rows = np.unique(-(-lengths // multiple) * multiple, return_counts=True)
    if len(values) <= count:
        return values.astype(np.int32)
    before = np.concatenate([[0], np.cumsum(rows)])
    # tokens[i, j]: what rows of the distinct lengths i..j cost when padded to values[j].
    tokens = (before[None, 1:] - before[:-1, None]) * values[None, :]
    tokens = np.where(np.tri(len(values), k=-1, dtype=bool), np.iinfo(np.int64).max // 4, tokens)
    cost, choices = tokens[0], []
    for _ in range(count - 1):
        # candidates[i, j]: the last bucket begins at distinct length i and ends at j.
        candidates = np.concatenate([[0], cost[:-1]])[:, None] + tokens
        first = candidates.argmin(axis=0)
        choices.append(first)
        cost = candidates[first, np.arange(len(values))]
    chosen, last = [], len(values) - 1
    for first in [*reversed(choices), np.zeros(len(values), dtype=np.int64)]:
        chosen.append(values[last])
        last = int(first[last]) - 1
        if last < 0:
            break
    return np.array(chosen[::-1], dtype=np.int32)


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
