"""Classification metrics from labels and logits: NumPy alone, scikit-learn's definitions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from kerasllm.errors import JobError


def classification_report(
    labels: ArrayLike,
    logits: ArrayLike,
    label_names: Sequence[str],
    loss_weights: ArrayLike | None = None,
) -> dict[str, Any]:
    """Measures a classifier on one data set.

    The class with the greatest logit is the prediction, the first of them where several are equal.
    Every name in `label_names` is a class and counts in the macro averages, whether the data holds
    it or not; this is what scikit-learn does when `labels=` lists all classes. A ratio without a
    denominator is 0, as with `zero_division=0`: the precision of a class that was never predicted,
    the recall of a class without rows, the F1 of a class with neither.

    Args:
        labels: int, shape `(rows,)`. The true classes, as positions in `label_names`.
        logits: float, shape `(rows, classes)`. The model's outputs before the softmax.
        label_names: The names of the classes, in the order of the logits.
        loss_weights: float, shape `(classes,)`. The weight of each class in the loss, in the order
            of `label_names`. The loss is then the weighted mean over the rows,
            `sum(weight * loss) / sum(weight)`; nothing else is weighted. Defaults to `None`: every
            row weighs the same.

    Returns:
        A dictionary that `json.dumps` takes as it is:

        - `loss`: mean negative log-likelihood of the true classes, in nats.
        - `accuracy`, `mcc` (Matthews' correlation in Gorodkin's form for many classes, -1 to 1).
        - `macro_precision`, `macro_recall`, `macro_f1`: plain means over the classes.
        - `weighted_precision`, `weighted_recall`, `weighted_f1`: means over the classes, each
          weighted by its rows.
        - `per_class`: `{name: {"precision", "recall", "f1", "support"}}`, where `support` is the
          number of rows of the class.
        - `confusion_matrix`: a list of rows, one for each true class, of counts by predicted class.

    Raises:
        ValueError: When the shapes do not fit, there are no rows, or a label is out of range.
        JobError: When a logit is NaN or infinite, so that no metric would mean anything.

    Example:

    ```python
    report = classification_report([0, 1, 1], [[2.0, 0.0], [0.0, 1.0], [3.0, 0.0]], ["bad", "good"])
    report["accuracy"]  # 0.6666666666666666
    report["per_class"]["good"]  # {"precision": 1.0, "recall": 0.5, "f1": 0.666..., "support": 2}
    ```

    Reference: J. Gorodkin, "Comparing two K-category assignments by a K-category correlation
    coefficient", Computational Biology and Chemistry 28, 2004.
    """
    names = list(label_names)
    labels, logits = _checked(labels, logits, names)
    matrix = confusion_matrix(labels, logits.argmax(axis=1), len(names))

    correct = np.diag(matrix)
    support = matrix.sum(axis=1)
    predicted = matrix.sum(axis=0)
    by_class = {
        "precision": _ratio(correct, predicted),
        "recall": _ratio(correct, support),
        "f1": _ratio(2 * correct, support + predicted),
    }
    report: dict[str, Any] = {
        "loss": _loss(labels, logits, loss_weights),
        "accuracy": float(correct.sum() / support.sum()),
        "mcc": matthews_correlation(matrix),
    }
    for metric, values in by_class.items():
        report[f"macro_{metric}"] = float(values.mean())
        report[f"weighted_{metric}"] = float(np.average(values, weights=support))
    report["per_class"] = {
        name: {metric: float(values[i]) for metric, values in by_class.items()}
        | {"support": int(support[i])}
        for i, name in enumerate(names)
    }
    report["confusion_matrix"] = matrix.tolist()
    return report


def log_softmax(logits: ArrayLike) -> np.ndarray:
    """Logarithms of the softmax over the last axis, in float64, without overflow.

    Args:
        logits: float, any shape whose last axis is the classes.

    Returns:
        float64, the shape of `logits`. `np.exp` of it gives the probabilities.
    """
    logits = np.asarray(logits, np.float64)
    shifted = logits - logits.max(axis=-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))


def confusion_matrix(labels: np.ndarray, predictions: np.ndarray, num_classes: int) -> np.ndarray:
    """Counts the pairs of true and predicted class.

    Args:
        labels: int, shape `(rows,)`, each in `range(num_classes)`. The true classes.
        predictions: int, shape `(rows,)`, each in `range(num_classes)`. The predicted classes.
        num_classes: The number of classes.

    Returns:
        int64, shape `(num_classes, num_classes)`. Rows are true classes, columns predicted ones.
    """
    pairs = np.asarray(labels, np.int64) * num_classes + np.asarray(predictions, np.int64)
    return np.bincount(pairs, minlength=num_classes**2).reshape(num_classes, num_classes)


def matthews_correlation(matrix: np.ndarray) -> float:
    """Matthews' correlation coefficient for any number of classes, Gorodkin's R_K.

    Args:
        matrix: int, shape `(classes, classes)`. A confusion matrix.

    Returns:
        From -1 to 1, where 0 is no better than chance. It is 0 where the coefficient is not
        defined: all rows are of one class, or all predictions are.
    """
    # Python integers: the products of counts overflow int64 from some two thousand million rows.
    rows = int(matrix.sum())
    support = [int(count) for count in matrix.sum(axis=1)]
    predicted = [int(count) for count in matrix.sum(axis=0)]
    covariance = int(np.trace(matrix)) * rows - sum(s * p for s, p in zip(support, predicted))
    spread = (rows**2 - sum(s * s for s in support)) * (rows**2 - sum(p * p for p in predicted))
    return covariance / spread**0.5 if spread else 0.0


def _checked(
    labels: ArrayLike, logits: ArrayLike, names: list[str]
) -> tuple[np.ndarray, np.ndarray]:
    labels = np.asarray(labels)
    logits = np.asarray(logits, np.float64)
    if logits.ndim != 2 or logits.shape[1] != len(names) or len(set(names)) != len(names):
        raise ValueError(
            "logits must have the shape (rows, classes), with one distinct name for each class. "
            f"Received: logits of shape {logits.shape}, label_names={names}"
        )
    if labels.shape != logits.shape[:1] or not len(labels):
        raise ValueError(
            "labels and logits must have the same number of rows, at least one. "
            f"Received: labels of shape {labels.shape}, logits of shape {logits.shape}"
        )
    if not np.issubdtype(labels.dtype, np.integer):
        raise ValueError(f"labels must be integers. Received: {labels.dtype}")
    if labels.min() < 0 or labels.max() >= len(names):
        raise ValueError(
            f"labels must be from 0 to {len(names) - 1}. Received: {labels.min()} to {labels.max()}"
        )
    refuse_not_finite(logits)
    return labels, logits


def refuse_not_finite(outputs: np.ndarray) -> None:
    """Raises a `JobError` where outputs of a model, float `[rows, ...]`, are NaN or infinite."""
    outputs = np.asarray(outputs).reshape(len(outputs), -1)
    broken = np.flatnonzero(~np.isfinite(outputs).all(axis=1))
    if len(broken):
        raise JobError(
            f"The model's output is not finite for {len(broken):,} of {len(outputs):,} rows.",
            where=f"row {broken[0] + 1:,} of those evaluated is the first",
            fix="The weights have diverged: lower training.learning_rate, "
            "or try --set training.precision=float32.",
        )


def _loss(labels: np.ndarray, logits: np.ndarray, weights: ArrayLike | None) -> float:
    losses = -log_softmax(logits)[np.arange(len(labels)), labels]
    if weights is None:
        return float(losses.mean())
    weights = np.asarray(weights, np.float64)
    if weights.shape != logits.shape[1:]:
        raise ValueError(
            "loss_weights must have one weight for each class. "
            f"Received: shape {weights.shape} for {logits.shape[1]} classes"
        )
    return float(np.average(losses, weights=weights[labels]))


def _ratio(numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
    """Divides; 0 where the denominator is 0."""
    return np.divide(numerator, denominator, out=np.zeros(len(denominator)), where=denominator > 0)
