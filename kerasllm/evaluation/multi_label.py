"""Metrics of several labels a row, from probabilities: NumPy alone, scikit-learn's definitions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from kerasllm.evaluation.classification import refuse_not_finite

# So many candidates of a threshold are tried where there are more distinct probabilities.
_MOST_CANDIDATES = 1000
# The micro F1 on validation data from which thresholds are tuned.
_LEAST_F1 = 0.1


def multi_label_report(
    targets: ArrayLike,
    logits: ArrayLike,
    label_names: Sequence[str],
    thresholds: ArrayLike | None = None,
) -> dict[str, Any]:
    """Measures a classifier that gives each row any number of labels.

    A ratio without a denominator is 0, as with `zero_division=0` in scikit-learn; the F1 of a row
    without labels, to which none is given, is 0 on average over the samples too.

    Args:
        targets: bool or 0/1, shape `(rows, labels)`.
        logits: float, shape `(rows, labels)`, the outputs before the sigmoid.
        label_names: The names of the labels, in the order of the logits.
        thresholds: float, shape `(labels,)`: the probability from which on a label is given.
            Defaults to `None`: 0.5 for all.

    Returns:
        A dictionary that `json.dumps` takes as it is:

        - `loss`: mean binary cross-entropy of all labels of all rows, in nats.
        - `micro_f1`, `macro_f1`, `samples_f1`: over all decisions, the mean over the labels, and
          the mean over the rows; `micro_precision`, `micro_recall`.
        - `micro_f1_at_0.5`, `macro_f1_at_0.5`, `samples_f1_at_0.5`: with 0.5 for all labels, where
          thresholds are given.
        - `map`: mean over the labels that occur of the average precision.
        - `subset_accuracy`: the share of rows with exactly the right labels.
        - `per_class`: by name `precision`, `recall`, `f1`, `support`, `average_precision`,
          `threshold`.
        - `rows`.

    Raises:
        ValueError: If the shapes do not fit, or there are no rows.

    Example:

    >>> report = multi_label_report([[1, 0], [1, 1]], [[2.0, -1.0], [3.0, 0.5]], ["joy", "fear"])
    >>> report["micro_f1"]
    1.0
    """
    targets, logits = np.asarray(targets, bool), np.asarray(logits, np.float64)
    names = list(label_names)
    if targets.shape != logits.shape or targets.ndim != 2 or targets.shape[1] != len(names):
        raise ValueError(
            "targets and logits must have the shape (rows, labels), with one name for each label. "
            f"Received: targets {targets.shape}, logits {logits.shape}, {len(names)} names"
        )
    if not len(targets):
        raise ValueError("There must be at least one row.")
    refuse_not_finite(logits)
    chances = sigmoid(logits)
    own = np.full(len(names), 0.5) if thresholds is None else np.asarray(thresholds, np.float64)
    given = chances >= own
    report: dict[str, Any] = {"loss": binary_crossentropy(targets, logits)}
    report |= _f1_scores(targets, given)
    if thresholds is not None:
        at_half = _f1_scores(targets, chances >= 0.5)
        for name in ("micro_f1", "macro_f1", "samples_f1"):
            report[f"{name}_at_0.5"] = at_half[name]
    precisions = average_precision(targets, chances)
    report["map"] = float(np.nanmean(precisions)) if targets.any() else 0.0
    report["subset_accuracy"] = float((targets == given).all(axis=1).mean())
    precision, recall, f1 = _by_label(targets, given)
    report["per_class"] = {
        name: {
            "precision": float(precision[i]),
            "recall": float(recall[i]),
            "f1": float(f1[i]),
            "support": int(targets[:, i].sum()),
            "average_precision": None if np.isnan(precisions[i]) else float(precisions[i]),
            "threshold": float(own[i]),
        }
        for i, name in enumerate(names)
    }
    report["rows"] = len(targets)
    return report


def sigmoid(logits: ArrayLike) -> np.ndarray:
    """Returns `1 / (1 + exp(-logits))` in float64, without overflow."""
    logits = np.asarray(logits, np.float64)
    small = np.exp(-np.abs(logits))
    return np.where(logits >= 0, 1 / (1 + small), small / (1 + small))


def binary_crossentropy(targets: np.ndarray, logits: np.ndarray) -> float:
    """Returns the mean binary cross-entropy of logits, in nats."""
    losses = np.logaddexp(0, logits) - np.asarray(targets, np.float64) * logits
    return float(losses.mean())


def average_precision(targets: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """Returns the average precision of each label, float64 `[labels]`; NaN without a positive row.

    The sum over the distinct scores, from the highest on, of precision times the gain in recall,
    without interpolation.

    Args:
        targets: bool `[rows, labels]`.
        scores: float `[rows, labels]`.
    """
    found = np.full(targets.shape[1], np.nan)
    for label in np.flatnonzero(targets.any(axis=0)):
        order = np.argsort(-scores[:, label], kind="stable")
        hits = targets[order, label]
        # Rows of one score are ranked together.
        ends = np.flatnonzero(np.diff(scores[order, label], append=np.nan) != 0)
        true = np.cumsum(hits)[ends]
        precision, recall = true / (ends + 1), true / hits.sum()
        found[label] = np.sum(np.diff(recall, prepend=0.0) * precision)
    return found


def best_thresholds(targets: ArrayLike, probabilities: ArrayLike) -> np.ndarray:
    """Returns a threshold for each label that together have the best micro F1 on some rows.

    A label whose probabilities say little is not given to many rows to find a few: what that costs
    is weighed against all labels, and not against its own F1. Between two neighbouring
    probabilities all thresholds decide alike: the middle is taken. A label that no row has keeps
    0.5, as do labels on which no threshold is better than 0.5, and all labels where the best micro
    F1 is below 0.1: such a model has not learned them yet.

    Args:
        targets: bool `[rows, labels]`.
        probabilities: float `[rows, labels]`.

    Returns:
        float64 `[labels]`.

    Reference:
        An F-measure is optimal at the cost-sensitive decisions for its own value:
        [Parambath et al., 2014](https://arxiv.org/abs/1505.00199).

    Example:

    >>> best_thresholds([[1], [1], [0]], [[0.4], [0.3], [0.1]])
    array([0.2])
    """
    targets, chances = np.asarray(targets, bool), np.asarray(probabilities, np.float64)
    support = targets.sum(axis=0)
    curves = {label: _curve(targets[:, label], chances[:, label]) for label in support.nonzero()[0]}
    # Of labels that no row has: what they are given to at 0.5.
    given = int((chances[:, support == 0] >= 0.5).sum())
    chosen, f1 = dict.fromkeys(curves, 0), -1.0
    while True:
        true = sum(curves[label][2][at] for label, at in chosen.items())
        above = sum(curves[label][1][at] for label, at in chosen.items()) + given
        found = _ratio(2 * true, above + support.sum())
        if found <= f1:
            break
        f1 = found
        # Each label's own best decision, at this price of a row that it is given to.
        chosen = {
            label: int((2 * true - f1 * above).argmax())
            for label, (_, above, true) in curves.items()
        }
    thresholds = np.full(targets.shape[1], 0.5)
    if f1 >= _LEAST_F1:
        for label, at in chosen.items():
            thresholds[label] = curves[label][0][at]
    return thresholds


def _curve(targets: np.ndarray, chances: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns the thresholds that a label may have, 0.5 first, with the rows at or above each.

    Returns:
        The thresholds; how many rows are at or above each; how many of these have the label.
    """
    values = np.unique(chances)
    middles = (values[1:] + values[:-1]) / 2
    if len(middles) > _MOST_CANDIDATES:
        middles = np.quantile(middles, np.linspace(0, 1, _MOST_CANDIDATES))
    # The last one gives the label to no row.
    candidates = np.concatenate([[0.5], middles, [(values[-1] + 1) / 2]])
    ranked, positive = np.sort(chances), np.sort(chances[targets])
    above = len(ranked) - np.searchsorted(ranked, candidates)
    return candidates, above, len(positive) - np.searchsorted(positive, candidates)


def _f1_scores(targets: np.ndarray, given: np.ndarray) -> dict[str, float]:
    true = (targets & given).sum()
    precision = _ratio(true, given.sum())
    recall = _ratio(true, targets.sum())
    of_rows = _ratios(2 * (targets & given).sum(axis=1), targets.sum(axis=1) + given.sum(axis=1))
    return {
        "micro_f1": _ratio(2 * true, given.sum() + targets.sum()),
        "macro_f1": float(_by_label(targets, given)[2].mean()),
        "samples_f1": float(of_rows.mean()),
        "micro_precision": precision,
        "micro_recall": recall,
    }


def _by_label(targets: np.ndarray, given: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    true = (targets & given).sum(axis=0)
    support, predicted = targets.sum(axis=0), given.sum(axis=0)
    return (
        _ratios(true, predicted),
        _ratios(true, support),
        _ratios(2 * true, support + predicted),
    )


def _ratio(numerator, denominator) -> float:
    return float(numerator / denominator) if denominator else 0.0


def _ratios(numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
    return np.divide(numerator, denominator, out=np.zeros(len(denominator)), where=denominator > 0)
