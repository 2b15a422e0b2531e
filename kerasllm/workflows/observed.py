"""The callbacks that every training has, and the listeners that they tell."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import keras

from kerasllm.training.compile_ahead import CompileAhead
from kerasllm.training.listeners import Listener, Listeners
from kerasllm.training.monitor import StepMonitor
from kerasllm.training.nan_guard import NonFiniteGuard
from kerasllm.training.step_limit import StepLimit
from kerasllm.training.validation import Validation
from kerasllm.workflows.job import Job
from kerasllm.workflows.report import Report


@dataclass(frozen=True, eq=False)
class Observed:
    """The callbacks of a training.

    Attributes:
        guard: Ends the training where the loss or the gradients are not finite.
        monitor: Measures it.
        validation: Validates, or `None` where there is nothing to validate on.
        limit: Ends it after its last step.
        ahead: Compiles for the lengths that come.
        listeners: What is told of its events.
    """

    guard: NonFiniteGuard
    monitor: StepMonitor
    validation: Validation | None
    limit: StepLimit
    ahead: CompileAhead
    listeners: Listeners

    @property
    def callbacks(self) -> list[keras.callbacks.Callback]:
        """The callbacks, in the order in which they go to `fit`."""
        found = [self.guard, self.ahead, self.monitor, self.validation, self.limit]
        return [callback for callback in found if callback is not None]


def observe(job: Job, report: Report, listeners: Sequence[Listener]) -> Observed:
    """Makes the callbacks of a job's training.

    Args:
        job: The job.
        report: Where skipped steps are told.
        listeners: What is told of the events.
    """
    training = job.recipe.training
    clock = _Clock()
    told = Listeners([clock, *listeners])
    ahead = CompileAhead(job.plan, on_wait=told.compiling)
    monitor = StepMonitor(
        job.plan,
        training.log_every,
        on_row=told.row,
        on_step=told.step,
        ahead=ahead,
        on_pace=told.pace,
        steps=job.steps,
    )
    clock.monitor = monitor
    guard = NonFiniteGuard(skip=training.on_nan == "skip", rows_of=job.rows_of, on_skip=report.line)
    return Observed(guard, monitor, _validation(job, told), StepLimit(job.steps), ahead, told)


class _Clock(Listener):
    """Takes the time of validations and samples out of the time of the training."""

    monitor: StepMonitor

    def validated(self, step, metrics):
        self.monitor.exclude()

    def samples(self, step, samples):
        self.monitor.exclude()


def _validation(job: Job, listeners: Listeners) -> Validation | None:
    if job.data.validation is None:
        return None
    training = job.recipe.training
    stopping = training.early_stopping
    metric = stopping.metric if stopping else "loss"
    return Validation(
        lambda: job.evaluate(job.data.validation).metrics,
        every=training.evaluate_every,
        metric=metric,
        higher_is_better=metric not in job.task.lower_is_better,
        patience=stopping.patience if stopping else None,
        min_delta=stopping.min_delta if stopping else 0.0,
        on_begin=lambda step: listeners.validating(step, len(job.data.validation)),
        on_result=listeners.validated,
    )
