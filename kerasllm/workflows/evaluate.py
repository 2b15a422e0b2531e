"""Measure a trained classifier on labelled data."""

from __future__ import annotations

from pathlib import Path

from kerasllm.data.examples import Examples
from kerasllm.data.sources import Source
from kerasllm.environment import store_dir
from kerasllm.recipe import load
from kerasllm.run import Run
from kerasllm.tasks import text_classification as task
from kerasllm.workflows.open_classifier import open_classifier
from kerasllm.workflows.report import Report


def evaluate(
    run: str | Path,
    data: str | list[str],
    *,
    text: str | None = None,
    label: str | None = None,
    report: Report | None = None,
) -> dict:
    """Measures the trained model of a run on labelled data.

    Args:
        run: The run directory.
        data: A file, a glob or `starter:NAME`, or a list of these.
        text: Column of the texts. Defaults to `None`: the recipe's, else found by common names.
        label: Column of the labels. Defaults to `None`, as for `text`.
        report: Where progress is shown. Defaults to `None`: stderr.

    Returns:
        The metrics of `kerasllm.evaluation.classification.classification_report`.

    Raises:
        KerasllmError: If the run or the data is refused.

    Example:

    ```python
    evaluate("my_run", "starter:movie_reviews")["accuracy"]
    ```
    """
    report = report or Report()
    opened = Run.open(run)
    recipe = load(str(opened.recipe)).data
    source = Source(
        data,
        split="test",
        text=text or recipe.text,
        label=label or recipe.label,
        on_bad_row=recipe.on_bad_row,
    )
    with report.busy("loading the model") as busy:
        model = open_classifier(opened)
        store = task.open_tokens(
            source,
            model.tokenizer,
            model.max_length,
            folder=store_dir(),
            notify=busy.update,
        )
        for remark in task.remarks(store):
            report.line(remark)
        labels = task.encode_labels(store, model.labels)
        busy.update(f"evaluating on {len(store):,} rows")
        metrics, _ = task.evaluate(model, Examples.of(store, labels), buckets=recipe.buckets)
    return metrics
