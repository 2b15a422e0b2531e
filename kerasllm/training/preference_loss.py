"""Losses and metrics of preference tuning, on the log-probabilities of whole answers.

All take `y_true`, what the reference gives the chosen and the rejected answer of each pair, and
`y_pred`, what the model gives them: natural logarithms, float `[pairs, 2]`.
"""

from __future__ import annotations

import keras
import numpy as np
from keras import ops

LOSSES = ("sigmoid", "ipo", "hinge")


@keras.saving.register_keras_serializable(package="kerasllm")
class PreferenceLoss(keras.losses.Loss):
    """How little a model prefers the chosen answers, compared with a reference.

    With `h` the log-probability of chosen minus that of rejected, less the same of the reference:

    - `sigmoid`: `-log sigmoid(beta * h)`, Direct Preference Optimization. With label smoothing `e`
      it is `-(1 - e) log sigmoid(beta * h) - e log sigmoid(-beta * h)`, conservative DPO.
    - `ipo`: `(h - 1 / (2 * beta))**2`, which wants a margin and no more. Sums of tokens, as in the
      paper; some trainers divide an answer's by its number of tokens.
    - `hinge`: `max(0, 1 - beta * h)`, as in SLiC.

    Args:
        kind: One of these. Defaults to `"sigmoid"`.
        beta: How costly it is to move away from the reference. Defaults to `0.1`.
        label_smoothing: The share of pairs that are thought to be the wrong way round, from 0 to
            below 0.5; for `sigmoid`. Defaults to `0.0`.
        **kwargs: See `keras.losses.Loss`.

    References:
        [DPO](https://arxiv.org/abs/2305.18290),
        [conservative DPO](https://ericmitchell.ai/cdpo.pdf),
        [IPO](https://arxiv.org/abs/2310.12036),
        [SLiC-HF](https://arxiv.org/abs/2305.10425).

    Example:

    >>> loss = PreferenceLoss(beta=0.5)
    >>> float(loss([[-7.0, -7.0]], [[-6.0, -8.0]]))  # -log sigmoid(0.5 * 2)
    0.3132...
    """

    def __init__(
        self,
        kind: str = "sigmoid",
        beta: float = 0.1,
        label_smoothing: float = 0.0,
        name: str = "preference",
        **kwargs,
    ):
        super().__init__(name=name, **kwargs)
        if kind not in LOSSES:
            raise ValueError(f"kind must be one of {', '.join(LOSSES)}. Received: kind={kind!r}")
        self.kind = kind
        self.beta = beta
        self.label_smoothing = label_smoothing

    def call(self, y_true, y_pred):
        gained = _margins(y_true, y_pred)
        if self.kind == "ipo":
            return ops.square(gained - 1 / (2 * self.beta))
        if self.kind == "hinge":
            return ops.relu(1 - self.beta * gained)
        right = ops.softplus(-self.beta * gained)
        wrong = ops.softplus(self.beta * gained)
        return (1 - self.label_smoothing) * right + self.label_smoothing * wrong

    def get_config(self):
        return {
            **super().get_config(),
            "kind": self.kind,
            "beta": self.beta,
            "label_smoothing": self.label_smoothing,
        }


def rewards(y_true, y_pred, beta: float) -> dict:
    """Returns the rewards of pairs, by the name of the metric, each `[pairs]`.

    The reward of an answer is `beta` times the gain of its log-likelihood: `chosen_reward` and
    `rejected_reward`. `margin` is how much more the chosen one gets, `accuracy` 1 where it gets
    more, else 0.
    """
    each = beta * (y_pred - y_true)
    margin = beta * _margins(y_true, y_pred)
    return {
        "accuracy": ops.cast(margin > 0, "float32"),
        "margin": margin,
        "chosen_reward": each[:, 0],
        "rejected_reward": each[:, 1],
    }


REWARDS = ("accuracy", "margin", "chosen_reward", "rejected_reward")
"""The names of what `rewards` returns."""


class RewardMean(keras.metrics.Mean):
    """The mean of one of the `rewards`.

    Args:
        name: Which one.
        beta: As of the loss.
    """

    def __init__(self, name: str, beta: float):
        super().__init__(name=name)
        self._beta = beta

    def update_state(self, y_true, y_pred, sample_weight=None):
        """Counts pairs, each by its weight."""
        values = rewards(y_true, y_pred, self._beta)[self.name]
        return super().update_state(values, sample_weight=sample_weight)


def _margins(y_true, y_pred):
    """Returns how much more the model prefers the chosen answers than the reference does."""
    return (y_pred[:, 0] - y_pred[:, 1]) - (y_true[:, 0] - y_true[:, 1])


def preference_report(loss: PreferenceLoss, reference: np.ndarray, found: np.ndarray) -> dict:
    """Returns the metrics of pairs of answers.

    Args:
        loss: The loss of the training.
        reference: float32 `[pairs, 2]`, the log-probabilities of the reference, chosen and
            rejected.
        found: float32 `[pairs, 2]`, those of the model.

    Returns:
        `loss`; `accuracy`, the share of pairs whose chosen answer has the higher reward; `margin`,
        by how much; `chosen_reward`; `rejected_reward`; `pairs`.
    """
    each = {"loss": loss.call(reference, found)} | rewards(reference, found, loss.beta)
    means = {
        name: float(np.mean(np.asarray(values), dtype=np.float64)) for name, values in each.items()
    }
    return {**means, "pairs": len(found)}
