"""Whether scores of words are faithful to a model: its output as words go and come in their order.

Reference:
    V. Petsiuk, A. Das, K. Saenko, "RISE", 2018, https://arxiv.org/abs/1806.07421: deletion and
    insertion.
"""

from __future__ import annotations

import numpy as np

from kerasllm.explain.explanation import Faithfulness
from kerasllm.explain.path import Path

_ORDERS, _POINTS = 10, 10
_LEAST_MOVED = 0.1


def occlusion(path: Path) -> np.ndarray:
    """Returns how much lower the output is without each word, float64 `[words]`.

    Reference:
        M. Zeiler, R. Fergus, "Visualizing and Understanding Convolutional Networks", 2013,
        https://arxiv.org/abs/1311.2901.
    """
    kept = ~np.eye(path.count, dtype=bool)
    with_all = np.ones((1, path.count), bool)
    values = path.with_words(np.concatenate([with_all, kept]))
    return values[0] - values[1:]


def faithfulness_of(
    path: Path, scores: np.ndarray, *, orders: int = _ORDERS, seed: int = 0
) -> Faithfulness | None:
    """Returns the areas under the curves of deletion and insertion, beside those of chance.

    Args:
        path: The text and its baseline.
        scores: float `[words]`. Words that moved the output the way from the baseline to the text
            come first.
        orders: How many random orders are compared. Defaults to `10`.
        seed: Of the random orders. Defaults to `0`.

    Returns:
        The areas; `None` of fewer than two words, or where the whole text moves the output so
        much less than parts of it do that shares of it say nothing.
    """
    words = path.count
    if words < 2:
        return None
    whole, none = path.value, path.baseline_value
    random = np.random.default_rng(seed)
    ranked = np.argsort(-scores * np.sign(whole - none), kind="stable")
    all_orders = np.array([ranked, *(random.permutation(words) for _ in range(orders))])
    counts = np.unique(np.linspace(0, words, min(words, _POINTS) + 1).round().astype(int))
    # For each order and count: which words are among the first ones.
    ranks = np.argsort(all_orders, axis=1)
    first = ranks[:, None, :] < counts[None, :, None]
    values = path.with_words(np.concatenate([~first, first]).reshape(-1, words))
    if abs(whole - none) <= _LEAST_MOVED * np.ptp(values):
        return None
    areas = []
    for curve in ((values - none) / (whole - none)).reshape(2, len(all_orders), -1):
        # By the trapezoidal rule.
        areas.append(((curve[:, 1:] + curve[:, :-1]) / 2) @ (np.diff(counts) / words))
    (deletion, *deletions), (insertion, *insertions) = areas
    return Faithfulness(
        deletion=float(deletion),
        insertion=float(insertion),
        random_deletion=float(np.mean(deletions)),
        random_insertion=float(np.mean(insertions)),
        random_deletion_std=float(np.std(deletions)),
        random_insertion_std=float(np.std(insertions)),
        orders=orders,
    )
