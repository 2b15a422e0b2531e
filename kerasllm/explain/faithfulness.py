"""Faithfulness of word scores: deletion and insertion curves.

Reference:
    V. Petsiuk, A. Das, K. Saenko, "RISE", 2018, https://arxiv.org/abs/1806.07421: deletion and
    insertion.
"""

from __future__ import annotations

import numpy as np

from kerasllm.explain.explanation import Faithfulness
from kerasllm.explain.path import Path

_ORDERS = 10
# Steps in which words are taken away: in the order of their scores, and in random ones, of whose
# areas the mean counts.
_STEPS, _RANDOM_STEPS = 10, 5
_LEAST_MOVED = 0.1


def occlusion(path: Path) -> np.ndarray:
    """Returns how much lower the output is without each word, float64 `[words]`.

    Reference:
        M. Zeiler, R. Fergus, "Visualizing and Understanding Convolutional Networks", 2013,
        https://arxiv.org/abs/1311.2901.
    """
    return path.value - path.with_words(~np.eye(path.count, dtype=bool))


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
    sweeps = [_Sweep([ranked], _STEPS), _Sweep(drawn, _RANDOM_STEPS)]
    values = path.with_words(np.concatenate([sweep.kept for sweep in sweeps]))
    if abs(whole - none) <= _LEAST_MOVED * np.ptp([whole, none, *values]):
        return None
    of_ranked, of_drawn = np.split(values, [len(sweeps[0].kept)])
    (deletion,), (insertion,) = sweeps[0].areas(whole, none, of_ranked)
    # To put words back in an order is to take them away in the reverse order, read backwards: so
    # both areas of an order are also those of its reverse, with their names exchanged.
    by_chance = np.concatenate(sweeps[1].areas(whole, none, of_drawn))
    return Faithfulness(
        deletion=float(deletion),
        insertion=float(insertion),
        random=float(by_chance.mean()),
        random_std=float(by_chance.std()),
        orders=len(by_chance),
    )


class _Sweep:
    """Takes words away in some orders, and puts them back, in steps of about the same size.

    Args:
        orders: The words in each order, the first to go first.
        steps: The most steps.

    Attributes:
        kept: bool `[rows, words]`, the words that are there after each step but the last.
    """

    def __init__(self, orders: list[np.ndarray], steps: int):
        words = len(orders[0])
        self._counts = np.linspace(0, words, min(words, steps) + 1).round().astype(int)
        # For each order and count: which words are among the first ones.
        first = np.argsort(orders, axis=1)[:, None, :] < self._counts[None, 1:-1, None]
        self._orders = len(orders)
        self.kept = np.concatenate([~first, first]).reshape(-1, words)

    def areas(self, whole: float, none: float, values: np.ndarray) -> np.ndarray:
        """Returns the areas of deletion and of insertion, float64 `[2, orders]`.

        Args:
            whole: The output of the text.
            none: That of the baseline.
            values: That of each row of `kept`.
        """
        curves = np.empty((2, self._orders, len(self._counts)))
        curves[0, :, 0] = curves[1, :, -1] = whole
        curves[0, :, -1] = curves[1, :, 0] = none
        curves[:, :, 1:-1] = values.reshape(2, self._orders, -1)
        curves = (curves - none) / (whole - none)
        # By the trapezoidal rule.
        shares = np.diff(self._counts) / self._counts[-1]
        return ((curves[..., 1:] + curves[..., :-1]) / 2) @ shares
