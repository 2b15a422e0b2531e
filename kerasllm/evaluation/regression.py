"""Metrics of scores: NumPy alone, the definitions of scikit-learn and SciPy."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from kerasllm.evaluation.classification import refuse_not_finite


def regression_report(
    targets: ArrayLike, predictions: ArrayLike, std: float = 1.0
) -> dict[str, float | int]:
    """Measures predicted scores, in their own unit.

    Args:
        targets: float `[rows]`, the true scores.
        predictions: float `[rows]`.
        std: The standard deviation of the scores of the training data, in whose units the loss of
            the training is. Defaults to `1.0`.

    Returns:
        `loss` (mean squared error in units of `std`, as in the training), `mse`, `pearson`,
        `spearman`, `rmse`, `mae`, `r2` and `rows`. A correlation that is not defined, as all values
        are the same, is 0; so is R² then.

    Raises:
        ValueError: If the shapes differ, or there are no rows.

    Example:

    >>> round(regression_report([1.0, 2.0, 3.0], [1.0, 2.5, 2.5])["pearson"], 4)
    0.866
    """
    targets, predictions = (np.asarray(each, np.float64) for each in (targets, predictions))
    if targets.shape != predictions.shape or targets.ndim != 1 or not len(targets):
        raise ValueError(
            "targets and predictions must be of one length, at least 1. "
            f"Received: shapes {targets.shape} and {predictions.shape}"
        )
    refuse_not_finite(predictions)
    errors = predictions - targets
    squared = float(np.mean(errors**2))
    spread = float(np.mean((targets - targets.mean()) ** 2))
    return {
        "loss": squared / std**2,
        "mse": squared,
        "pearson": pearson(targets, predictions),
        "spearman": spearman(targets, predictions),
        "rmse": squared**0.5,
        "mae": float(np.abs(errors).mean()),
        "r2": 1 - squared / spread if spread else 0.0,
        "rows": len(targets),
    }


def pearson(one: np.ndarray, other: np.ndarray) -> float:
    """Returns Pearson's correlation of two series; 0 where it is not defined."""
    one, other = one - one.mean(), other - other.mean()
    scale = float(np.sqrt((one @ one) * (other @ other)))
    return float(one @ other) / scale if scale else 0.0


def spearman(one: np.ndarray, other: np.ndarray) -> float:
    """Returns Spearman's rank correlation of two series; 0 where it is not defined."""
    return pearson(_ranks(one), _ranks(other))


def _ranks(values: np.ndarray) -> np.ndarray:
    """Returns the rank of each value, the mean of their ranks for equal ones."""
    _, places, counts = np.unique(values, return_inverse=True, return_counts=True)
    return (np.cumsum(counts) - (counts - 1) / 2)[places]
