"""What `finetune` shows of a classifier: its classes, its metrics, and what it got wrong."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from rich.table import Table
from rich.text import Text

from kerasllm.evaluation.tables import metrics_table  # noqa: F401  what `show_results` shows
from kerasllm.run import Run
from kerasllm.tasks import text_classification as task
from kerasllm.tasks.text_classification import ClassificationData
from kerasllm.workflows.report import Report

if TYPE_CHECKING:
    from kerasllm.workflows.job import Job

# More classes than these are summed up: a balance of hundreds of lines is not read.
_CLASSES_SHOWN = 12


def show_data(report: Report, job: Job) -> None:
    """Shows the files, the rows of each part, and how the classes are balanced."""
    data = job.data
    report.facts([*_files(data), ("columns", _columns(data))])
    for part, store in data.stores.items():
        for remark in task.remarks(store):
            report.line(f"{part}: {remark}")
    report.show(balance_table(data))
    cut_rows = int((data.train.lengths >= job.recipe.data.max_length).sum())
    if cut_rows:
        report.line(
            f"{cut_rows:,} training texts reach data.max_length={job.recipe.data.max_length} "
            "tokens; what is longer is cut off"
        )


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


def show_test(report: Report, job: Job, logits: np.ndarray) -> None:
    """Shows what the model got wrong on the test data, the surest first."""
    wrong = task.wrong_examples(
        job.data.sources["test"], job.data.test, job.data.labels, logits
    )
    if not wrong:
        return
    report.heading("Surest mistakes on the test data")
    for example in wrong:
        text = " ".join(example["text"].split())
        report.line(
            f"{example['predicted']} ({example['probability']:.0%}), "
            f"labelled {example['label']}: "
            f"{text if len(text) <= 160 else text[:159] + '…'}"
        )


def next_steps(run: Run) -> list[tuple[str, str]]:
    """Returns what a user may do with the run, and how."""
    return [
        ("classify a text", f'kerasllm predict {run.path} "..."'),
        ("classify a file", f"kerasllm predict {run.path} --input FILE --output out.csv"),
        ("measure on other data", f"kerasllm evaluate {run.path} --data FILE"),
    ]


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
    if data.train.weights is None:
        return None
    weights = np.ones(len(data.labels))
    weights[data.train.labels] = data.train.weights
    return None if np.all(weights == 1) else weights
