"""Whether one recipe is better than another, from trainings with several seeds."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

# Of Student's t: 95% on both sides, by degrees of freedom.
_T = (12.71, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228)


@dataclass(frozen=True)
class Verdict:
    """How much better one recipe is than another, on the same seeds.

    Attributes:
        difference: The mean of the differences seed by seed; above 0 where the new one is better.
        margin: Half of its 95% confidence interval, by Student's t; infinite of a single seed.
    """

    difference: float
    margin: float

    @property
    def is_better(self) -> bool:
        """Whether the new one is better, and by more than the seeds explain."""
        return self.difference > self.margin

    @property
    def is_worse(self) -> bool:
        """Whether it is worse, and by more than the seeds explain."""
        return self.difference < -self.margin


def verdict(new: Sequence[float], old: Sequence[float], *, higher_is_better: bool) -> Verdict:
    """Compares the values of two recipes.

    Args:
        new: The values of the new one, one for each seed.
        old: Those of the other with the same seeds: the same split of the data, and the same order.
        higher_is_better: Whether more is better.

    Example:

    >>> verdict([0.86, 0.87, 0.85], [0.80, 0.82, 0.81], higher_is_better=True).is_better
    True
    """
    sign = 1 if higher_is_better else -1
    differences = [sign * (one - other) for one, other in zip(new, old, strict=True)]
    count = len(differences)
    margin = math.inf
    if count > 1:
        quantile = _T[count - 2] if count - 2 < len(_T) else 2.2
        margin = quantile * statistics.stdev(differences) / math.sqrt(count)
    return Verdict(statistics.fmean(differences), margin)


def mean_and_spread(values: Sequence[float]) -> tuple[float, float]:
    """Returns the mean and the standard deviation; 0 of a single value."""
    return statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else 0.0
