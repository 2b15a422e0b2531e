"""The uncertainty of metrics: bootstrap intervals, and tests of differences; NumPy alone."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np

RESAMPLES = 1000
"""How often the rows are drawn again, with replacement."""
LEVEL = 0.95
"""The share of resamples that an interval holds."""
SEED = 0

# What measures rows that are drawn again: from how often each was drawn, the metrics.
Measure = Callable[[np.ndarray], Mapping[str, float]]


def bootstrap(
    measure: Measure, rows: int, *, resamples: int = RESAMPLES, seed: int = SEED
) -> dict[str, np.ndarray]:
    """Measures rows again and again, each time as many of them drawn with replacement.

    No row is copied: a resample is how often each row was drawn. What two models get of the same
    seed and rows are paired.

    Args:
        measure: Takes float64 `[rows]`, how often each row counts, and returns metrics by name.
        rows: How many rows there are, at least 1.
        resamples: How often. Defaults to `1000`.
        seed: The seed of the draws. Defaults to `0`.

    Returns:
        float64 `[resamples]` of each metric, by name.

    Reference:
        Efron, "Bootstrap methods: another look at the jackknife", Annals of Statistics 7, 1979.

    Example:

    >>> right = np.array([1, 1, 1, 0])
    >>> values = bootstrap(lambda drawn: {"accuracy": drawn @ right / drawn.sum()}, len(right))
    >>> interval(values["accuracy"])
    (0.25, 1.0)
    """
    random = np.random.default_rng(seed)
    found: dict[str, np.ndarray] = {}
    for number in range(resamples):
        drawn = np.bincount(random.integers(0, rows, rows), minlength=rows).astype(np.float64)
        for name, value in measure(drawn).items():
            found.setdefault(name, np.zeros(resamples))[number] = value
    return found


def weighted_sum(drawn: np.ndarray, values: np.ndarray) -> float:
    """Returns the sum of values, each so many times.

    Not by `@`: where other work takes the cores, BLAS waits for its threads longer than it adds.
    """
    return float(np.einsum("i,i->", drawn, values))


def interval(values: np.ndarray, level: float = LEVEL) -> tuple[float, float]:
    """Returns the percentile interval of what `bootstrap` gave of a metric.

    Args:
        values: float `[resamples]`.
        level: The share of them that is within. Defaults to `0.95`.
    """
    tail = (1 - level) / 2
    low, high = np.quantile(values, [tail, 1 - tail])
    return float(low), float(high)


def paired_p(differences: np.ndarray) -> float:
    """Returns the two-sided p-value of a difference, from its bootstrap.

    Twice the smaller share of resamples on either side of no difference, one resample added to
    both, so that it is never 0.

    Args:
        differences: float `[resamples]`, of one model less the other on the same draws.

    Reference:
        Davison and Hinkley, "Bootstrap methods and their application", 1997, section 4.2.
    """
    count = len(differences)
    below = (np.sum(differences <= 0) + 1) / (count + 1)
    above = (np.sum(differences >= 0) + 1) / (count + 1)
    return float(min(1.0, 2 * min(below, above)))


def mcnemar(one_alone: int, other_alone: int) -> float:
    """Returns the exact two-sided p-value of McNemar's test.

    Args:
        one_alone: Rows that the first model alone has right.
        other_alone: Rows that the second model alone has right.

    Reference:
        McNemar, "Note on the sampling error of the difference between correlated proportions or
        percentages", Psychometrika 12, 1947; exact: the sign test on the rows that differ.

    Example:

    >>> round(mcnemar(1, 8), 4)
    0.0391
    """
    count, least = one_alone + other_alone, min(one_alone, other_alone)
    if not count:
        return 1.0
    logs = _log_factorials(count)
    taken = np.arange(least + 1)
    terms = logs[count] - logs[taken] - logs[count - taken] - count * math.log(2)
    return float(min(1.0, 2 * np.exp(terms).sum()))


def wilson(wrong: int, rows: int, z: float = 1.959964) -> tuple[float, float]:
    """Returns the 95% interval of a share.

    Args:
        wrong: How many.
        rows: Of how many, at least 1.
        z: The quantile of the normal distribution. Defaults to that of 95%.

    Reference:
        Wilson, "Probable inference, the law of succession, and statistical inference", Journal of
        the American Statistical Association 22, 1927.
    """
    share = wrong / rows
    scale = 1 + z * z / rows
    middle = (share + z * z / (2 * rows)) / scale
    half = z / scale * math.sqrt(share * (1 - share) / rows + z * z / (4 * rows * rows))
    return max(0.0, middle - half), min(1.0, middle + half)


def more_wrong(wrong: int, rows: int, all_wrong: int, all_rows: int) -> float:
    """Returns the one-sided p-value of Fisher's exact test that a group has a higher error rate.

    Args:
        wrong: Rows of the group that are wrong.
        rows: Rows of the group.
        all_wrong: All rows that are wrong.
        all_rows: All rows.

    Example:

    >>> round(more_wrong(8, 10, 20, 100), 6)
    1.3e-05
    """
    logs = _log_factorials(all_rows)

    def choose(total: int, taken: np.ndarray) -> np.ndarray:
        return logs[total] - logs[taken] - logs[total - taken]

    taken = np.arange(wrong, min(rows, all_wrong) + 1)
    taken = taken[rows - taken <= all_rows - all_wrong]
    terms = (
        choose(all_wrong, taken)
        + choose(all_rows - all_wrong, rows - taken)
        - choose(all_rows, np.array(rows))
    )
    return float(min(1.0, np.exp(terms).sum()))


def higher_mean(values: np.ndarray, rest: np.ndarray) -> float:
    """Returns the one-sided p-value of Welch's test that a group has a higher mean than the rest.

    With the normal distribution, so for groups of dozens of rows.

    Args:
        values: float `[rows]`, of the group; at least 2.
        rest: float `[rows]`, of all others; at least 2.
    """
    spread = values.var(ddof=1) / len(values) + rest.var(ddof=1) / len(rest)
    if not spread:
        return 1.0
    return 0.5 * math.erfc((values.mean() - rest.mean()) / math.sqrt(2 * spread))


def welch_p(one: np.ndarray, other: np.ndarray) -> float | None:
    """Returns the two-sided p-value of Welch's t-test of two means, as those of several seeds.

    Where one of them is a single value, it is as spread as the others are.

    Args:
        one: float `[values]`.
        other: float `[values]`; one of the two has at least 2.

    Returns:
        The p-value; `None` where nothing tells how spread the values are.

    Example:

    >>> round(welch_p(np.array([1.0, 2.0, 3.0]), np.array([2.0, 3.0, 4.0])), 4)
    0.2879
    """
    spreads = [each.var(ddof=1) if len(each) > 1 else None for each in (one, other)]
    known = [spread for spread in spreads if spread is not None]
    if not known:
        return None
    parts = [
        (known[0] if spread is None else spread) / len(each)
        for spread, each in zip(spreads, (one, other), strict=True)
    ]
    apart = float(abs(one.mean() - other.mean()))
    if not sum(parts):
        return 1.0 if apart < 1e-12 else None
    weights = [
        part**2 / (len(each) - 1) for part, each in zip(parts, (one, other)) if len(each) > 1
    ]
    # Of one value, the freedom is that of the others whose spread it takes.
    both = len(weights) == 2
    freedom = sum(parts) ** 2 / sum(weights) if both else max(len(one), len(other)) - 1
    return student_tail(apart / math.sqrt(sum(parts)), freedom)


def student_tail(t: float, freedom: float) -> float:
    """Returns how likely Student's t is at least so far from 0."""
    # With t = sqrt(freedom) tan(angle) the density is a power of the cosine.
    angles = np.linspace(0, math.pi / 2, 20_001)
    density = np.cos(angles) ** (freedom - 1)
    shares = np.concatenate([[0.0], np.cumsum((density[1:] + density[:-1]) / 2)])
    return float(1 - np.interp(math.atan(t / math.sqrt(freedom)), angles, shares / shares[-1]))


def holm(p_values: Sequence[float]) -> list[float]:
    """Returns p-values of several tests, corrected so that all of them together err as one.

    Reference:
        Holm, "A simple sequentially rejective multiple test procedure", Scandinavian Journal of
        Statistics 6, 1979.

    Example:

    >>> holm([0.01, 0.04, 0.03])
    [0.03, 0.06, 0.06]
    """
    order = np.argsort(p_values, kind="stable")
    corrected, highest = [0.0] * len(order), 0.0
    for number, place in enumerate(order):
        highest = max(highest, min(1.0, (len(order) - number) * p_values[place]))
        corrected[place] = highest
    return corrected


def _log_factorials(most: int) -> np.ndarray:
    """Returns the logarithms of the factorials of 0 to a number."""
    return np.concatenate([[0.0], np.cumsum(np.log(np.arange(1, most + 1)))])
