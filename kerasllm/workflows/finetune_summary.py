"""What `finetune` prints before the first step and after the last."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

import numpy as np

from kerasllm import recipe as recipes
from kerasllm.data.batch_plan import BatchPlan
from kerasllm.distribution.layouts import layouts_of, replicated
from kerasllm.distribution.strategies import describe, kind_of
from kerasllm.errors import DataError, RecipeError
from kerasllm.models.layers import trainable_share
from kerasllm.plurals import counted
from kerasllm.recipe import WholeRecipe
from kerasllm.run import Run, shell_word
from kerasllm.tasks.task import Evaluation
from kerasllm.training.checkpoints import Checkpoint
from kerasllm.training.validation import Validation
from kerasllm.workflows.job import schedule_of
from kerasllm.workflows.report import Report

if TYPE_CHECKING:
    from kerasllm.workflows.job import Job

# From fewer rows little is learned.
_FEW_ROWS = 20
# Fewer steps hardly move a model.
_FEW_STEPS = 20
# A new model of any size is trained faster than this.
_LEAST_RATE_OF_NEW = 1e-4
_CURVE_POINTS = 400


def show_recipe(
    report: Report,
    recipe: WholeRecipe,
    name: str,
    title: str | None = None,
    *,
    run: Run | None = None,
    verbose: bool = False,
) -> None:
    """Shows what a recipe sets otherwise than what it is made of; all of it, if verbose.

    Args:
        report: Where to.
        recipe: The recipe.
        name: Its name; that of a shipped one, if there is no title.
        title: Its file. Defaults to `None`: its name is shown.
        run: The run that is resumed by it. Defaults to `None`.
        verbose: Whether all keys are shown. Defaults to `False`.
    """
    shown = title or name
    # Of a recipe that Python code made, only the task is known.
    report.heading(f"Recipe {shown}" if shown != "finetune" else f"Recipe of {recipe.task}")
    if verbose:
        report.yaml(recipe.to_yaml())
        return
    base, of_base = None, "default"
    if run is not None:
        # Of an older version its file may not be a recipe any more.
        with suppress(RecipeError):
            base = recipes.load(run.recipe, recipes.older_settings(run.recipe))
            of_base = "was"
    elif title is None and name in recipes.names():
        base, of_base = recipes.load(name), f"in {name}"
    changes = recipe.changes_from(base)
    report.facts(
        [
            (key, f"{_value(recipe, key, now)}  ({of_base}: {_value(recipe, key, old)})")
            for key, (now, old) in changes.items()
        ]
    )
    rest = "all other keys" if changes else "all keys"
    where = "their defaults" if base is None else "as they were" if run else f"as in {name}"
    report.line(f"{rest} are {where}: see the run's recipe.yaml, or --verbose")


def _value(recipe: WholeRecipe, key: str, value: object) -> str:
    """Returns a value of a recipe as a line of YAML has it."""
    section, _, name = key.partition(".")
    words = getattr(getattr(recipe, section), "null_words", {})
    if value is None and name in words:
        return words[name]
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def show_data(report: Report, job: Job, *, warnings: bool = True) -> list[str]:
    """Shows the files, and what became of their rows; returns the warnings among it.

    Args:
        report: Where to.
        job: The training.
        warnings: Whether the warnings are shown too. Defaults to `True`.
    """
    report.heading("Data")
    shown = job.task.facts(job.recipe, job.data)
    report.facts(shown.facts)
    for table in shown.tables:
        report.show(table)
    remarks, rows = [*shown.remarks, *job.checked.lines()], len(job.data.train)
    if rows < _FEW_ROWS:
        remarks.append(
            f"warning: only {counted(rows, 'training example')}: too few to learn much from, and "
            "the metrics may be due to chance"
        )
    told = [remark for remark in remarks if remark.startswith("warning: ")]
    for remark in remarks:
        if warnings or remark not in told:
            report.line(remark)
    return told


def refused_leak(job: Job) -> DataError | None:
    """Returns why the test data are refused that the model would train on, if they are.

    More than a hundredth of the test rows are then in the training data, and the recipe does not
    accept it.
    """
    refused = job.checked.refused
    if not refused or getattr(job.recipe.data, "leaks", "warn") != "refuse":
        return None
    leak = refused[0]
    return DataError(
        f"{leak}: the test metrics would be too good",
        where=", ".join(leak.places),
        fix="remove them from train (`kerasllm data report TRAIN --test TEST --fix CLEAN` does), "
        "or accept it with --set data.leaks=warn",
    )


def training_warnings(job: Job) -> list[str]:
    """Returns warnings about a training that will hardly teach the model anything."""
    training, found = job.recipe.training, []
    asked_for = job.steps < job.plan.steps * training.epochs
    if job.steps < _FEW_STEPS and not asked_for:
        warmup = f", {job.warmup_steps} of warm-up" if job.warmup_steps else ""
        found.append(
            f"warning: only {counted(job.steps, 'training step')}{warmup}: too few to learn much; "
            f"raise training.epochs, or lower training.batch_size (now {training.batch_size})"
        )
    is_new = getattr(job.recipe.model, "preset", "") is None
    if is_new and training.learning_rate < _LEAST_RATE_OF_NEW:
        found.append(
            f"warning: training.learning_rate {training.learning_rate:g} is for pretrained models, "
            "and this one is new: it will learn very slowly; try --set training.learning_rate=1e-3"
        )
    return found


def layout_warnings(job: Job) -> list[str]:
    """Returns a warning about weights that a mesh does not split; `plan` names all of them."""
    if kind_of(job.strategy) != "sharded":
        return []
    mesh = job.strategy.shape
    devices = math.prod(mesh.values())
    whole = replicated(layouts_of(job.model.variables, mesh), devices)
    if not whole:
        return []
    found = (
        f"warning: each of {devices} devices holds all of {counted(len(whole), 'large weight')}, "
        f"such as {whole[0].path}, {whole[0]}: no dimension is a multiple of an axis of the mesh; "
        "choose a mesh whose axes divide one"
    )
    return [found]


def show_plan(report: Report, job: Job, *, warnings: bool = True) -> None:
    """Shows the model, the batches, the shapes and the padding of the training to come.

    Args:
        report: Where to.
        job: The training.
        warnings: Whether `training_warnings` and `layout_warnings` are shown too. Defaults to
            `True`.
    """
    training, plan = job.recipe.training, job.plan(0)
    trainable, total = trainable_share(job.model.task)
    cut = f", each in {training.accumulate} micro-batches" if training.accumulate > 1 else ""
    replicas = job.strategy.num_replicas_in_sync
    if replicas > 1:
        cut = f", {job.replica_rows} on each of {replicas} replicas{cut}"
    report.heading("Plan")
    report.facts(
        [
            ("model", f"{job.model.task.backbone.name}, {total:,} parameters"),
            *job.task.model_facts(job.recipe, job.model),
            ("trainable", f"{trainable:,} ({trainable / total:.2%})"),
            ("devices", describe(job.strategy)),
            ("precision", f"{job.precision}, {_xla(job)}"),
            ("optimizer", _optimizer(job)),
            ("examples", f"{len(job.data.train):,} for training, {_epochs(job)}"),
            ("steps", f"{job.steps:,}, batch size {job.plan.batch_size:,}{cut}"),
            ("shapes", f"{job.plan.batch_size} x {_widths(plan)} tokens"),
            ("padding", _padding(plan)),
        ]
    )
    for warning in [*training_warnings(job), *layout_warnings(job)] if warnings else ():
        report.line(warning)


def _epochs(job: Job) -> str:
    """Returns the number of epochs, such as `2 epochs` or `1.43 epochs`."""
    passes = job.steps / job.plan.steps
    limited = job.steps < job.plan.steps * job.recipe.training.epochs
    epochs = f"{passes:.3g} {'epoch' if passes == 1 else 'epochs'}"
    return epochs + (", limited by training.max_steps" if limited else "")


def show_results(
    report: Report,
    job: Job,
    run: Run,
    metrics: dict,
    timing: dict,
    found: Evaluation | None,
    resumed: Checkpoint | None = None,
) -> None:
    """Shows the final metrics, what the task says of the test data, and what to do next.

    Args:
        report: Where to.
        job: The job.
        run: Its run.
        metrics: The metrics by the part of the data.
        timing: Seconds, steps and tokens.
        found: What was measured on the test data, if there are any.
        resumed: The checkpoint that the training was resumed from. Defaults to `None`.
    """
    report.heading("Results")
    parts = {name: metrics[name] for name in ("validation", "test") if metrics[name]}
    if parts:
        for table in job.task.tables(parts):
            report.show(table)
    if parts:
        part, measured = list(parts.items())[-1]
        for doubt in job.task.doubts(measured):
            report.line(f"warning: on the {part} data the model {doubt}")
    report.line(_trained(timing, resumed))
    report.line(_before_and_after(timing))
    if found is not None:
        _show_mistakes(report, job.task.mistakes(job.recipe, job.data, found))
    report.heading("Next")
    report.facts(
        [
            ("the model", str(run.model)),
            ("the curve", str(run.curve)),
            *([("the report", str(run.report))] if run.report.is_file() else []),
            *job.task.next_steps(run),
            ("view the curves", f"tensorboard --logdir {shell_word(run.tensorboard)}"),
        ]
    )


def kept_by_early_stopping(job: Job, validation: Validation) -> str:
    """Tells what early stopping monitored, what it restored, and when it stopped the training."""
    metric = job.recipe.training.early_stopping.metric
    value = validation.result[metric]
    epoch = validation.best_step / job.plan.steps
    done = job.model.steps_done
    end = "finished" if done >= job.steps else "was stopped"
    return (
        f"early stopping restored the weights of step {validation.best_step:,} (epoch "
        f"{epoch:.3g}): "
        f"validation {job.task.metrics.get(metric, metric)} {value:.4f} was the best; training "
        f"{end} at step {done:,} of {job.steps:,}"
    )


def learning_rates(job: Job, rows: Sequence[Mapping], done: int) -> list[tuple[int, float]]:
    """Returns steps and their learning rates, close enough for a curve that reaches its peak.

    Args:
        job: The job.
        rows: The rows of the log; steps before a resume had the schedule of then.
        done: Steps that were done before a resume.
    """
    logged = [
        (row["step"], row["learning_rate"])
        for row in rows
        if "learning_rate" in row and row["step"] <= done
    ]
    last = job.model.steps_done
    steps = {round(each) for each in np.linspace(done + 1, last, min(_CURVE_POINTS, last - done))}
    steps |= {each for each in (job.warmup_steps, job.warmup_steps + 1) if done < each <= last}
    schedule = schedule_of(job.recipe.training, job.steps)
    # The first step is number 1, and has the rate of 0.
    return logged + [(step, float(schedule(step - 1))) for step in sorted(steps)]


def _trained(timing: Mapping, resumed: Checkpoint | None) -> str:
    """Returns the steps and their time, those before a resume apart from those of this process."""
    steps, seconds = timing["steps"], timing["train_seconds"]
    speed = f"{timing['tokens_per_second']:,.0f} real tokens/s, {timing['padding']:.1%} padding"
    if resumed is None:
        done = f"trained {counted(steps, 'step')} in {seconds:.1f} s"
        return f"{done}: {speed}; {timing['total_seconds']:.1f} s in all"
    before = resumed.state["states"]["monitor"]["seconds"]
    return (
        f"trained {counted(steps - resumed.step, 'step')} in {seconds - before:.1f} s, after "
        f"{counted(resumed.step, 'step')} in {before:.1f} s before it was resumed: {speed}; this "
        f"command took {timing['total_seconds']:.1f} s"
    )


def _show_mistakes(report: Report, mistakes: Sequence[Mapping]) -> None:
    if not mistakes:
        return
    report.heading("Most confident mistakes on the test data")
    for mistake in mistakes:
        text = " ".join(mistake["text"].split())
        report.line(
            f"predicted {mistake['predicted']}, labelled {mistake['expected']}: "
            f"{text if len(text) <= 160 else text[:159] + '…'}"
        )


def _before_and_after(timing: dict) -> str:
    """Returns where the time went that the steps themselves do not take."""
    parts = [
        ("import", "import_seconds"),
        ("data", "data_seconds"),
        ("load", "load_seconds"),
        ("trace", "trace_seconds"),
        ("compile", "compile_seconds"),
        ("first steps", "first_use_seconds"),
        ("save", "save_seconds"),
        ("test", "test_seconds"),
    ]
    # A run of a step or two cannot tell what the first ones took for compiling.
    return ", ".join(f"{name} {timing[key]:.1f} s" for name, key in parts if key in timing)


def _xla(job: Job) -> str:
    if job.xla:
        return "XLA compiles the step"
    slices = job.model.slices
    at_once = f", {slices} slices per batch" if slices > 1 else ""
    return ("XLA fuses element-wise work" if job.model.fused else "XLA off") + at_once


def _optimizer(job: Job) -> str:
    training = job.recipe.training
    return (
        f"{training.optimizer}, learning rate {training.learning_rate:g}, "
        f"{training.schedule} after {counted(job.warmup_steps, 'step')} of warm-up"
    )


def _widths(plan: BatchPlan) -> str:
    """Returns the lengths of batches, as in "16 32"; of source and target, as in "16+8 32+8"."""
    pairs = [width if isinstance(width, tuple) else (width,) for width in plan.shapes]
    return " ".join("+".join(map(str, pair)) for pair in pairs)


def _padding(plan: BatchPlan) -> str:
    """Returns the share of padding, as it is told after the training too."""
    real, computed = int(plan.real_tokens.sum()), plan.training_tokens
    share = 1 - real / computed if computed else 0.0
    added = len(plan) * plan.batch_size - len(plan.order)
    last = f", the last batch padded with {counted(added, 'example')} of weight 0" if added else ""
    return f"{share:.1%} of {computed:,} tokens per epoch ({real:,} are real){last}"
