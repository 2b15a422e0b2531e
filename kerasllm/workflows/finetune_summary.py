"""What `finetune` says before the first step and after the last."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from kerasllm.data.batch_plan import BatchPlan
from kerasllm.distribution.strategies import describe
from kerasllm.models.layers import trainable_share
from kerasllm.run import Run
from kerasllm.tasks.task import Evaluation
from kerasllm.workflows.report import Report

if TYPE_CHECKING:
    from kerasllm.workflows.job import Job


def show_data(report: Report, job: Job) -> None:
    """Shows the files, and what became of their rows."""
    report.heading("Data")
    shown = job.task.facts(job.recipe, job.data)
    report.facts(shown.facts)
    for table in shown.tables:
        report.show(table)
    for remark in shown.remarks:
        report.line(remark)


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
            *job.task.model_facts(job.recipe, job.model),
            ("trainable", f"{trainable:,} ({trainable / total:.2%})"),
            ("devices", describe(job.strategy)),
            ("precision", f"{job.precision}, {_xla(job)}"),
            ("optimizer", _optimizer(job)),
            ("rows", f"{len(job.data.train):,} to train on, {training.epochs} x"),
            ("steps", f"{job.steps:,} of {job.plan.batch_size} rows{cut}"),
            ("shapes", f"{job.plan.batch_size} x {_widths(plan)} tokens"),
            ("padding", _padding(plan)),
        ]
    )


def show_results(
    report: Report,
    job: Job,
    run: Run,
    metrics: dict,
    timing: dict,
    found: Evaluation | None,
) -> None:
    """Shows the final metrics, what the task says of the test data, and what to do next."""
    report.heading("Results")
    parts = {name: metrics[name] for name in ("validation", "test") if metrics[name]}
    if parts:
        for table in job.task.tables(parts):
            report.show(table)
    report.line(
        f"trained {timing['steps']:,} steps in {timing['train_seconds']:.1f} s: "
        f"{timing['tokens_per_second']:,.0f} real tokens/s, {timing['padding']:.1%} padding; "
        f"{timing['total_seconds']:.1f} s in all"
    )
    report.line(_before_and_after(timing))
    if found is not None:
        _show_mistakes(report, job.task.mistakes(job.recipe, job.data, found))
    report.heading("Next")
    report.facts(
        [
            ("the model", str(run.model)),
            ("the curve", str(run.curve)),
            *job.task.next_steps(run),
            ("watch the curves", f"tensorboard --logdir {run.tensorboard}"),
        ]
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


def _widths(plan: BatchPlan) -> str:
    """Returns the lengths of batches, as in "16 32"; of source and target, as in "16+8 32+8"."""
    pairs = [width if isinstance(width, tuple) else (width,) for width in plan.shapes]
    return " ".join("+".join(map(str, pair)) for pair in pairs)


def _padding(plan: BatchPlan) -> str:
    return (
        f"{plan.padding:.1%} of {plan.processed_tokens:,} tokens an epoch "
        f"({plan.real_tokens.sum():,} are real)"
    )
