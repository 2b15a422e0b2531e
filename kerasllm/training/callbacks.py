"""What happens between steps: measuring, validating, stopping early."""

from __future__ import annotations

import time
from collections.abc import Callable

import keras

from kerasllm.data.batch_plan import BatchPlan


class StepMonitor(keras.callbacks.Callback):
    """Measures the training and reports a row every few steps.

    A row has `step`, `epoch` (a fraction), `loss` (mean since the row before), the running mean
    of each metric of the epoch, `learning_rate`, `tokens_per_second` (real tokens, validation
    time excluded) and `seconds` of training so far. Where `fit` has `validation_data`, each epoch
    ends with a row that has `step` and `validation`, the metrics by name.

    Args:
        plan: Gives the batch plan of an epoch by its number.
        log_every: Steps between two rows.
        on_row: Called with each row, such as the `append` of a list.
        on_step: Called after each step with the number of steps done. Defaults to `None`.
    """

    def __init__(
        self,
        plan: Callable[[int], BatchPlan],
        log_every: int,
        *,
        on_row: Callable[[dict], None],
        on_step: Callable[[int], None] | None = None,
    ):
        super().__init__()
        self._plan = plan
        self._log_every = log_every
        self._on_step = on_step
        self._on_row = on_row
        self.steps = 0
        self.seconds = 0.0
        self.real_tokens = 0
        self.processed_tokens = 0
        self._since_row = _Interval()

    def on_train_begin(self, logs=None):
        self._last = time.perf_counter()

    def on_epoch_begin(self, epoch, logs=None):
        self._epoch = epoch
        self._current = self._plan(epoch)

    def on_train_batch_begin(self, batch, logs=None):
        self._step_in_epoch = batch
        # The rate of this step: afterwards the optimizer tells that of the next one.
        self._learning_rate = float(self.model.optimizer.learning_rate)

    def on_train_batch_end(self, batch, logs=None):
        # The time between two steps counts as training, but for what `exclude` has taken off.
        now = time.perf_counter()
        elapsed, self._last = now - self._last, now
        tokens = int(self._current.real_tokens[self._step_in_epoch])
        rows = self._current.batch_size
        self.steps += 1
        self.seconds += elapsed
        self.real_tokens += tokens
        self.processed_tokens += rows * int(self._current.widths[self._step_in_epoch])
        self._since_row.add(logs["step_loss"], tokens, elapsed)
        self._last_logs = logs
        if self.steps == 1 or self.steps % self._log_every == 0:
            self._report(logs)
        if self._on_step:
            self._on_step(self.steps)

    def on_epoch_end(self, epoch, logs=None):
        if self._since_row.steps:
            self._report(self._last_logs)
        validation = {
            name.removeprefix("val_"): float(value)
            for name, value in (logs or {}).items()
            if name.startswith("val_")
        }
        if validation:
            self._on_row({"step": self.steps, "validation": validation})

    def on_test_end(self, logs=None):
        self.exclude()

    def exclude(self) -> None:
        """Takes the time since the last step out of the measurement: it was not training."""
        self._last = time.perf_counter()

    def timing(self) -> dict:
        """Returns seconds, steps, tokens and the padding of the training as it was."""
        return {
            "train_seconds": round(self.seconds, 3),
            "steps": self.steps,
            "real_tokens": self.real_tokens,
            "processed_tokens": self.processed_tokens,
            "tokens_per_second": round(self.real_tokens / self.seconds, 1),
            "padding": round(1 - self.real_tokens / self.processed_tokens, 4),
        }

    def _report(self, logs: dict) -> None:
        steps_per_epoch = len(self._current)
        metrics = {
            name: float(value) for name, value in logs.items() if name not in ("loss", "step_loss")
        }
        self._on_row(
            {
                "step": self.steps,
                "epoch": round(self._epoch + (self._step_in_epoch + 1) / steps_per_epoch, 4),
                "loss": self._since_row.loss(),
                **metrics,
                "learning_rate": self._learning_rate,
                "tokens_per_second": round(self._since_row.tokens_per_second(), 1),
                "seconds": round(self.seconds, 3),
            }
        )
        self._since_row = _Interval()


class _Interval:
    """Sums between two rows."""

    def __init__(self):
        self._losses, self._tokens, self._seconds = [], 0, 0.0

    @property
    def steps(self) -> int:
        return len(self._losses)

    def add(self, loss, tokens: int, seconds: float) -> None:
        self._losses.append(loss)
        self._tokens += tokens
        self._seconds += seconds

    def loss(self) -> float:
        return sum(float(loss) for loss in self._losses) / len(self._losses)

    def tokens_per_second(self) -> float:
        return self._tokens / self._seconds if self._seconds else 0.0


class Validation(keras.callbacks.Callback):
    """Validates during training; with a patience, stops early and restores the best weights.

    Where the optimizer keeps an exponential moving average of the weights, the average is what is
    validated, since it is what the training ends with.

    Args:
        evaluate: Returns the metrics of the model as it is now.
        every: Steps between two validations, or `"epoch"`. Defaults to `"epoch"`.
        metric: Name of the metric that early stopping watches. `loss` is better when lower, all
            others when higher. Defaults to `"loss"`.
        patience: Validations without a better value before training stops; `None` never stops and
            keeps the last weights. Defaults to `None`.
        min_delta: Smallest change that counts as better. Defaults to `0.0`.
        on_result: Called with the step and the metrics. Defaults to `None`.
    """

    def __init__(
        self,
        evaluate: Callable[[], dict],
        *,
        every: int | str = "epoch",
        metric: str = "loss",
        patience: int | None = None,
        min_delta: float = 0.0,
        on_result: Callable[[int, dict], None] | None = None,
    ):
        super().__init__()
        self._evaluate = evaluate
        self._every = every
        self._metric = metric
        self._patience = patience
        self._min_delta = min_delta
        self._on_result = on_result
        self.best_step = None
        self.result = None

    def on_train_begin(self, logs=None):
        self._steps = 0
        self._validated_at = None
        self._best = None
        self._best_weights = None
        self._waited = 0
        optimizer = self.model.optimizer
        optimizer = getattr(optimizer, "inner_optimizer", optimizer)
        self._average = None
        if optimizer.use_ema:
            self._average = keras.callbacks.SwapEMAWeights()
            self._average.set_model(self.model)

    def on_train_batch_end(self, batch, logs=None):
        self._steps += 1
        if self._every != "epoch" and self._steps % self._every == 0:
            self._validate()

    def on_epoch_end(self, epoch, logs=None):
        last = epoch == self.params["epochs"] - 1
        if self._validated_at != self._steps and (self._every == "epoch" or last):
            self._validate()

    def on_train_end(self, logs=None):
        if self._best_weights is not None:
            for variable, value in zip(
                self.model.trainable_variables, self._best_weights, strict=True
            ):
                variable.assign(value)

    def _validate(self) -> None:
        self._validated_at = self._steps
        if self._average:
            self._average.on_test_begin()
        result = self._evaluate()
        if self._patience is not None:
            self._keep_best(result)
        else:
            self.best_step, self.result = self._steps, result
        if self._average:
            self._average.on_test_end()
        if self._on_result:
            self._on_result(self._steps, result)

    def _keep_best(self, result: dict) -> None:
        value = -result[self._metric] if self._metric == "loss" else result[self._metric]
        if self._best is None or value > self._best + self._min_delta:
            self._best, self._waited = value, 0
            self.best_step, self.result = self._steps, result
            self._best_weights = [v.numpy() for v in self.model.trainable_variables]
        else:
            self._waited += 1
            self.model.stop_training = self._waited >= self._patience
