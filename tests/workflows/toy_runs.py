"""Toy runs that are stopped on the way, and what two runs must have in common to be the same."""

from __future__ import annotations

import io
import json
import shutil
import signal
from collections.abc import Callable, Mapping
from contextlib import contextmanager
from pathlib import Path

import h5py
import numpy as np
from rich.console import Console

from kerasllm.recipe import load
from kerasllm.run import Run
from kerasllm.workflows.finetune import finetune
from kerasllm.workflows.report import Report
from tests.conftest import toy_settings

# 14 steps, 7 an epoch. Rows at 1, 3, 6, and at the end of the epoch.
SETTINGS = (
    "data.test=null",
    "training.epochs=2",
    "training.log_every=3",
    "training.checkpoint_every=1",
    "training.keep_checkpoints=99",
)
_OF_THE_MACHINE = {"tokens_per_second", "step_seconds", "input_wait", "peak_memory", "seconds"}
_TIMES = {"tokens_per_second", "peak_memory"}


class Killed(BaseException):
    """Stands for SIGKILL: nothing of the training gets to do anything any more."""


def kill() -> None:
    raise Killed


def terminate() -> None:
    signal.raise_signal(signal.SIGTERM)


class ActingReport(Report):
    """Does something after a step, before validation and checkpoints of that step."""

    def __init__(self, actions: Mapping[int, Callable[[], None]]):
        self.shown = io.StringIO()
        super().__init__(Console(file=self.shown, width=200))
        self._actions = actions

    @contextmanager
    def training(self, steps: int, done: int = 0):
        with super().training(steps, done) as progress:
            shown = progress.step

            def step(number: int) -> None:
                shown(number)
                self._actions.get(number, lambda: None)()

            progress.step = step
            yield progress


def toy_run(folder: Path, preset: Path, *settings: str, output="run", do=None, **options):
    """Runs the toy recipe; returns the run and all that was shown."""
    recipe = load("bert_cls", [*toy_settings(folder, preset), *SETTINGS, *settings])
    report = ActingReport(do or {})
    run = finetune(recipe, output=folder / output, report=report, **options)
    return run, report.shown.getvalue()


def stopped_at(run: Path, step: int, name: str) -> Path:
    """Copies a run as it was when it was killed after a checkpoint, some rows later."""
    copy = run.with_name(name)
    shutil.copytree(run, copy)
    found = Run(copy)
    found.metrics.unlink()
    shutil.rmtree(found.model)
    for checkpoint in found.checkpoints.iterdir():
        if int(checkpoint.name.removeprefix("step-")) > step:
            shutil.rmtree(checkpoint)
    return copy


def weights(run: Path) -> dict[str, np.ndarray]:
    """Returns the weights of a run's model by name."""
    found = {}
    with h5py.File(Run(run).model / "model.weights.h5") as file:
        file.visititems(
            lambda name, item: found.update({name: item[()]} if hasattr(item, "dtype") else {})
        )
    assert found
    return found


def rows(run: Path) -> list[dict]:
    """Returns the rows of a run's log, without what is of the machine."""
    lines = Run(run).metrics_log.read_text().splitlines()
    return [
        {name: value for name, value in json.loads(line).items() if name not in _OF_THE_MACHINE}
        for line in lines
    ]


def metrics(run: Path) -> dict:
    """Returns a run's metrics, without what is of the machine."""
    found = Run(run).read_metrics()
    found["timing"] = {
        name: value
        for name, value in found["timing"].items()
        if name not in _TIMES and not name.endswith("_seconds")
    }
    return found


def assert_same(run: Path, other: Path) -> None:
    """Asserts that two runs have the same results, bit by bit."""
    assert rows(run) == rows(other)
    assert metrics(run) == metrics(other)
    expected = weights(other)
    for name, value in weights(run).items():
        np.testing.assert_array_equal(value, expected[name], err_msg=name)
