"""Compare runs, and list them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich import box
from rich.cells import cell_len
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from kerasllm.errors import CommandError
from kerasllm.output_files import make_folder_of
from kerasllm.plurals import counted
from kerasllm.reports.comparison import ALPHA, compare
from kerasllm.reports.damaged import damaged_run_refused
from kerasllm.reports.plain import moment, number, plain, short
from kerasllm.reports.run_groups import no_folder, runs_below, summary_of
from kerasllm.run import write_text
from kerasllm.workflows.report import Report

_ROWS_SHOWN = 5


def compare_runs(paths: Sequence[str | Path], output: str | Path | None = None) -> dict[str, Any]:
    """Compares runs with the first of them; no model is loaded.

    Args:
        paths: Run directories, or folders that `finetune --seeds` wrote; two or more.
        output: An `.html` file to write. Defaults to `None`: none.

    Returns:
        What `kerasllm.reports.comparison.compare` gives.

    Raises:
        KerasllmError: If they cannot be compared, or the file cannot be written.

    Example:

    ```python
    compare_runs(["one_run", "other_run"])["verdicts"]
    ```
    """
    if len(paths) < 2:
        raise CommandError(
            "There is only one run to compare",
            where=", ".join(map(str, paths)) or None,
            fix="name two runs or more; `kerasllm report RUN` shows a single one",
        )
    if output is not None:
        if Path(output).suffix not in (".html", ".htm"):
            raise CommandError(
                "The comparison is written as a page",
                where=f"--output {output}",
                fix="use a name that ends with .html; --json prints JSON",
            )
        make_folder_of(Path(output))
    with damaged_run_refused(*paths):
        found = compare(paths)
        if output is not None:
            from kerasllm.reports.page import compare_page

            write_text(Path(output), compare_page(found))
    return found


def show_comparison(found: Mapping[str, Any], report: Report) -> None:
    """Shows what `compare_runs` found."""
    names = [run["name"] for run in found["runs"]]
    report.heading(f"Metrics on the {found['part']} data")
    report.show(_metrics_table(found, names))
    for verdict in found["verdicts"]:
        report.line(plain(verdict))
    if found["not_tested"]:
        report.line(f"not tested example by example: {plain(found['not_tested'])}")
    if found["recipes"]:
        report.heading("Recipes differ in")
        for row in found["recipes"]:
            values = " | ".join(short(plain(_written(value)), 60) for value in row["values"])
            report.line(f"{row['key']}: {values}")
    if rows := found["rows"]:
        report.heading("Rows")
        noun = rows["noun"]
        alone = "".join(
            f"; {plain(name)} alone gets {count:,} right"
            for name, count in rows["right_alone"].items()
        )
        report.line(
            f"of {counted(rows['all'], noun)} all runs get {rows['all_right']:,} right and "
            f"{rows['all_wrong']:,} wrong{alone}; they disagree on {len(rows['disagree']):,}"
        )
        for row in rows["disagree"][:_ROWS_SHOWN]:
            if row["predicted"]:
                said = ", ".join(
                    f"{plain(name)} {short(plain(_shown(one)), 40)}"
                    for name, one in zip(names, row["predicted"], strict=True)
                )
                expected = short(plain(_shown(row.get("expected", ""))), 40)
                report.line(f"labelled {expected}: {said}: {short(plain(row['text']), 120)}")


def list_runs(folders: Sequence[str | Path]) -> list[dict[str, Any]]:
    """Returns the short facts of all runs in folders, the newest first.

    Args:
        folders: Folders of runs, or run directories.

    Raises:
        RunError: If a folder is not there.
    """
    found: dict[Path, dict[str, Any]] = {}
    for folder in map(Path, folders):
        if not folder.is_dir():
            raise no_folder(folder, "runs")
        found |= {path.absolute(): summary_of(path) for path in runs_below(folder)}
    return sorted(found.values(), key=lambda run: str(run.get("started") or ""), reverse=True)


def show_runs(runs: Sequence[Mapping[str, Any]], report: Report) -> None:
    """Shows what `list_runs` found: a table where it fits, else a path a line, which stay whole."""
    heads = ("run", "trained", "metric", "value", "begun")
    rows = [_cells(run) for run in runs]
    widths = [max(map(cell_len, column)) for column in zip(heads, *rows, strict=True)]
    if sum(widths) + len(heads) <= report.console.width:
        table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
        for head in heads:
            table.add_column(head, justify="right" if head == "value" else "left", no_wrap=True)
        for row in rows:
            table.add_row(*map(Text, row))
        report.show(table)
        return
    for path, trained, metric, value, begun in rows:
        report.console.print(Text(path), soft_wrap=True)
        facts = ", ".join(filter(None, (f"{metric} {value}".strip(), begun, trained)))
        report.console.print(Padding(Text(facts, style="dim"), (0, 0, 0, 4)))


def _cells(run: Mapping[str, Any]) -> tuple[str, str, str, str, str]:
    """Returns what is shown of a run: its path, what was trained, the metric, its value, when."""
    problem = run.get("problem")
    trained = problem or f"{run['task']}, {run['preset'] or 'a new model'}"
    metric = f"{run['name']}, {run['part']}" if run.get("part") and not problem else ""
    value = number(run.get("value")) if run["finished"] else "unfinished"
    begun = moment(run.get("started") or "").removesuffix(" UTC")
    shown = (str(run["path"]), trained, metric, "damaged" if problem else value)
    return *(plain(cell) for cell in shown), begun


def _metrics_table(found: Mapping[str, Any], names: Sequence[str]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), caption_justify="left")
    table.add_column("", overflow="fold")
    for place, name in enumerate(names):
        table.add_column(Text(plain(name)), justify="right", overflow="fold")
        if place:
            table.add_column("difference", justify="right", no_wrap=True)
    for row in found["metrics"]:
        cells: list[Any] = [row["name"]]
        for place, value in enumerate(row["values"]):
            spread = row["spreads"][place]
            cells.append(number(value) + ("" if spread is None else f" ± {spread:.4f}"))
            if apart := row["differences"][place]:
                cells.append(_difference(apart, row["higher_is_better"]))
        table.add_row(*cells, style="bold" if row["metric"] == found["headline"] else None)
    table.caption = "* p < 0.05: significant"
    return table


def _difference(apart: Mapping[str, Any], higher_is_better: bool) -> Text:
    p = apart.get("p")
    sure = p is not None and p < ALPHA
    better = (apart["difference"] > 0) == higher_is_better
    style = ("green" if better else "red") if sure else ""
    return Text(f"{apart['difference']:+.4f}{'*' if sure else ' '}", style=style)


def _written(value: Any) -> str:
    """Returns a value of a recipe as its file has it."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _shown(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
