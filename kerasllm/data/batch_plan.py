"""Which rows go into which batch, and how long that batch is: known before the first step.

A plan is a pure function of the rows' lengths, the seed and the epoch. The number of steps, the
padding and the shapes that will be compiled can therefore be shown before training starts, a
worker finds its share of a global batch by arithmetic, and a resumed training starts at batch `k`.

Rows that a decoder reads besides an encoder have two lengths, that of the source and that of the
target. A batch of them has two widths.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

# Above this many distinct lengths the search for boundaries works on rounded lengths.
_MAX_DISTINCT_LENGTHS = 1024
# Rows that are processed together: what is computed of millions of rows takes a few bytes of each.
_ROWS_AT_A_TIME = 1 << 18
# The same for rows with two lengths, which take the square of it.
_MAX_DISTINCT_SIDES = 256

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
        buckets: The most lengths, or pairs of lengths, that batches are padded to.
        seed: Seed of the shuffles; `None` sorts by length, which pads least and is for evaluation.
            Defaults to `None`.
        pad_to: One length that every batch is padded to; or a pair, of source and target.
            Defaults to `None`: the best lengths for these rows, see `bucket_boundaries` and
            `bucket_pairs`.

    Attributes:
        batch_size: As given.
        boundaries: int32 `[buckets]`, the lengths that batches are padded to; int32 `[buckets, 2]`
            of rows with two lengths. The last one holds every row.
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
    ):
        self._lengths = np.asarray(lengths)
        self.batch_size = batch_size
        self._seed = seed
        choose = bucket_boundaries if self._lengths.ndim == 1 else bucket_pairs
        if pad_to is None:
            self.boundaries = choose(self._lengths, buckets)
        else:
            shape = (1, *self._lengths.shape[1:])
            self.boundaries = np.broadcast_to(np.int32(pad_to), shape).copy()
        self.steps = -(-len(self._lengths) // batch_size)
        # The pipeline, the progress and the summary ask for the same one.
        self._last: tuple[int, BatchPlan] | None = None

    def __call__(self, epoch: int = 0) -> BatchPlan:
        """Returns the batches of an epoch."""
        last = self._last
        if last is None or last[0] != epoch:
            self._last = None
            plan = plan_batches(
                self._lengths, self.batch_size, self.boundaries, seed=self._seed, epoch=epoch
            )
            last = self._last = (epoch, plan)
        return last[1]

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
) -> BatchPlan:
    """Plans one epoch: rows of like length share a batch, so that little is padded.

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

    Returns:
        A `BatchPlan` in which every row stands once. A batch that straddles two buckets is padded
        to the longer one (to the smallest pair that holds all of its rows); the last batch of the plan holds what is left over.

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
            rows, lambda part: _bucket_of(lengths[part], boundaries), len(boundaries) - 1
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
    return BatchPlan(
        order=order,
        starts=starts,
        widths=boundaries[_bucket_of(longest, boundaries)].astype(np.int32),
        batch_size=batch_size,
        real_tokens=real_tokens,
    )


def _as_width(width: np.ndarray) -> Width:
    return int(width) if np.ndim(width) == 0 else tuple(width.tolist())


def _bucket_of(lengths: np.ndarray, boundaries: np.ndarray) -> np.ndarray:
    """Returns the number of the smallest of the boundaries that holds each length, or pair."""
    if boundaries.ndim == 1:
        return np.searchsorted(boundaries, lengths)
    fewest, found = np.full(len(lengths), np.iinfo(np.int64).max), np.zeros(len(lengths), np.int64)
    for number, (boundary, tokens) in enumerate(zip(boundaries, boundaries.sum(axis=1))):
        better = (lengths[:, 0] <= boundary[0]) & (lengths[:, 1] <= boundary[1])
        better &= tokens < fewest
        fewest[better], found[better] = tokens, number
    return found


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
    lengths = np.asarray(lengths)
    if not len(lengths):
        return np.array([1], dtype=np.int32)
    longest = int(lengths.max())
    multiple = -(-longest // _MAX_DISTINCT_LENGTHS)
    histogram = np.zeros(-(-longest // multiple) + 1, np.int64)
    for start in range(0, len(lengths), _ROWS_AT_A_TIME):
        part = lengths[start : start + _ROWS_AT_A_TIME].astype(np.int64)
        histogram += np.bincount(-(-part // multiple), minlength=len(histogram))
    values = np.flatnonzero(histogram)
    rows, values = histogram[values], values * multiple
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


def bucket_pairs(lengths: np.ndarray, count: int) -> np.ndarray:
    """Chooses at most `count` pairs of padded lengths, so that few tokens are padding.

    The first pair holds every row. Each further one is the pair that then saves most, where every
    row takes the smallest pair that holds it. At the end each is chosen again, given the others.
    Up to 256 distinct lengths of a side are told apart.

    Args:
        lengths: int `[rows, 2]`, tokens of each row's source and target.
        count: The most pairs, and so the most shapes to compile.

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
        bucket = _bucket_of(flat, np.array(chosen)).reshape(sides)
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
