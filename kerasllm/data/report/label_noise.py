"""Labels that are likely wrong, by confident learning (Northcutt, Jiang and Chuang, 2021).

A model that was trained on other rows gives each row the probability of each label. A label counts
as confident where its probability is at least the mean that it has among the rows labelled with it.
A row whose most probable confident label is not its own is counted as an error; these are ranked by
how much more probable the other label is. https://arxiv.org/abs/1911.00068
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np

_FOLDS = 5
_STEPS = 300
_PENALTY = 1e-3
# A row of a label that no other fold has teaches nothing.
_FEWEST_OF_A_LABEL = 5


@dataclasses.dataclass(frozen=True, eq=False)
class LabelNoise:
    """Which labels are likely wrong.

    Args:
        rows: int64 `[errors]`, rows whose label is likely wrong, the most likely first.
        suggested: int64 `[errors]`, the label that each is more likely to have.
        joint: float64 `[labels, labels]`, how often a row has a label (row) and truly has another
            (column), as a share of all rows.
    """

    rows: np.ndarray
    suggested: np.ndarray
    joint: np.ndarray

    @property
    def share(self) -> float:
        """The estimated share of wrong labels."""
        return float(1 - np.trace(self.joint))


def confident_learning(probabilities: np.ndarray, labels: np.ndarray) -> LabelNoise:
    """Finds labels that are likely wrong by probabilities that a model gave unseen rows.

    Args:
        probabilities: float `[rows, labels]`, of each label of each row, out of sample.
        labels: int `[rows]`, the label that each row has.

    Example:

    >>> noise = confident_learning(np.array([[0.9, 0.1], [0.8, 0.2], [0.1, 0.9]]), [0, 1, 1])
    >>> noise.rows, noise.suggested
    (array([1]), array([0]))
    """
    labels = np.asarray(labels)
    rows, count = probabilities.shape
    counts = np.bincount(labels, minlength=count)
    own = probabilities[np.arange(rows), labels]
    thresholds = np.bincount(labels, own, count) / np.maximum(counts, 1)
    # A label that no row has is never confident.
    thresholds[counts == 0] = np.inf
    confident = probabilities >= thresholds
    likely = np.where(confident, probabilities, -1).argmax(1)
    some = confident.any(1)
    joint = np.zeros((count, count))
    np.add.at(joint, (labels[some], likely[some]), 1)
    # As many rows of each label as there are, whether or not they are confident.
    joint += np.diag((joint.sum(1) == 0) * 1.0)
    joint *= (counts / joint.sum(1))[:, None]
    wrong = np.flatnonzero(some & (likely != labels))
    margin = own[wrong] - probabilities[wrong, likely[wrong]]
    wrong = wrong[np.argsort(margin, kind="stable")]
    return LabelNoise(wrong, likely[wrong], joint / max(joint.sum(), 1))


def cross_validated(
    features: np.ndarray,
    labels: np.ndarray,
    *,
    folds: int = _FOLDS,
    seed: int = 0,
    notify: Callable[[str], None] | None = None,
) -> np.ndarray:
    """Returns the probabilities of each row's labels by models that did not see the row.

    The models are multinomial logistic regressions, and each fold has its share of each label.

    Args:
        features: float `[rows, features]`.
        labels: int `[rows]`, from 0.
        folds: How many parts the rows are cut into. Defaults to `5`.
        seed: Chooses the parts. Defaults to `0`.
        notify: Called with how far it is. Defaults to `None`.

    Returns:
        float64 `[rows, labels]`.
    """
    labels = np.asarray(labels)
    count = int(labels.max()) + 1
    features = (features - features.mean(0)) / np.maximum(features.std(0), 1e-6)
    features = np.concatenate([features, np.ones((len(features), 1))], 1).astype(np.float32)
    # Dealt out label by label, in a random order.
    order = np.lexsort((np.random.default_rng(seed).random(len(labels)), labels))
    fold = np.empty(len(labels), int)
    fold[order] = np.arange(len(labels)) % folds
    found = np.empty((len(labels), count))
    for number in range(folds):
        if notify:
            notify(f"learning the labels, part {number + 1} of {folds}")
        held = fold == number
        weights = _logistic_regression(features[~held], labels[~held], count)
        found[held] = _softmax(features[held] @ weights)
    return found


def enough_rows(labels: np.ndarray) -> np.ndarray:
    """Returns which rows have a label that enough other rows have too, bool `[rows]`."""
    return np.bincount(labels)[labels] >= _FEWEST_OF_A_LABEL


def _logistic_regression(features: np.ndarray, labels: np.ndarray, count: int) -> np.ndarray:
    """Returns the weights that minimize cross-entropy with an L2 penalty: `[features, labels]`.

    Nesterov's accelerated gradient with the step that the largest eigenvalue allows.
    """
    rows = len(features)
    targets = np.eye(count, dtype=np.float32)[labels]
    step = 1 / (0.5 * _largest_eigenvalue(features) / rows + _PENALTY)
    weights = ahead = np.zeros((features.shape[1], count), np.float32)
    for number in range(_STEPS):
        error = _softmax(features @ ahead) - targets
        gradient = features.T @ error / rows + _PENALTY * ahead
        before, weights = weights, (ahead - step * gradient).astype(np.float32)
        ahead = weights + number / (number + 3) * (weights - before)
    return weights


def _largest_eigenvalue(features: np.ndarray) -> float:
    vector = np.ones(features.shape[1], np.float32)
    for _ in range(20):
        vector = features.T @ (features @ (vector / np.linalg.norm(vector)))
    return float(np.linalg.norm(vector)) * 1.05


def _softmax(logits: np.ndarray) -> np.ndarray:
    exponents = np.exp(logits - logits.max(1, keepdims=True))
    return exponents / exponents.sum(1, keepdims=True)
