"""What a user sees of a benchmark: its trainings as they end, and the table."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from rich import box
from rich.table import Table

from kerasllm.plurals import counted
from kerasllm.reports.run_groups import write_seeds
from kerasllm.run import Run, shell_word
from kerasllm.workflows.benchmark_files import in_words
from kerasllm.workflows.live_runs import LiveRuns
from kerasllm.workflows.report import duration

if TYPE_CHECKING:
    from kerasllm.workflows.benchmark_glue import Planned
    from kerasllm.workflows.benchmark_tasks import Benchmark
    from kerasllm.workflows.report import Report


def show_plan(
    report: Report,
    benchmark: Benchmark,
    preset: str,
    planned: Sequence[Planned],
    missing: Mapping[str, str],
    folder: Path,
) -> None:
    """Shows what is trained, before the first training."""
    names = list(dict.fromkeys(run.found.task.name for run in planned))
    seeds = len(planned) // len(names)
    report.heading(f"{benchmark.name}: {counted(len(names), 'task')}, {counted(seeds, 'seed')}")
    training = planned[0].recipe.training
    facts = [
        ("preset", preset),
        ("tasks", ", ".join(names)),
        ("left out", in_words(missing)),
        ("epochs", f"{training.epochs}, with a learning rate of {training.learning_rate:g}"),
        ("runs", str(folder)),
    ]
    report.facts([(name, value) for name, value in facts if value])
    done = sum(run.is_finished for run in planned)
    if done:
        report.line(f"continuing: {done} of {counted(len(planned), 'training')} are done")
    report.line()


class BenchmarkProgress:
    """The trainings of a benchmark, a line each as they end; below, what is under way.

    Args:
        report: Where to.
        planned: The trainings.
        workers: How many at a time.
    """

    def __init__(self, report: Report, planned: Sequence[Planned], workers: int):
        self._report, self._planned, self._workers = report, planned, workers
        self._live = LiveRuns(report)
        # Of those that have ended here: seconds for so many bytes of data.
        self._seconds = self._bytes = 0.0

    def __enter__(self) -> BenchmarkProgress:
        self._live.__enter__()
        return self

    def __exit__(self, *reason: object) -> None:
        self._live.__exit__(*reason)

    def began(self, run: Planned) -> None:
        """Shows the begin of a training, where no line is drawn of it."""
        if not self._live.draws:
            place = self._planned.index(run) + 1
            self._report.line(f"{run.title}, {place} of {len(self._planned)}: training")

    def ended(self, run: Planned, seconds: float) -> None:
        """Shows the end of a training."""
        self._seconds, self._bytes = self._seconds + seconds, self._bytes + run.found.size
        measured = run.measured()
        shown = ", ".join(
            f"{measure.name} {points(measured[measure.key])}"
            for measure in run.found.task.measures
            if measure.key in measured
        )
        left = self._left()
        self._report.line(
            f"{run.title}: {shown}, in {duration(seconds)}"
            + (f", about {duration(left)} left" if left else "")
        )

    def failed(self, run: Planned, words: str) -> None:
        """Shows why a training failed."""
        self._report.line(f"{run.title} failed: {words}")

    def show(self, active: Mapping[int, Any]) -> None:
        """Shows what is under way, on a terminal."""
        done = sum(run.is_finished for run in self._planned)
        self._live.show(active.values(), [f"{done} of {len(self._planned)} done"])

    def _left(self) -> float:
        """Returns how many seconds are left, by the bytes of data that are to be read."""
        left = sum(run.found.size for run in self._planned if not run.is_finished)
        return self._seconds / max(self._bytes, 1) * left / self._workers


def summary_of(
    which: Benchmark,
    planned: Sequence[Planned],
    missing: Mapping[str, str],
    failed: Mapping[str, str],
) -> dict[str, Any]:
    """Returns the figures of the runs that are finished, and writes `seeds.json` of each task.

    Args:
        which: The benchmark.
        planned: The trainings.
        missing: Tasks that were left out, and why.
        failed: Tasks that failed, and why.

    Returns:
        `tasks`, by name, each with its runs, seeds and metrics; `average`, of the seeds that all
        tasks have; `missing`, `failed` and `date`.
    """
    tasks: dict[str, dict] = {}
    by_seed: dict[int, list[float]] = {}
    by_task: dict[str, list[Planned]] = {}
    for run in planned:
        if run.is_finished:
            by_task.setdefault(run.found.task.name, []).append(run)
    for name, runs in by_task.items():
        write_seeds(runs[0].path.parent, [Run(run.path) for run in runs])
        measured = [run.measured() for run in runs]
        metrics = {}
        for measure in runs[0].found.task.measures:
            if all(measure.key in each for each in measured):
                metrics[measure.key] = {
                    "name": measure.name,
                    **_spread([each[measure.key] for each in measured]),
                    "published": _published(which, name, measure.key),
                }
        tasks[name] = {
            "runs": [str(run.path) for run in runs],
            "seeds": [run.seed for run in runs],
            "metrics": metrics,
        }
        # Metrics of a task count alike, and so do the tasks.
        for run, each in zip(runs, measured, strict=True):
            if len(each) == len(run.found.task.measures):
                by_seed.setdefault(run.seed, []).append(float(np.mean(list(each.values()))))
    whole = [np.mean(each) for each in by_seed.values() if len(each) == len(tasks)]
    return {
        "tasks": tasks,
        "average": _spread([float(each) for each in whole]) if whole else None,
        "missing": dict(missing),
        "failed": dict(failed),
        "date": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
    }


def _spread(values: Sequence[float]) -> dict[str, Any]:
    return {
        "median": float(np.median(values)),
        "least": min(values),
        "most": max(values),
        "values": list(values),
    }


def _published(which: Benchmark, task: str, key: str) -> list[dict[str, Any]]:
    return [
        {"value": each.figures[task][key], "data": each.data, "model": each.model}
        | {"source": each.source}
        for each in which.published
        if key in each.figures.get(task, {})
    ]


def show_result(
    report: Report, benchmark: Benchmark, result: Mapping[str, Any], folder: Path
) -> None:
    """Shows the table of a benchmark, and where its published figures are from."""
    most = max((len(task["seeds"]) for task in result["tasks"].values()), default=0)
    report.heading(
        f"{benchmark.name}, development sets, median of {counted(most, 'seed')}, points of 100"
    )
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    table.add_column("task", no_wrap=True)
    table.add_column("metric", no_wrap=True)
    for column in ("median", "least", "most"):
        table.add_column(column, justify="right", no_wrap=True)
    # Footnotes: the sources are too long for the head of a column.
    notes = [each for each in benchmark.published if _shows(each.figures, result)]
    for place, each in enumerate(notes, 1):
        model = each.model.partition(",")[0]
        table.add_column(f"{model},\n{each.data} [{place}]", justify="right", no_wrap=True)
    for name, task in result["tasks"].items():
        for at, (key, found) in enumerate(task["metrics"].items()):
            table.add_row(
                "" if at else name,
                found["name"],
                *(points(found[each]) for each in ("median", "least", "most")),
                *(_figure(each.figures.get(name, {}).get(key)) for each in notes),
            )
    if result["average"] and len(result["tasks"]) > 1:
        table.add_section()
        average = (points(result["average"][each]) for each in ("median", "least", "most"))
        table.add_row("average", counted(len(result["tasks"]), "task"), *average)
    report.show(table)
    for place, each in enumerate(notes, 1):
        report.line(f"[{place}] {each.model}, {each.data} data: {each.source}")
    if result["missing"]:
        report.line(f"left out: {in_words(result['missing'])}")
    for name, words in result["failed"].items():
        report.line(f"failed: {name}: {words.partition(chr(10))[0]}")
    report.heading("Files")
    report.facts(
        [
            ("the runs", str(folder)),
            ("all figures", str(folder / "benchmark.json")),
            ("compare a task", f"kerasllm compare {shell_word(folder / 'TASK')} OTHER/TASK"),
        ]
    )


def points(value: float) -> str:
    """Returns a metric in points of 100, as benchmarks are published."""
    return f"{100 * value:.1f}"


def _shows(figures: Mapping[str, Any], result: Mapping[str, Any]) -> bool:
    return any(name in figures for name in result["tasks"])


def _figure(value: float | None) -> str:
    return "" if value is None else f"{value:g}"
