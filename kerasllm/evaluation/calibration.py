"""Calibration: whether predictions are right as often as their probabilities say."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from kerasllm.evaluation.classification import log_softmax

BINS = 15
"""Bins of the expected calibration error, as in Guo et al."""

_MOST_STEPS = 100


def calibration_report(
    correct: ArrayLike, confidence: ArrayLike, bins: int = BINS
) -> dict[str, Any]:
    """Returns the expected calibration error, and what a reliability diagram is drawn from.

    Args:
        correct: bool `[predictions]`, whether each was right.
        confidence: float `[predictions]`, the probability of each, from 0 to 1.
        bins: Bins of equal width. Defaults to `15`.

    Returns:
        `ece`, the mean over the predictions of the distance between accuracy and mean confidence
        of their bin; and `reliability`, of each bin that is not empty `confidence`, `accuracy`
        and `count`.

    Reference:
        [On calibration of modern neural networks](https://arxiv.org/abs/1706.04599)

    Example:

    >>> round(calibration_report([True, False], [0.9, 0.9])["ece"], 4)
    0.4
    """
    correct, confidence = np.asarray(correct, np.float64), np.asarray(confidence, np.float64)
    # (0, 1/n], (1/n, 2/n], ... as in the paper.
    places = np.clip(np.ceil(confidence * bins).astype(int) - 1, 0, bins - 1)
    counts = np.bincount(places, minlength=bins)
    there = counts > 0
    accuracy = np.bincount(places, correct, bins)[there] / counts[there]
    mean = np.bincount(places, confidence, bins)[there] / counts[there]
    weights = counts[there] / max(counts.sum(), 1)
    return {
        "ece": float(np.sum(weights * np.abs(accuracy - mean))),
        "reliability": [
            {"confidence": float(c), "accuracy": float(a), "count": int(n)}
            for c, a, n in zip(mean, accuracy, counts[there], strict=True)
        ],
    }


def best_temperature(logits: ArrayLike, targets: ArrayLike) -> float:
    """Returns the temperature that logits are divided by for the least cross-entropy.

    Args:
        logits: float `[rows, classes]`.
        targets: int `[rows]`, the true classes; or bool `[rows, labels]`, where each label is a
            decision of its own.

    Returns:
        A number above 0; 1 leaves the logits as they are. Where no row is decided wrongly it is not
        below 1: the likelihood would grow without end as the probabilities go to 0 and 1.

    Reference:
        Temperature scaling: [Guo et al., 2017](https://arxiv.org/abs/1706.04599), section 4.2.
    """
    logits, targets = np.asarray(logits, np.float64), np.asarray(targets)

    def loss(log_scale: float) -> float:
        scaled = logits * np.exp(log_scale)
        if targets.ndim == 2:
            return float(np.mean(np.logaddexp(0, scaled) - targets * scaled))
        return float(-log_softmax(scaled)[np.arange(len(targets)), targets].mean())

    # The loss is convex in the scale, and so has one minimum along its logarithm: golden section.
    low, high = np.log(1e-2), np.log(1e2)
    golden = (5**0.5 - 1) / 2
    one, other = high - golden * (high - low), low + golden * (high - low)
    of_one, of_other = loss(one), loss(other)
    for _ in range(_MOST_STEPS):
        if high - low < 1e-6:
            break
        if of_one <= of_other:
            high, other, of_other = other, one, of_one
            one = high - golden * (high - low)
            of_one = loss(one)
        else:
            low, one, of_one = one, other, of_other
            other = low + golden * (high - low)
            of_other = loss(other)
    best = (low + high) / 2
    if best > 0 and _all_right(logits, targets):
        return 1.0
    return float(np.exp(-best)) if loss(best) < loss(0.0) else 1.0


def _all_right(logits: np.ndarray, targets: np.ndarray) -> bool:
    if targets.ndim == 2:
        return bool(((logits > 0) == targets.astype(bool)).all())
    return bool((logits.argmax(axis=-1) == targets).all())
