"""Learning-rate schedules with warm-up."""

from __future__ import annotations

import math

import keras
from keras import ops

# Of `WarmUp`.
_SHARE_OF_A_WARMUP = 0.1
_STEPS_OF_A_LONG_WARMUP = 100

SCHEDULES = ("linear", "cosine", "polynomial", "constant", "inverse_sqrt")


@keras.saving.register_keras_serializable(package="kerasllm")
class WarmupSchedule(keras.optimizers.schedules.LearningRateSchedule):
    """A linear warm-up from 0, then one of five ways down.

    With `p` from 0 to 1 over the steps after warm-up, the rate is `peak` times: `1 - p` (linear),
    `(1 + cos(pi * p)) / 2` (cosine), `(1 - p) ** power` (polynomial), `1` (constant), or
    `sqrt(w / step)` with `w` the warm-up steps, at least 1 (inverse_sqrt, Vaswani et al., 2017,
    https://arxiv.org/abs/1706.03762). The first step has rate `peak / warmup_steps`, not 0, so
    that no step is wasted.

    Args:
        peak: The highest learning rate.
        steps: All steps of the training, warm-up included.
        warmup_steps: Steps of the warm-up. Defaults to `0`.
        kind: One of `linear`, `cosine`, `polynomial`, `constant`, `inverse_sqrt`. Defaults to
            `"linear"`.
        power: Exponent of the polynomial. Defaults to `2.0`.

    Raises:
        ValueError: If `kind` is not a schedule.

    Example:

    >>> schedule = WarmupSchedule(peak=1e-4, steps=100, warmup_steps=10)
    >>> [round(float(schedule(step)), 7) for step in (0, 9, 10, 55)]
    [1e-05, 0.0001, 0.0001, 5e-05]
    """

    def __init__(
        self,
        peak: float,
        steps: int,
        warmup_steps: int = 0,
        kind: str = "linear",
        power: float = 2.0,
    ):
        if kind not in SCHEDULES:
            raise ValueError(
                f"`kind` must be one of {', '.join(SCHEDULES)}. Received: kind={kind!r}"
            )
        self.peak = peak
        self.steps = steps
        self.warmup_steps = warmup_steps
        self.kind = kind
        self.power = power

    def __call__(self, step):
        step = ops.cast(step, "float32")
        warmup = float(max(self.warmup_steps, 1))
        remaining = float(max(self.steps - self.warmup_steps, 1))
        progress = ops.clip((step - self.warmup_steps) / remaining, 0.0, 1.0)
        if self.kind == "linear":
            factor = 1.0 - progress
        elif self.kind == "cosine":
            factor = 0.5 * (1.0 + ops.cos(math.pi * progress))
        elif self.kind == "polynomial":
            factor = ops.power(1.0 - progress, self.power)
        elif self.kind == "inverse_sqrt":
            factor = ops.sqrt(warmup / ops.maximum(step + 1.0, warmup))
        else:
            factor = ops.ones_like(progress)
        rising = (step + 1.0) / warmup
        return self.peak * ops.where(step < self.warmup_steps, rising, factor)

    def get_config(self):
        return {
            "peak": self.peak,
            "steps": self.steps,
            "warmup_steps": self.warmup_steps,
            "kind": self.kind,
            "power": self.power,
        }


@keras.saving.register_keras_serializable(package="kerasllm")
class RangeTest(keras.optimizers.schedules.LearningRateSchedule):
    """Rises from a low learning rate to a high one, by the same factor each step.

    The range test of Smith (2017, https://arxiv.org/abs/1506.01186).

    Args:
        low: The rate of the first step.
        high: The rate of the last step.
        steps: All steps.

    Example:

    >>> [round(float(RangeTest(1e-4, 1e-2, 3)(step)), 6) for step in range(3)]
    [0.0001, 0.001, 0.01]
    """

    def __init__(self, low: float, high: float, steps: int):
        self.low, self.high, self.steps = low, high, steps

    def __call__(self, step):
        progress = ops.cast(step, "float32") / float(max(self.steps - 1, 1))
        return self.low * ops.exp(math.log(self.high / self.low) * progress)

    def get_config(self):
        return {"low": self.low, "high": self.high, "steps": self.steps}


def warmup_steps(warmup: float, steps: int) -> int:
    """Returns the steps of a warm-up given as a share of all steps (below 1) or as a number."""
    return min(steps, round(warmup * steps) if warmup < 1 else int(warmup))


class WarmUp(keras.callbacks.Callback):
    """Warms the learning rate up over the first tenth of a `fit`, then lets it decay to 0.

    For an optimizer whose learning rate is a number, which it has again at the end. Where the
    length of the training is not known the rate stays high after 100 steps.
    """

    def on_train_begin(self, logs=None):
        optimizer, steps = self.model.optimizer, self.params.get("steps")
        self._first, self._peak = self.model.steps_done, float(optimizer.learning_rate)
        total = None
        if steps is not None:
            total = steps * self.params["epochs"] - self._first
        self._schedule = (
            WarmupSchedule(self._peak, 0, _STEPS_OF_A_LONG_WARMUP, kind="constant")
            if total is None
            else WarmupSchedule(self._peak, total, warmup_steps(_SHARE_OF_A_WARMUP, total))
        )

    def on_train_batch_begin(self, batch, logs=None):
        step = self.model.steps_done - self._first
        self.model.optimizer.learning_rate = float(self._schedule(step))

    def on_train_end(self, logs=None):
        self.model.optimizer.learning_rate = self._peak


def sets_learning_rate(callback: keras.callbacks.Callback) -> bool:
    """Tells whether a callback is one of Keras' that set the learning rate."""
    kinds = keras.callbacks.LearningRateScheduler, keras.callbacks.ReduceLROnPlateau
    return isinstance(callback, kinds)
