"""What `finetune` says before the first step and after the last."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from rich.table import Table
from rich.text import Text

from kerasllm.data.batch_plan import BatchPlan
from kerasllm.distribution.strategies import describe
from kerasllm.evaluation.tables import metrics_table
from kerasllm.models.bert import trainable_share
from kerasllm.run import Run
from kerasllm.tasks import text_classification as task
from kerasllm.tasks.text_classification import ClassificationData
from kerasllm.workflows.report import Report

if TYPE_CHECKING:
    from kerasllm.workflows.job import Job

# More classes than these are summed up: a balance of hundreds of lines is not read.
_CLASSES_SHOWN = 12


def show_data(report: Report, data: ClassificationData) -> None:
    """Shows the files, the rows of each part, and how the classes are balanced."""
    report.heading("Data")
    report.facts([*_files(data), ("columns", _columns(data))])
    for part, store in data.stores.items():
        for remark in task.remarks(store):
            report.line(f"{part}: {remark}")
    report.show(balance_table(data))


def balance_table(data: ClassificationData) -> Table:
    """Returns the rows of each class in each part, most frequent first, with the shares."""
    table = Table(box=None, pad_edge=False, header_style="dim")
    table.add_column("label", overflow="ellipsis", max_width=32)
    counts = {}
    for name, part in data.parts.items():
        table.add_column(name, justify="right")
        counts[name] = np.bincount(part.labels, minlength=len(data.labels))
    weights = _weights(data)
    if weights is not None:
        table.add_column("weight", justify="right")
    order = np.argsort(-counts["train"], kind="stable")
    for number in order[:_CLASSES_SHOWN]:
        cells = [f"{c[number]:,} ({c[number] / max(c.sum(), 1):.1%})" for c in counts.values()]
        if weights is not None:
            cells.append(f"{weights[number]:.3g}")
        table.add_row(Text(data.labels.names[number]), *cells)
    rest = order[_CLASSES_SHOWN:]
    if len(rest):
        cells = [
            f"{c[rest].sum():,} ({c[rest].sum() / max(c.sum(), 1):.1%})" for c in counts.values()
        ]
        table.add_row(f"{len(rest)} more labels", *cells)
    table.add_row("all", *(f"{c.sum():,}" for c in counts.values()), style="dim")
    return table


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
            ("precision", f"{job.precision}, XLA {'on' if job.xla else 'off'}"),
            ("optimizer", _optimizer(job)),
            ("rows", f"{len(job.data.train):,} to train on, {training.epochs} x"),
            ("steps", f"{job.steps:,} of {job.plan.batch_size} rows{cut}"),
            ("shapes", f"{job.plan.batch_size} x {' '.join(map(str, plan.shapes))} tokens"),
            ("padding", _padding(plan)),
        ]
    )
    cut_rows = int((job.data.train.lengths >= job.recipe.data.max_length).sum())
    if cut_rows:
        report.line(
            f"{cut_rows:,} training texts reach data.max_length={job.recipe.data.max_length} "
            "tokens; what is longer is cut off"
        )


def show_results(report: Report, run: Run, metrics: dict, timing: dict, wrong: list[dict]) -> None:
    """Shows the final metrics, some wrong predictions, and what to do next."""
    report.heading("Results")
    parts = {name: metrics[name] for name in ("validation", "test") if metrics[name]}
    if parts:
        report.show(metrics_table(parts))
    report.line(
        f"trained {timing['steps']:,} steps in {timing['train_seconds']:.1f} s: "
        f"{timing['tokens_per_second']:,.0f} real tokens/s, {timing['padding']:.1%} padding; "
        f"{timing['total_seconds']:.1f} s in all"
    )
    if wrong:
        report.heading("Surest mistakes on the test data")
        for example in wrong:
            text = " ".join(example["text"].split())
            report.line(
                f"{example['predicted']} ({example['probability']:.0%}), "
                f"labelled {example['label']}: "
                f"{text if len(text) <= 160 else text[:159] + '…'}"
            )
    report.heading("Next")
    report.facts(
        [
            ("the model", str(run.model)),
            ("the curve", str(run.curve)),
            ("classify a text", f'kerasllm predict {run.path} "..."'),
            ("classify a file", f"kerasllm predict {run.path} --input FILE --output out.csv"),
            ("measure on other data", f"kerasllm evaluate {run.path} --data FILE"),
            ("watch the curves", f"tensorboard --logdir {run.tensorboard}"),
        ]
    )


def _files(data: ClassificationData) -> list[tuple[str, str]]:
    facts = []
    for part, source in data.sources.items():
        store = data.stores[part]
        tokens = int(store.lengths.sum())
        reused = ", tokens reused from the store" if store.reused else ""
        files = source.files[0] + (
            f" and {len(source.files) - 1} more" if len(source.files) > 1 else ""
        )
        facts.append((part, f"{files}: {len(store):,} rows, {tokens:,} tokens{reused}"))
    if "validation" not in data.sources and data.validation is not None:
        facts.append(("validation", f"{len(data.validation):,} rows held out of train, stratified"))
    return facts


def _columns(data: ClassificationData) -> str:
    source = data.sources["train"]
    return f"text from {source.text_column!r}, labels from {source.label_column!r}"


def _weights(data: ClassificationData) -> np.ndarray | None:
    """Returns the weight of each class in the loss, or `None` where all are 1."""
    weights = np.ones(len(data.labels))
    weights[data.train.labels] = data.train.weights
    return None if np.all(weights == 1) else weights


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
