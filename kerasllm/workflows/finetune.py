"""Fine-tune a pretrained model by a recipe: the project's main job."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

import keras
import numpy as np

from kerasllm.data.batch_plan import EpochPlans
from kerasllm.environment import describe_environment
from kerasllm.errors import CommandError, JobError
from kerasllm.evaluation.plots import training_curve
from kerasllm.models.bert import layer_depths, load_tokenizer
from kerasllm.models.text_classifier import TextClassifier
from kerasllm.recipe import Recipe
from kerasllm.run import Run, whole_folder, write_json, write_text
from kerasllm.tasks import text_classification as task
from kerasllm.training.callbacks import StepMonitor, Validation
from kerasllm.training.metrics_log import MetricsLog
from kerasllm.training.optimizers import build_optimizer, layer_rates
from kerasllm.training.precision import resolve_precision, resolve_xla
from kerasllm.training.schedules import WarmupSchedule, warmup_steps
from kerasllm.workflows import finetune_summary as summary
from kerasllm.workflows.report import Report


def finetune(
    recipe: Recipe,
    *,
    name: str = "finetune",
    output: str | Path | None = None,
    dry_run: bool = False,
    command: str = "",
    report: Report | None = None,
) -> Run | None:
    """Trains a model by a recipe and leaves a run directory.

    Args:
        recipe: What to do; see `kerasllm.recipe.load`.
        name: Name of the recipe, for the run directory. Defaults to `"finetune"`.
        output: The run directory. Defaults to `None`: `runs/NAME/DATE-TIME`.
        dry_run: Stop before the first step, and write no run. Defaults to `False`.
        command: The command that was typed, for the record. Defaults to `""`.
        report: Where progress is shown. Defaults to `None`: stderr.

    Returns:
        The run, or `None` after a dry run.

    Raises:
        KerasllmError: If the data, the preset or the run directory is refused, or the training
            fails.

    Example:

    ```python
    recipe = kerasllm.recipe.load("bert_cls", ["training.epochs=2"])
    run = finetune(recipe, output="my_run")
    run.read_metrics()["test"]["accuracy"]
    ```
    """
    started = time.perf_counter()
    report = report or Report()
    if output is not None:
        Run(output).refuse_existing()
    report.heading(f"Recipe {name}")
    report.yaml(recipe.to_yaml())
    job = prepare(recipe, report)
    summary.show_data(report, job.data)
    summary.show_plan(report, job)
    if dry_run:
        report.line()
        report.line("Dry run: everything is ready to train; no step was made, no run written.")
        return None

    run = Run.create(output, name)
    report.heading(f"Training into {run.path}")
    write_text(run.recipe, recipe.to_yaml())
    fingerprints = {part: source.fingerprint for part, source in job.data.sources.items()}
    write_json(run.environment, describe_environment(command, recipe.training.seed, fingerprints))
    try:
        metrics, timing = train(job, run, report)
    except KeyboardInterrupt:
        report.line(f"{run.path} holds the log so far and no model; remove it to use it again")
        raise
    with report.busy("saving the model"), whole_folder(run.model) as folder:
        job.model.save_to_preset(folder)
    wrong = []
    if job.data.test is not None:
        with report.busy("evaluating on the test data"):
            metrics["test"], logits = job.evaluate(job.data.test)
            wrong = task.wrong_examples(
                job.data.sources["test"], job.data.test, job.data.labels, logits
            )
    timing["total_seconds"] = round(time.perf_counter() - started, 3)
    # Last, because this file is what makes the run a whole one.
    write_json(run.metrics, {**metrics, "timing": timing})
    summary.show_results(report, run, metrics, timing, wrong)
    return run


@dataclass(frozen=True, eq=False)
class Job:
    """All that a training needs, ready for its first step.

    Attributes:
        recipe: The recipe.
        data: The examples and labels.
        model: The compiled model.
        plan: Gives the batches of an epoch by its number.
        precision: The dtype policy that the recipe's `precision` came to.
        xla: Whether XLA compiles forward and backward.
    """

    recipe: Recipe
    data: task.ClassificationData
    model: TextClassifier
    plan: EpochPlans
    precision: str
    xla: bool

    @property
    def steps(self) -> int:
        """Optimizer steps of the whole training."""
        return self.plan.steps * self.recipe.training.epochs

    @property
    def warmup_steps(self) -> int:
        """Steps in which the learning rate rises."""
        return warmup_steps(self.recipe.training.warmup, self.steps)

    def evaluate(self, examples: task.Examples) -> tuple[dict, np.ndarray]:
        """Returns the metrics and the logits of some examples."""
        return task.evaluate(self.model, examples, buckets=self.recipe.data.buckets)


def prepare(recipe: Recipe, report: Report) -> Job:
    """Reads the data, loads the model and compiles it."""
    training = recipe.training
    keras.utils.set_random_seed(training.seed)
    precision, xla = resolve_precision(training.precision), resolve_xla(training.xla)
    preset = recipe.model.preset
    with report.busy(f"loading the tokenizer of {preset}") as busy:
        tokenizer = load_tokenizer(preset, progress=busy.update)
        data = task.load_data(
            recipe.data,
            tokenizer,
            seed=training.seed,
            notify=busy.update,
        )
        if training.early_stopping and data.validation is None:
            raise CommandError(
                "Early stopping needs validation data, and there is none",
                where="training.early_stopping",
                fix="give --validation FILE, or set data.validation_split above 0",
            )
        busy.update(f"loading the weights of {preset}")
        model = task.build_model(recipe, data.labels, precision)
    # A batch holds no more rows than there are, in whole micro-batches: the rest would be padding.
    most_rows = -(-len(data.train) // training.accumulate) * training.accumulate
    job = Job(
        recipe=recipe,
        data=data,
        model=model,
        plan=EpochPlans(
            data.train.lengths,
            min(training.batch_size, most_rows),
            recipe.data.buckets,
            seed=training.seed,
            pad_to=model.pad_to,
        ),
        precision=precision,
        xla=xla,
    )
    compile_model(job)
    return job


def compile_model(job: Job) -> None:
    """Compiles the job's model with the optimizer, the schedule and the loss of its recipe."""
    training = job.recipe.training
    variables = job.model.trainable_variables
    if training.l2:
        for variable in variables:
            if variable.name == "kernel":
                variable.regularizer = keras.regularizers.L2(training.l2)
    rates = None
    if training.layer_decay < 1:
        rates = layer_rates(layer_depths(job.model.task), training.layer_decay)
    schedule = WarmupSchedule(
        training.learning_rate, job.steps, job.warmup_steps, training.schedule, training.power
    )
    optimizer = build_optimizer(
        training.optimizer,
        schedule,
        variables,
        weight_decay=training.weight_decay,
        clip_norm=training.clip_norm,
        ema=training.ema,
        multipliers=rates,
    )
    job.model.compile(
        optimizer, task.build_loss(job.recipe), accumulate=training.accumulate, xla=job.xla
    )


def train(job: Job, run: Run, report: Report) -> tuple[dict, dict]:
    """Trains the job's model, and writes the log and the training curve.

    Returns:
        The metrics of `train` and `validation`, and the timing.
    """
    training = job.recipe.training
    validation = None
    with (
        MetricsLog(run.metrics_log, run.tensorboard) as log,
        report.training(job.steps) as progress,
    ):

        def on_row(row: dict) -> None:
            if not np.isfinite(row["loss"]):
                raise JobError(
                    f"The loss is {row['loss']} at step {row['step']}: the training has diverged",
                    where=str(run.metrics_log),
                    fix="lower training.learning_rate, or set training.precision=float32",
                )
            log.write(row)
            progress.row(row)

        def on_validation(step: int, metrics: dict) -> None:
            monitor.exclude()
            scalars = {name: value for name, value in metrics.items() if isinstance(value, float)}
            log.write({"step": step, "validation": scalars})
            progress.validated(step, metrics)

        monitor = StepMonitor(job.plan, training.log_every, on_row=on_row, on_step=progress.step)
        callbacks = [monitor]
        if job.data.validation is not None:
            stopping = training.early_stopping
            validation = Validation(
                lambda: job.evaluate(job.data.validation)[0],
                every=training.evaluate_every,
                metric=stopping.metric if stopping else "loss",
                patience=stopping.patience if stopping else None,
                min_delta=stopping.min_delta if stopping else 0.0,
                on_result=on_validation,
            )
            callbacks.append(validation)
        history = job.model.fit(
            task.labelled_batches(job.model, job.data.train, job.plan, training.epochs),
            epochs=training.epochs,
            steps_per_epoch=job.plan.steps,
            callbacks=callbacks,
            shuffle=False,  # The plan has shuffled.
            verbose=0,
        ).history
    training_curve(log.rows, run.curve)
    metrics = {
        "train": {name: values[-1] for name, values in history.items() if name != "step_loss"},
        "validation": validation.result if validation else {},
        "test": {},
    }
    return metrics, monitor.timing()
