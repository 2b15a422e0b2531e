"""Validates during training, and stops early."""

from __future__ import annotations

from collections.abc import Callable

import keras

from kerasllm.training.host_values import kept_value
from kerasllm.training.inner_optimizer import inner_optimizer

if keras.config.backend() == "jax":
    from kerasllm.training.sharded.averages import SwapEMAWeights
else:
    from keras.callbacks import SwapEMAWeights


class Validation(keras.callbacks.Callback):
    """Validates during training; with a patience, stops early and restores the best weights.

    Where the optimizer keeps an exponential moving average of the weights, the average is what is
    validated, since it is what the training ends with.

    Args:
        evaluate: Returns the metrics of the model as it is now.
        every: Steps between two validations, or `"epoch"`. Defaults to `"epoch"`.
        metric: Name of the metric that early stopping watches. Defaults to `"loss"`.
        higher_is_better: Whether more of the metric is better. Defaults to `None`: for all but
            `loss`.
        patience: Validations without a better value before training stops; `None` never stops and
            keeps the last weights. Defaults to `None`.
        min_delta: Smallest change that counts as better. Defaults to `0.0`.
        on_begin: Called with the step before a validation. Defaults to `None`.
        on_result: Called with the step and the metrics. Defaults to `None`.

    Attributes:
        best_step: The step after which the result that counts was measured: the best with a
            patience, else the last.
        result: That result.
        improved: Whether the last step or epoch ended with the best value so far.
        best_weights: The trainable weights that early stopping restores, a list of arrays; `None`
            before there are any.
    """

    def __init__(
        self,
        evaluate: Callable[[], dict],
        *,
        every: int | str = "epoch",
        metric: str = "loss",
        higher_is_better: bool | None = None,
        patience: int | None = None,
        min_delta: float = 0.0,
        on_begin: Callable[[int], None] | None = None,
        on_result: Callable[[int, dict], None] | None = None,
    ):
        super().__init__()
        self._evaluate = evaluate
        self._every = every
        self._metric = metric
        self._sign = (
            1 if (metric != "loss" if higher_is_better is None else higher_is_better) else -1
        )
        self._patience = patience
        self._min_delta = min_delta
        self._on_begin = on_begin
        self._on_result = on_result
        self._resumed = False
        self._begin()

    def get_state(self) -> dict:
        """Returns what `set_state` takes to continue, except for `best_weights`."""
        return {name: getattr(self, name) for name in _STATE}

    def set_state(self, state: dict) -> None:
        """Makes the next `fit` continue from another validation's state; see `best_weights`."""
        for name in _STATE:
            setattr(self, name, state[name])
        self._resumed = True

    def on_train_begin(self, logs=None):
        if not self._resumed:
            self._begin()
        self._resumed = False
        if self._patience is None:
            # Of a training that early stopping watched until it was resumed.
            self.best_weights = None
        elif self.best_weights is None:
            # It did not watch it until now: what was best is not kept.
            self._best, self._waited = None, 0
        if self._patience is not None and self._waited >= self._patience:
            self.model.stop_training = True
        self._average = None
        if inner_optimizer(self.model.optimizer).use_ema:
            self._average = SwapEMAWeights()
            self._average.set_model(self.model)

    def on_train_batch_end(self, batch, logs=None):
        self._steps += len(self.model.last_execution["step_loss"])
        self.improved = False
        if self._every != "epoch" and self._steps % self._every == 0:
            self._validate()

    def on_epoch_end(self, epoch, logs=None):
        last = epoch == self.params["epochs"] - 1
        if self._validated_at != self._steps and (self._every == "epoch" or last):
            self._validate()

    def on_train_end(self, logs=None):
        if self.best_weights is not None:
            for variable, value in zip(
                self.model.trainable_variables, self.best_weights, strict=True
            ):
                variable.assign(value)

    def _begin(self) -> None:
        self.best_step = None
        self.result = None
        self.improved = False
        self.best_weights = None
        self._steps = 0
        self._validated_at = None
        self._best = None
        self._waited = 0

    def _validate(self) -> None:
        self._validated_at = self._steps
        if self._on_begin:
            self._on_begin(self._steps)
        if self._average:
            self._average.on_test_begin()
        result = self._evaluate()
        self._compare(result)
        if self._average:
            self._average.on_test_end()
        if self._on_result:
            self._on_result(self._steps, result)

    def _compare(self, result: dict) -> None:
        value = self._sign * result[self._metric]
        self.improved = self._best is None or value > self._best + self._min_delta
        if self.improved:
            self._best, self._waited = value, 0
        else:
            self._waited += 1
        if self._patience is None:
            self.best_step, self.result = self._steps, result
        elif self.improved:
            self.best_step, self.result = self._steps, result
            self.best_weights = [kept_value(v) for v in self.model.trainable_variables]
        else:
            self.model.stop_training = self._waited >= self._patience


_STATE = ("best_step", "result", "_steps", "_validated_at", "_best", "_waited")
