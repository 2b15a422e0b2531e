"""Faithfulness of word scores: deletion and insertion curves.

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
        orders: How many random orders are compared: half are drawn, and half are their reverses.
            Defaults to `10`.
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
    drawn = [random.permutation(words) for _ in range(orders // 2)]
    counts = np.unique(np.linspace(0, words, min(words, _POINTS) + 1).round().astype(int))
    # For each order and count: which words are among the first ones.
    ranks = np.argsort([ranked, *drawn], axis=1)
    first = ranks[:, None, :] < counts[None, 1:-1, None]
    values = path.with_words(np.concatenate([~first, first]).reshape(-1, words))
    if abs(whole - none) <= _LEAST_MOVED * np.ptp([whole, none, *values]):
        return None
    curves = np.empty((2, len(first), len(counts)))
    curves[0, :, 0] = curves[1, :, -1] = whole
    curves[0, :, -1] = curves[1, :, 0] = none
    curves[:, :, 1:-1] = values.reshape(2, len(first), -1)
    curves = (curves - none) / (whole - none)
    # By the trapezoidal rule.
    deletion, insertion = ((curves[..., 1:] + curves[..., :-1]) / 2) @ (np.diff(counts) / words)
    # To put words back in an order is to take them away in the reverse order, read backwards: so
    # both areas of an order are also those of its reverse, with their names exchanged.
    by_chance = np.concatenate([deletion[1:], insertion[1:]])
    return Faithfulness(
        deletion=float(deletion[0]),
        insertion=float(insertion[0]),
        random=float(by_chance.mean()),
        random_std=float(by_chance.std()),
        orders=len(by_chance),
    )
