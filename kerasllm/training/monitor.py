"""Measures a training while it runs."""

from __future__ import annotations

import math
import resource
import sys
import time
from collections.abc import Callable

import keras
import numpy as np
import tensorflow as tf

from kerasllm.data.batch_plan import BatchPlan, Width
from kerasllm.training.compile_ahead import CompileAhead
from kerasllm.training.metric_sums import MetricSums


class StepMonitor(keras.callbacks.Callback):
    """Measures the training and reports a row every few steps.

    A row has `step`, `epoch` (a fraction), `loss` and each metric (means since the row before; a
    metric that is not a mean, such as an AUC, is in the last row of an epoch alone, and is then the
    epoch's), `learning_rate`, `gradient_norm` (before clipping),
    `tokens_per_second` (real tokens, validation time excluded), `step_seconds` (mean since the
    row before), `input_wait` (the share of that time spent waiting for data), `peak_memory`
    (bytes: of the first GPU, else of the process) and `seconds` of training so far, and `skipped`
    once steps were skipped. Where `fit` has `validation_data`, each epoch ends with a row that has
    `step` and `validation`, the metrics by name.

    Args:
        plan: Gives the batch plan of an epoch by its number.
        log_every: Steps between two rows.
        on_row: Called with each row, such as the `append` of a list.
        on_step: Called after each step with the number of steps done. Defaults to `None`.
        ahead: What compiles for the steps; what they wait for it, and what TensorFlow traces, is in
            `seconds` and not in the rates. Defaults to `None`.
        on_pace: Called after each step with the seconds that the steps which are left will take;
            `None` until a length is used again that was compiled before. Defaults to `None`.
        steps: Steps of the whole training, for `on_pace`. Defaults to `None`: those of the epoch.
    """

    def __init__(
        self,
        plan: Callable[[int], BatchPlan],
        log_every: int,
        *,
        on_row: Callable[[dict], None],
        on_step: Callable[[int], None] | None = None,
        ahead: CompileAhead | None = None,
        on_pace: Callable[[float | None], None] | None = None,
        steps: int | None = None,
    ):
        super().__init__()
        self._plan = plan
        self._log_every = log_every
        self._on_step = on_step
        self._on_row = on_row
        self._ahead = ahead
        self._on_pace = on_pace
        self._steps = steps
        # Traced and compiled before the last step, seconds.
        self._not_steps = 0.0
        # Seconds and tokens, padding included, of steps beside which nothing was compiled.
        self._undisturbed = np.zeros(2)
        self._state = {
            "steps": 0,
            "seconds": 0.0,
            "real_tokens": 0,
            "processed_tokens": 0,
            "skipped": 0,
            "shapes": [],
            "last_step": {},
            "epoch_metrics": {},
        }
        self._since_row = _Interval()
        self._sums = MetricSums()
        self._resumed = False
        # Of the steps since the last row, where something else uses the metrics before it.
        self._means: dict[str, float] | None = None
        # Of this process: seconds and tokens, padding included, of the executions that used a
        # length for the first time, and of all others.
        self._first_uses = np.zeros((0, 2))
        self._later_uses = np.zeros(2)

    @property
    def steps(self) -> int:
        """Steps done, those before a resume included."""
        return self._state["steps"]

    @property
    def seconds(self) -> float:
        """Seconds of training, those before a resume included."""
        return self._state["seconds"]

    @property
    def shapes(self) -> list[Width]:
        """The sequence lengths of this process' steps, in the order of their first use."""
        return self._state["shapes"]

    @property
    def epoch_metrics(self) -> dict[str, float]:
        """Loss and metrics of the last whole epoch, by name."""
        return self._state["epoch_metrics"]

    def get_state(self) -> dict:
        """Returns what `set_state` takes to continue as if there had been no break."""
        return {
            **self._state,
            # What was compiled is of a process.
            "shapes": [],
            "since_row": vars(self._since_row),
            "metric_sums": dict(self._sums.state),
        }

    def set_state(self, state: dict) -> None:
        """Continues from the state of another monitor."""
        state = dict(state)
        self._since_row = _Interval(**state.pop("since_row"))
        # Checkpoints of older versions do not have them.
        self._sums = MetricSums(state.pop("metric_sums", None))
        self._resumed = True
        self._state = {**state, "shapes": []}

    def on_train_begin(self, logs=None):
        self._last = time.perf_counter()
        self._not_steps = self._prepared()

    def on_epoch_begin(self, epoch, logs=None):
        self._epoch = epoch
        self._current = self._plan(epoch)
        within = self.model.steps_done % len(self._current) or self._since_row.losses
        if not (self._resumed and within):
            # `fit` has set the metrics back.
            self._sums = MetricSums()
        self._resumed = False

    def on_test_begin(self, logs=None):
        # An evaluation at the end of an epoch uses the same metrics.
        if self._since_row.losses and self._means is None:
            self._means = self._sums.since_last(self.model.metrics)

    def on_train_batch_begin(self, batch, logs=None):
        self._first = batch
        # The rate of this step: afterwards the optimizer tells that of the next one.
        self._learning_rate = float(self.model.optimizer.learning_rate)

    def on_train_batch_end(self, batch, logs=None):
        # The time between two steps counts as training, but for what `exclude` has taken off.
        now = time.perf_counter()
        elapsed, self._last = now - self._last, now
        execution = self.model.last_execution
        done = slice(self._first, batch + 1)
        widths = self._current.widths[done]
        tokens = int(self._current.real_tokens[done].sum())
        state = self._state
        before = state["steps"]
        state["steps"] += len(widths)
        state["seconds"] += elapsed
        state["real_tokens"] += tokens
        processed = self._current.batch_size * int(widths.sum())
        state["processed_tokens"] += processed
        state["skipped"] += int((~execution["applied"]).sum())
        used = dict.fromkeys(map(self._current.width, range(self._first, batch + 1)))
        new = [width for width in used if width not in state["shapes"]]
        state["shapes"] += new
        if new:
            self._first_uses = np.vstack([self._first_uses, (elapsed, processed)])
        else:
            self._later_uses += elapsed, processed
            if self._ahead is None or not self._ahead.busy:
                self._undisturbed += elapsed, processed
        # Kept, because a training may resume between this step and the row that ends the epoch.
        state["last_step"] = {
            "epoch": round(self._epoch + (batch + 1) / len(self._current), 4),
            "learning_rate": self._learning_rate,
            "gradient_norm": float(execution["gradient_norm"][-1]),
        }
        prepared = self._prepared()
        of_steps = max(elapsed - (prepared - self._not_steps), 1e-6)
        self._not_steps = prepared
        self._since_row.add(
            execution["step_loss"], tokens, of_steps, float(execution["input_seconds"].sum())
        )
        if self._on_pace:
            self._on_pace(self._seconds_left(batch + 1))
        if not before or before // self._log_every != self.steps // self._log_every:
            self._report(_metrics(logs) if batch + 1 == len(self._current) else None)
        if self._on_step:
            self._on_step(self.steps)

    def _prepared(self) -> float:
        """Returns the seconds of this process that went into tracing and into waiting for XLA."""
        waited = self._ahead.waited if self._ahead else 0.0
        return getattr(self.model, "trace_seconds", 0.0) + waited

    def _seconds_left(self, done: int) -> float | None:
        """Returns how long the rest of the training takes, after so many steps of this epoch."""
        seconds, tokens = self._undisturbed if self._undisturbed[1] else self._later_uses
        if not tokens:
            return None
        plan = self._current
        rest = len(plan) - done
        steps = rest if self._steps is None else self._steps - self.steps
        here = plan.batch_size * int(plan.widths[done : done + steps].sum())
        later = max(steps - rest, 0) / len(plan)
        return float((here + later * plan.processed_tokens) * seconds / tokens)

    def on_epoch_end(self, epoch, logs=None):
        logs = logs or {}
        if self._since_row.losses:
            self._report(_metrics(logs))
        self._state["epoch_metrics"] = {"loss": float(logs["loss"]), **_metrics(logs)}
        validation = {
            name.removeprefix("val_"): float(value)
            for name, value in logs.items()
            if name.startswith("val_")
        }
        if validation:
            self._on_row({"step": self.steps, "validation": validation})

    def on_test_end(self, logs=None):
        self.exclude()

    def exclude(self) -> None:
        """Takes the time since the last step out of the measurement: it was not training."""
        self._last = time.perf_counter()

    def first_use_seconds(self) -> float | None:
        """Returns what steps of a length seen for the first time took more than others do.

        That is tracing, what XLA compiles or looks for among the programs it keeps, and anything
        else is made for a length. `None` where there were no others.
        """
        seconds, tokens = self._later_uses
        if not tokens:
            return None
        took, processed = self._first_uses.T
        return float(np.maximum(took - processed * seconds / tokens, 0).sum())

    def timing(self) -> dict:
        """Returns seconds, steps, tokens and the padding of the training as it was."""
        state = self._state
        return {
            "train_seconds": round(state["seconds"], 3),
            "steps": state["steps"],
            "real_tokens": state["real_tokens"],
            "processed_tokens": state["processed_tokens"],
            "tokens_per_second": round(state["real_tokens"] / state["seconds"], 1),
            "padding": round(1 - state["real_tokens"] / state["processed_tokens"], 4),
            "peak_memory": peak_memory(),
            **({"skipped": state["skipped"]} if state["skipped"] else {}),
        }

    def _report(self, of_epoch: dict[str, float] | None = None) -> None:
        """Reports a row; at the end of an epoch also what only the whole of it has a value of."""
        means, self._means = self._means, None
        if means is None:
            means = self._sums.since_last(self.model.metrics)
        metrics = {**(of_epoch or {}), **means}
        metrics.pop("loss", None)
        interval, self._since_row = self._since_row, _Interval()
        skipped, last = self._state["skipped"], self._state["last_step"]
        self._on_row(
            {
                "step": self.steps,
                "epoch": last["epoch"],
                "loss": interval.loss(),
                **metrics,
                "learning_rate": last["learning_rate"],
                "gradient_norm": last["gradient_norm"],
                "tokens_per_second": round(interval.tokens / interval.seconds, 1),
                "step_seconds": round(interval.seconds / len(interval.losses), 4),
                "input_wait": round(interval.input_seconds / interval.seconds, 4),
                "peak_memory": peak_memory(),
                "seconds": round(self._state["seconds"], 3),
                **({"skipped": skipped} if skipped else {}),
            }
        )


class _Interval:
    """Sums between two rows."""

    def __init__(
        self,
        losses: list[float] | None = None,
        tokens: int = 0,
        seconds: float = 0.0,
        input_seconds: float = 0.0,
    ):
        self.losses = losses or []
        self.tokens = tokens
        self.seconds = seconds
        self.input_seconds = input_seconds

    def add(self, losses, tokens: int, seconds: float, input_seconds: float) -> None:
        self.losses = self.losses + [float(loss) for loss in losses]
        self.tokens += tokens
        self.seconds += seconds
        self.input_seconds += input_seconds

    def loss(self) -> float:
        """Returns the mean, without the steps that were skipped for what it was."""
        finite = [loss for loss in self.losses if math.isfinite(loss)]
        return sum(finite) / len(finite) if finite else math.nan


def _metrics(logs: dict) -> dict[str, float]:
    return {
        name: float(value)
        for name, value in logs.items()
        if name not in ("loss", "step_loss") and not name.startswith("val_")
    }


def peak_memory() -> int:
    """Returns the most memory used so far, in bytes: of the first GPU, else of the process."""
    if keras.config.backend() == "jax" and (peak := _peak_of_jax()):
        return peak
    if tf.config.list_logical_devices("GPU"):
        return int(tf.config.experimental.get_memory_info("GPU:0")["peak"])
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def _peak_of_jax() -> int | None:
    """Returns the most memory used of this process' first device; `None` where it does not say."""
    import jax

    found = jax.local_devices()[0].memory_stats()
    return found and int(found.get("peak_bytes_in_use", 0))
