"""The training of a compressed model, on the data of the run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import closing

import keras
import tensorflow as tf

from kerasllm.compression.run_model import Subject
from kerasllm.data.batch_plan import EpochPlans
from kerasllm.recipe.compression import Retraining
from kerasllm.run import Run
from kerasllm.runtime.startup import import_tensorflow
from kerasllm.training.batches import training_batches
from kerasllm.training.fit import FineTunedModel
from kerasllm.training.metrics_log import MetricsLog
from kerasllm.training.precision import resolve_precision, resolve_xla
from kerasllm.training.shapes import settle
from kerasllm.workflows.job import Job, compile_model, steps_of
from kerasllm.workflows.observed import observe
from kerasllm.workflows.report import Report

# What the recipe of the run says of its own training, and not of this one.
_NOT_FROM_THE_RUN = {
    "max_steps": None,
    "accumulate": 1,
    "early_stopping": None,
    "evaluate_every": "epoch",
    "ema": None,
    "steps_per_execution": 1,
}


def train(
    subject: Subject,
    model: FineTunedModel,
    settings: Retraining,
    run: Run,
    report: Report,
    callbacks_for: Callable[[int], Sequence[keras.callbacks.Callback]] = lambda steps: (),
) -> tuple[dict, dict]:
    """Trains a model on the training data of a run, on one device.

    Args:
        subject: The run with its data.
        model: The model; it is compiled here.
        settings: How it is trained.
        run: Where metrics are logged.
        report: Where progress is shown.
        callbacks_for: Returns callbacks, by the steps of the whole training. Defaults to none.

    Returns:
        The metrics of `train` and `validation`, and the timing.
    """
    # As the command has done already: from Python, XLA's flags may still be set.
    import_tensorflow()
    job = _job(subject, model, settings)
    report.heading("Training")
    log = MetricsLog(run.metrics_log, run.tensorboard)
    with log, report.training(job.steps) as progress:
        observed = observe(job, report, [log, progress])
        callbacks = observed.callbacks
        # Before the validation, which measures what they have done to the weights.
        callbacks[1:1] = callbacks_for(job.steps)
        with closing(observed.ahead):
            model.fit(
                training_batches(
                    model, job.data.train, job.plan, settings.epochs, seed=settings.seed
                ),
                epochs=settings.epochs,
                steps_per_epoch=job.plan.steps,
                callbacks=callbacks,
                verbose=0,
            )
    held_out = observed.validation.result if observed.validation else {}
    metrics = {"train": observed.monitor.epoch_metrics, "validation": held_out}
    return metrics, observed.monitor.timing()


def _job(subject: Subject, model: FineTunedModel, settings: Retraining) -> Job:
    recipe = subject.recipe
    training = recipe.training.model_copy(update={**_NOT_FROM_THE_RUN, **settings.model_dump()})
    plan = EpochPlans(
        subject.data.train.lengths,
        min(settings.batch_size, len(subject.data.train)),
        recipe.data.buckets,
        seed=settings.seed,
        pad_to=model.pad_to,
        longest=getattr(recipe.data, "max_length", None),
    )
    steps = steps_of(training, plan.steps)
    xla, fused = settle(
        model,
        plan,
        steps,
        rows=plan.batch_size // training.accumulate,
        buckets=recipe.data.buckets,
        xla=resolve_xla(training.xla),
        fused=None if training.xla == "auto" else False,
        auto=training.xla == "auto",
    )
    job = Job(
        recipe.model_copy(update={"training": training}),
        tf.distribute.get_strategy(),
        subject.data,
        model,
        plan,
        resolve_precision(settings.precision),
        xla,
        fused,
    )
    compile_model(job)
    return job
