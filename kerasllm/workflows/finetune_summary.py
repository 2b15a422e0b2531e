"""What `finetune` says before the first step and after the last."""

from __future__ import annotations

import importlib
from types import ModuleType
from typing import TYPE_CHECKING, Any

from kerasllm.data.batch_plan import BatchPlan
from kerasllm.distribution.strategies import describe
from kerasllm.models.layers import trainable_share
from kerasllm.recipe import AnyRecipe
from kerasllm.run import Run
from kerasllm.workflows.report import Report

if TYPE_CHECKING:
    from kerasllm.workflows.job import Job

# Imported when they are asked for: one task needs nothing of the others.
_OF_TASK = {
    "text_classification": "classification_summary",
    "causal_lm": "causal_lm_summary",
    "preference": "preference_summary",
}


def of_task(recipe: AnyRecipe) -> ModuleType:
    """Returns the module that knows how to show a recipe's task."""
    return importlib.import_module(f"kerasllm.workflows.{_OF_TASK[recipe.task]}")


def show_data(report: Report, job: Job) -> None:
    """Shows the files, and what became of their rows."""
    report.heading("Data")
    of_task(job.recipe).show_data(report, job)


def show_plan(report: Report, job: Job) -> None:
    """Shows the model, the batches, the shapes and the padding of the training to come."""
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
            ("trainable", f"{trainable:,} ({trainable / total:.2%})"),
            ("devices", describe(job.strategy)),
            ("precision", f"{job.precision}, {_xla(job)}"),
            ("optimizer", _optimizer(job)),
            ("rows", f"{len(job.data.train):,} to train on, {training.epochs} x"),
            ("steps", f"{job.steps:,} of {job.plan.batch_size} rows{cut}"),
            ("shapes", f"{job.plan.batch_size} x {' '.join(map(str, plan.shapes))} tokens"),
            ("padding", _padding(plan)),
        ]
    )


def show_results(
    report: Report, job: Job, run: Run, metrics: dict, timing: dict, details: Any
) -> None:
    """Shows the final metrics, what the task says of the test data, and what to do next."""
    shown = of_task(job.recipe)
    report.heading("Results")
    parts = {name: metrics[name] for name in ("validation", "test") if metrics[name]}
    if parts:
        report.show(shown.metrics_table(parts))
    report.line(
        f"trained {timing['steps']:,} steps in {timing['train_seconds']:.1f} s: "
        f"{timing['tokens_per_second']:,.0f} real tokens/s, {timing['padding']:.1%} padding; "
        f"{timing['total_seconds']:.1f} s in all"
    )
    report.line(_before_and_after(timing))
    if details is not None:
        shown.show_test(report, job, details)
    report.heading("Next")
    report.facts(
        [
            ("the model", str(run.model)),
            ("the curve", str(run.curve)),
            *shown.next_steps(run),
            ("watch the curves", f"tensorboard --logdir {run.tensorboard}"),
        ]
    )


def _before_and_after(timing: dict) -> str:
    """Returns where the time went that the steps themselves do not take."""
    parts = [
        ("import", "import_seconds"),
        ("data", "data_seconds"),
        ("load", "load_seconds"),
        ("trace", "trace_seconds"),
        ("compile", "compile_seconds"),
        ("save", "save_seconds"),
        ("test", "test_seconds"),
    ]
    # A run of a step or two cannot tell what the first ones took for compiling.
    return ", ".join(f"{name} {timing[key]:.1f} s" for name, key in parts if key in timing)


def _xla(job: Job) -> str:
    if job.xla:
        return "XLA compiles the step"
    slices = job.model.slices
    at_once = f", a batch in {slices} slices" if slices > 1 else ""
    return ("XLA fuses element-wise work" if job.model.fused else "XLA off") + at_once


def _optimizer(job: Job) -> str:
    training = job.recipe.training
    return (
        f"{training.optimizer}, learning rate {training.learning_rate:g}, "
        f"{training.schedule} after {job.warmup_steps} steps of warm-up"
    )


def _padding(plan: BatchPlan) -> str:
    return (
        f"{plan.padding:.1%} of {plan.processed_tokens:,} tokens an epoch "
        f"({plan.real_tokens.sum():,} are real)"
    )
