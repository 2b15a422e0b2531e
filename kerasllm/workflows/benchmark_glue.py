"""Measure a pretrained model on GLUE or SuperGLUE: several seeds of each task, as ordinary runs."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kerasllm import recipe as recipes
from kerasllm.addresses import is_address
from kerasllm.distribution.launch import dies_with_us
from kerasllm.errors import CommandError, Interrupted, JobError, RunError
from kerasllm.plurals import counted
from kerasllm.recipe import WholeRecipe
from kerasllm.run import Run, read_json, write_json
from kerasllm.tuning import trial_run
from kerasllm.tuning.trial_run import TrialRun, hold
from kerasllm.tuning.workers import Workers
from kerasllm.workflows.benchmark_files import FoundTask, find_tasks, settings_of
from kerasllm.workflows.benchmark_summary import (
    BenchmarkProgress,
    show_plan,
    show_result,
    summary_of,
)
from kerasllm.workflows.benchmark_tasks import GLUE, SUPERGLUE, Benchmark
from kerasllm.workflows.report import Report
from kerasllm.workflows.signals import asked_to_stop

BENCHMARKS = {"glue": GLUE, "superglue": SUPERGLUE}
SEEDS = 3
RESULT = "benchmark.json"

_EPOCHS = 3
# What suits BERT base and larger; the recipes' own rate suits their own, small preset.
_LEARNING_RATE = 2e-5
_SECOND, _DATA = "second.json", "data"


@dataclass(frozen=True)
class Planned:
    """A training of a benchmark.

    Attributes:
        found: Its task.
        seed: Its seed.
        path: Its run directory.
        recipe: Its recipe.
    """

    found: FoundTask
    seed: int
    path: Path
    recipe: WholeRecipe

    @property
    def title(self) -> str:
        """What it is called in messages."""
        return f"{self.found.task.name}, seed {self.seed}"

    @property
    def is_finished(self) -> bool:
        """Whether it was trained."""
        return (self.path / "metrics.json").is_file()

    @property
    def second(self) -> Path:
        """What was measured on the second file of the task."""
        return self.path.with_name(f"{self.path.name}-{_SECOND}")

    def metrics(self) -> dict[str, Mapping[str, Any]]:
        """Returns what was measured of it, by part."""
        found = {"test": Run(self.path).read_metrics().get("test") or {}}
        if self.second.is_file():
            found["second"] = read_json(self.second)
        return found

    def measured(self) -> dict[str, float]:
        """Returns the metrics of the task, by key, as far as they were measured."""
        metrics = self.metrics()
        values = {
            each.key: each.of(metrics.get(each.part, {})) for each in self.found.task.measures
        }
        return {key: value for key, value in values.items() if value is not None}


def benchmark(
    name: str,
    preset: str,
    data: str | Path,
    *,
    tasks: Sequence[str] = (),
    seeds: int = SEEDS,
    epochs: int | None = None,
    settings: Sequence[str] = (),
    output: str | Path | None = None,
    workers: int = 1,
    report: Report | None = None,
) -> dict[str, Any]:
    """Trains a preset on the tasks of a benchmark and measures it on their development sets.

    Each training is an ordinary run in a process of its own; this one never imports TensorFlow.
    Called again with the same folder, it continues: finished runs are kept.

    Args:
        name: `"glue"` or `"superglue"`.
        preset: The pretrained model.
        data: The folder with the tasks' folders.
        tasks: Which tasks. Defaults to none: all that are there.
        seeds: How many trainings of each. Defaults to `3`.
        epochs: Epochs of each. Defaults to `None`: 3.
        settings: What else is set over the recipes, `"KEY=VALUE"`. Defaults to none.
        output: The folder of the runs. Defaults to `None`: `runs/NAME-PRESET`.
        workers: Trainings at a time. Defaults to `1`.
        report: Where progress is shown. Defaults to `None`: stderr.

    Returns:
        What `benchmark.json` in the folder holds: of each task the metrics with their median,
        least and most; the average; tasks that are missing, and those that failed.

    Raises:
        KerasllmError: If the tasks, a setting or the folder is refused, the first training fails,
            or a signal ended it.

    Example:

    ```python
    benchmark("glue", "bert_base_en_uncased", "glue_data", tasks=["RTE"])["average"]
    ```
    """
    report = report or Report()
    which = BENCHMARKS[name]
    if is_address(data) or is_address(output):
        raise CommandError(
            "A benchmark reads and writes local folders only",
            where=f"--data {data}" if is_address(data) else f"--output {output}",
            fix="copy the data here, or the folder away afterwards",
        )
    found, missing = find_tasks(which, Path(data), tasks)
    folder = Path(output) if output else Path("runs") / f"{name}-{_short_name(preset)}"
    _refuse_other_files(folder, which)
    planned = list(_planned(found, preset, seeds, epochs, settings, folder))
    _refuse_other_settings(planned)
    folder.mkdir(parents=True, exist_ok=True)
    # It makes the folder that of a benchmark.
    noted = {"benchmark": which.name, "preset": preset}
    if not (folder / RESULT).is_file():
        write_json(folder / RESULT, noted)
    for task in found:
        task.write_copies(folder / task.task.name / _DATA)
    show_plan(report, which, preset, planned, missing, folder)
    search = _Trainings(planned, BenchmarkProgress(report, planned, workers))
    with asked_to_stop(search.on_signal) as caught:
        with search.progress:
            Workers(workers).work(
                search.take, search.is_over, lambda: search.stopped, search.progress.show
            )
        for run in planned:
            if run.found.second and run.is_finished and not caught.signal:
                _measure_second(run, folder, report, search)
    if caught.signal is not None:
        done = sum(run.is_finished for run in planned)
        raise Interrupted(
            f"{caught.signal.name} after {done} of {counted(len(planned), 'training')}; those in "
            "progress have saved a checkpoint",
            where=str(folder),
            fix="continue with the same command",
            signal=caught.signal,
        )
    result = {**noted, **summary_of(which, planned, missing, search.failed)}
    write_json(folder / RESULT, result)
    show_result(report, which, result, folder)
    return result


def refuse_failed(result: Mapping[str, Any], folder: str | Path | None = None) -> None:
    """Ends a command whose tasks have failed.

    Args:
        result: What `benchmark` returned.
        folder: Where the runs are. Defaults to `None`.

    Raises:
        JobError: If a task has failed.
    """
    if result["failed"]:
        raise JobError(
            f"{counted(len(result['failed']), 'task')} failed: " + ", ".join(result["failed"]),
            where=None if folder is None else str(folder),
            fix="fix the errors above, then continue with the same command",
        )


class _Trainings:
    """The trainings that are left, for `Workers`."""

    def __init__(self, planned: Sequence[Planned], progress: BenchmarkProgress):
        self._planned, self.progress = planned, progress
        self.stopped = False
        self.failed: dict[str, str] = {}
        self.evaluation: subprocess.Popen | None = None

    def on_signal(self, signal: Any) -> None:
        self.stopped = True
        if self.evaluation is not None:
            self.evaluation.terminate()

    def _left(self) -> Iterator[Planned]:
        for run in self._planned:
            if not run.is_finished and run.found.task.name not in self.failed:
                yield run

    def is_over(self) -> bool:
        return next(self._left(), None) is None

    def take(self) -> _Training | None:
        for run in self._left():
            lock = hold(run.path.with_name(f"{run.path.name}.lock"))
            if lock is not None:
                return _Training(self, run, TrialRun(run.path, lock))
        return None


class _Training:
    """A training under way."""

    def __init__(self, all_of_them: _Trainings, planned: Planned, run: TrialRun):
        self._all, self._planned, self.run = all_of_them, planned, run
        self.title, self.recipe = planned.title, planned.recipe.to_yaml()
        all_of_them.progress.began(planned)

    def look(self) -> None:
        for _ in self.run.rows():
            pass

    def ended(self, status: int) -> bool:
        if self._planned.is_finished:
            # Each three times the size of the weights, and of no more use.
            shutil.rmtree(self.run.run.checkpoints, ignore_errors=True)
            self._all.progress.ended(self._planned, self.run.seconds)
            return False
        words = self.run.last_words()
        if not any(run.is_finished for run in self._all._planned):
            kind = CommandError if status == CommandError.exit_status else JobError
            raise kind(f"The first training failed, {self._planned.title}: {words}")
        self._all.failed[self._planned.found.task.name] = words
        self._all.progress.failed(self._planned, words)
        return False

    def left(self) -> None:
        """It has saved a checkpoint."""


def _planned(
    found: Sequence[FoundTask],
    preset: str,
    seeds: int,
    epochs: int | None,
    settings: Sequence[str],
    folder: Path,
) -> Iterator[Planned]:
    for task in found:
        own = recipes.load(task.task.recipe)
        given: dict[str, Any] = {
            "model.preset": preset,
            "model.pooling": "auto",
            "training.epochs": epochs or _EPOCHS,
            "training.keep_checkpoints": 1,
            **settings_of(task, folder / task.task.name / _DATA),
        }
        if preset != own.model.preset:
            given["training.learning_rate"] = _LEARNING_RATE
        texts = [f"{key}={json.dumps(value)}" for key, value in given.items()]
        recipe = recipes.load(task.task.recipe, [*texts, *settings])
        for seed in range(recipe.training.seed, recipe.training.seed + seeds):
            path = folder / task.task.name / f"seed-{seed}"
            training = recipe.training.model_copy(update={"seed": seed})
            yield Planned(task, seed, path, recipe.model_copy(update={"training": training}))


def _refuse_other_files(folder: Path, which: Benchmark) -> None:
    if (folder / RESULT).is_file():
        other = read_json(folder / RESULT).get("benchmark", which.name)
        what = "" if other == which.name else f"holds runs of {other}"
    else:
        is_empty = not folder.exists() or (folder.is_dir() and not any(folder.iterdir()))
        what = "" if is_empty else "holds something else"
    if what:
        raise RunError(
            f"The folder for the runs of {which.name} {what}",
            where=str(folder),
            fix="choose another folder with --output",
        )


def _refuse_other_settings(planned: Sequence[Planned]) -> None:
    """Refuses to continue runs that were trained in another way."""
    for run in planned:
        file = run.path.with_name(f"{run.path.name}.yaml")
        begun = run.is_finished or Run(run.path).checkpoints.exists()
        if not begun or not file.is_file():
            # What was refused before its first step is begun with other settings.
            continue
        if changes := run.recipe.changes_from(recipes.load(file)):
            raise RunError(
                "The folder holds runs with other settings: "
                + ", ".join(f"{key}={old}, now {new}" for key, (new, old) in changes.items()),
                where=str(run.path),
                fix="choose another folder with --output, use the previous settings, or remove the "
                "runs that have them",
            )


def _measure_second(run: Planned, folder: Path, report: Report, search: _Trainings) -> None:
    """Measures a model on the second file of its task, in a process of its own."""
    if run.second.is_file():
        return
    task = run.found.task
    command = [*trial_run.COMMAND, "evaluate", str(run.path), "--json"]
    for file in run.found.files("second", folder / task.name / _DATA):
        command += ["--data", file]
    with report.busy(f"{run.title}: measuring on {run.found.second[0].name}"):
        search.evaluation = process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
            preexec_fn=dies_with_us() if sys.platform == "linux" else None,
        )
        told, words = process.communicate()
        search.evaluation = None
    if process.returncode == 0:
        write_json(run.second, json.loads(told))
    elif not search.stopped:
        search.failed[task.name] = words.strip().rpartition("Error: ")[2]


def _short_name(preset: str) -> str:
    """Returns a preset as the name of a folder."""
    return re.sub(r"[^\w.-]+", "-", preset.rstrip("/").rpartition("/")[2]).strip("-.") or "preset"
