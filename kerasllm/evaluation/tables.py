"""Tables of a classifier's metrics for the terminal and the notebook, rendered by rich."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from rich import box
from rich.console import Console, ConsoleOptions, RenderResult
from rich.jupyter import JupyterMixin
from rich.table import Table
from rich.text import Text

# With more classes than these a confusion matrix is not read any more, however wide the screen.
MATRIX_CLASSES = 12
CONFUSED_PAIRS = 12
# More classes than these are summed up: a balance of hundreds of lines is not read.
BALANCE_CLASSES = 12

# So many classes are found at a glance in the order of their labels.
_SORTED_FROM = 6

# Where the screen is narrow, names give way and numbers do not: rich shrinks what it may wrap.
_NUMBERS: dict[str, Any] = {"justify": "right", "no_wrap": True}
_NAMES: dict[str, Any] = {"max_width": 28}

_METRICS = {
    "loss": "loss",
    "accuracy": "accuracy",
    "macro_f1": "macro F1",
    "weighted_f1": "weighted F1",
    "macro_precision": "macro precision",
    "macro_recall": "macro recall",
    "mcc": "MCC",
}


# What any data set may have beside its metrics.
_COUNTS = {"skipped_rows": "bad rows left out"}


def metrics_table(
    reports: Mapping[str, Mapping[str, Any]],
    title: str | None = None,
    *,
    names: Mapping[str, str] = _METRICS,
) -> Table:
    """One row for each metric, one column for each data set.

    Args:
        reports: What `classification_report` gave, by the name of the data set: `{"validation":
            {...}, "test": {...}}`. A metric that a report lacks is shown as a dash; one that all
            lack is left out.
        title: Shown above the table. Defaults to `None`.
        names: What each metric is called, by its key. Defaults to those of `classification_report`.

    Returns:
        A table to give to `rich.print`, or to leave as the last line of a notebook's cell.
    """
    table = table_of(reports, names, title)
    supports = [_rows(report) for report in reports.values()]
    if any(supports) and not any("rows" in report for report in reports.values()):
        table.add_row("rows", *(f"{rows:,}" if rows else "-" for rows in supports))
    return table


def table_of(
    reports: Mapping[str, Mapping[str, Any]], metrics: Mapping[str, str], title: str | None = None
) -> Table:
    """One row for each metric that a report has, one column for each report.

    Args:
        reports: Metrics by name, by the name of the data set.
        metrics: What each metric is called in the table, by name.
        title: Shown above the table. Defaults to `None`.
    """
    table = _table(title, "")
    for name in reports:
        table.add_column(_label(name), **_NUMBERS)
    for key, shown in {**metrics, **_COUNTS}.items():
        values = [report.get(key) for report in reports.values()]
        if any(value is not None for value in values):
            table.add_row(shown, *(_number(value) for value in values))
    return table


def per_class_table(report: Mapping[str, Any], title: str | None = None) -> Table:
    """One row for each class: precision, recall, F1, its rows and its share of all rows.

    More than a handful of classes are sorted by their rows, most first.

    Args:
        report: What `classification_report` gave.
        title: Shown above the table. Defaults to `None`.

    Returns:
        A table to give to `rich.print`, or to leave as the last line of a notebook's cell.
    """
    table = _table(title, "class")
    for column in ("precision", "recall", "F1", "rows", "share"):
        table.add_column(column, **_NUMBERS)
    several = any("threshold" in scores for scores in report["per_class"].values())
    for column in ("AP", "threshold") if several else ():
        table.add_column(column, **_NUMBERS)
    total = report.get("rows") or _rows(report) or 1
    classes = list(report["per_class"].items())
    if len(classes) > _SORTED_FROM:
        # Stable: among equals the order stays that of the labels.
        classes.sort(key=lambda each: -each[1]["support"])
        table.caption = "largest classes first"
    for name, scores in classes:
        more = (scores["average_precision"], scores["threshold"]) if several else ()
        table.add_row(
            _label(name),
            *(_number(scores[key]) for key in ("precision", "recall", "f1")),
            f"{scores['support']:,}",
            f"{scores['support'] / total:.1%}",
            *map(_number, more),
        )
    return table


def reliability_table(report: Mapping[str, Any], title: str | None = None) -> Table:
    """One row for each range of confidence: how confident the model was, and how often right.

    Args:
        report: What `calibration_report` gave.
        title: Shown above the table. Defaults to `None`.
    """
    table = _table(title, "confidence")
    for column in ("accuracy", "predictions"):
        table.add_column(column, **_NUMBERS)
    for one in report["reliability"]:
        table.add_row(f"{one['confidence']:.1%}", f"{one['accuracy']:.1%}", f"{one['count']:,}")
    return table


def score_table(parts: Mapping[str, np.ndarray], title: str | None = None) -> Table:
    """How the scores of each part of the data are distributed.

    Args:
        parts: float `[rows]`, the scores, by the name of the part.
        title: Shown above the table. Defaults to `None`.
    """
    table = Table(box=None, pad_edge=False, header_style="dim", title=title)
    table.add_column("scores")
    for column in ("rows", "least", "quarter", "median", "three quarters", "most", "mean"):
        table.add_column(column, **_NUMBERS)
    for name, scores in parts.items():
        marks = np.quantile(scores, [0, 0.25, 0.5, 0.75, 1])
        cells = (f"{mark:.4g}" for mark in (*marks, scores.mean()))
        table.add_row(_label(name), f"{len(scores):,}", *cells)
    return table


def balance_table(
    counts: Mapping[str, np.ndarray],
    names: Sequence[str],
    weights: np.ndarray | None = None,
    rows: Mapping[str, int] | None = None,
) -> Table:
    """Rows of each class in each part of the data, most frequent first, with their shares.

    Args:
        counts: int `[classes]`, the rows of each class, by the name of the part; `train` is one.
        names: The names of the classes.
        weights: float `[classes]`, the weight of each class in the loss. Defaults to `None`: all
            weigh the same.
        rows: The rows of each part, where a row may have several classes. Defaults to `None`: the
            sum of the counts.
    """
    table = Table(box=None, pad_edge=False, header_style="dim")
    table.add_column("label", overflow="ellipsis", max_width=32)
    rows = rows or {name: int(of_part.sum()) for name, of_part in counts.items()}
    for name in counts:
        table.add_column(name, **_NUMBERS)
    if weights is not None:
        table.add_column("weight", **_NUMBERS)
    order = np.argsort(-counts["train"], kind="stable")
    for number in order[:BALANCE_CLASSES]:
        cells = [_share(c[number], rows[name]) for name, c in counts.items()]
        if weights is not None:
            cells.append(f"{weights[number]:.3g}")
        table.add_row(_label(names[number]), *cells)
    rest = order[BALANCE_CLASSES:]
    if len(rest):
        cells = [_share(c[rest].sum(), rows[name]) for name, c in counts.items()]
        table.add_row(f"{len(rest)} more labels", *cells)
    table.add_row("all", *(f"{rows[name]:,}" for name in counts), style="dim")
    return table


class ConfusionTable(JupyterMixin):
    """A confusion matrix, or where it is too large to read, the pairs most often confused.

    Up to 12 classes are shown as a matrix, its columns named by the classes or, where the screen is
    too narrow for that, numbered like its rows. More classes, and a screen too narrow for the
    numbers, get the list of pairs.

    Args:
        matrix: int, shape `(classes, classes)`. Rows are true classes, columns predicted ones.
        names: The names of the classes, in the order of the matrix.
        title: Shown above the table. Defaults to `None`.

    Example:

    ```python
    rich.print(ConfusionTable([[90, 10], [4, 96]], ["negative", "positive"]))
    ```
    """

    def __init__(
        self, matrix: Sequence[Sequence[int]], names: Sequence[str], title: str | None = None
    ):
        self.counts = np.asarray(matrix)
        self.names = list(names)
        self.title = title

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        unbounded = options.update(max_width=100_000)
        if len(self.names) <= MATRIX_CLASSES:
            for numbered in (False, True):
                table = self._matrix(numbered)
                if console.measure(table, options=unbounded).maximum <= options.max_width:
                    yield table
                    return
        yield self._pairs()

    def _matrix(self, numbered: bool) -> Table:
        table = _table(self.title, "true \\ predicted")
        if numbered:
            table.columns[0].max_width = 20
        for i, name in enumerate(self.names):
            header = Text(str(i + 1)) if numbered else _label(name)
            table.add_column(header, **_NUMBERS)
        for i, name in enumerate(self.names):
            label = _label(f"{i + 1} {name}" if numbered else name)
            table.add_row(label, *(_cell(n, i == j) for j, n in enumerate(self.counts[i])))
        return table

    def _pairs(self) -> Table:
        wrong = self.counts.copy()
        np.fill_diagonal(wrong, 0)
        # Stable, so that among equal counts the order is that of the classes.
        order = np.argsort(-wrong, axis=None, kind="stable")[:CONFUSED_PAIRS]
        order = order[wrong.flat[order] > 0]

        table = _table(self.title, "true")
        table.add_column("predicted as", **_NAMES)
        table.add_column("rows", **_NUMBERS)
        table.add_column("of its class", **_NUMBERS)
        for true, predicted in zip(*np.unravel_index(order, wrong.shape)):
            count = wrong[true, predicted]
            table.add_row(
                _label(self.names[true]),
                _label(self.names[predicted]),
                f"{count:,}",
                f"{count / self.counts[true].sum():.1%}",
            )
        errors, shown = int(wrong.sum()), int(wrong.flat[order].sum())
        table.show_header = errors > 0
        table.caption = f"{errors:,} of {self.counts.sum():,} rows are wrong"
        if shown < errors:
            table.caption += f"; the pairs above hold {shown:,} of them"
        return table


def _table(title: str | None, first_column: str) -> Table:
    table = Table(
        title=title and _label(title),
        title_justify="left",
        title_style="bold",
        header_style="bold",
        caption_justify="left",
        box=box.SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
    )
    table.add_column(first_column, **_NAMES)
    return table


def _label(name: str) -> Text:
    """A label is data: neither its brackets nor its control characters may act on the terminal."""
    printable = "".join(c if c.isprintable() else " " for c in str(name))
    return Text(printable, no_wrap=True, overflow="ellipsis")


def _number(value: float | int | None) -> str:
    if value is None:
        return "-"
    return f"{value:,}" if isinstance(value, int) else f"{value:.4f}"


def _cell(count: int, correct: bool) -> Text:
    style = "bold" if correct else ("" if count else "dim")
    return Text(str(count), style=style)


def _rows(report: Mapping[str, Any]) -> int:
    return sum(scores["support"] for scores in report.get("per_class", {}).values())


def _share(count: int, rows: int) -> str:
    return f"{count:,} ({count / max(rows, 1):.1%})"
