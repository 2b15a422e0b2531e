"""Runs in processes of their own that are killed or told to stop, at any moment, and resumed."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from kerasllm.run import Run
from tests.conftest import toy_settings
from tests.toy import save_toy_preset, toy_rows, write_csv
from tests.workflows.toy_runs import assert_same

_PATIENCE = 180


@pytest.fixture(scope="module")
def jobs(tmp_path_factory, session_cache):
    """Starts toy jobs: `jobs(output, *settings, launch=N)` is a process that has just begun."""
    folder = tmp_path_factory.mktemp("chaos")
    write_csv(folder / "train.csv", toy_rows(240))
    write_csv(folder / "test.csv", toy_rows(60, seed=1))
    preset = save_toy_preset(folder / "preset", num_layers=1)
    begun = []

    def start(output: Path, *settings: str, launch: int = 0) -> subprocess.Popen:
        settings = (
            *toy_settings(folder, preset),
            # Slow enough to be met on the way: 27 steps an epoch.
            "training.batch_size=8",
            "training.log_every=3",
            "training.checkpoint_every=5",
            "model.dropout=0.1",
            *settings,
        )
        begin = ["launch", "--workers", str(launch), "--"] if launch else []
        command = ["finetune", "--recipe", "bert_cls", "--resume", "--output", str(output)]
        command += [f"--set={setting}" for setting in settings]
        log = open(output.with_suffix(".log"), "ab")
        begun.append(
            subprocess.Popen(
                [sys.executable, "-m", "kerasllm", *begin, *command],
                stderr=log,
                stdout=log,
                env={**os.environ, "KERASLLM_CACHE": str(session_cache), "NO_COLOR": "1"},
            )
        )
        return begun[-1]

    yield start
    for process in begun:
        process.kill()


def finish(process: subprocess.Popen, output: Path, status: int = 0) -> str:
    """Waits for the end of a process; returns what it said, with those before it."""
    process.wait(_PATIENCE)
    said = output.with_suffix(".log").read_text()
    assert process.returncode == status, said
    assert "Traceback" not in said
    return said


def wait_until(condition: Callable[[], object], process: subprocess.Popen) -> None:
    end = time.monotonic() + _PATIENCE
    while not condition() and process.poll() is None:
        assert time.monotonic() < end
        time.sleep(0.005)


def steps_done(output: Path) -> int:
    """Returns the step of the last row of a run's log, 0 if there is none."""
    log = Run(output).metrics_log
    found = re.findall(r'^{"step": (\d+)', log.read_text(), re.MULTILINE) if log.is_file() else []
    return int(found[-1]) if found else 0


def workers_of(process: subprocess.Popen) -> list[int]:
    """Returns the process ids of the workers of a launch, in their order."""
    found = {}
    for folder in Path("/proc").iterdir():
        try:
            parent = (folder / "stat").read_text().rpartition(")")[2].split()[1]
            config = re.search(rb'"index": (\d+)', (folder / "environ").read_bytes())
        except OSError:
            continue
        if int(parent) == process.pid and config:
            found[int(config[1])] = int(folder.name)
    return [found[index] for index in sorted(found)]


def kill_at_random(jobs, output: Path, settings: tuple[str, ...], kills: int, seed: int) -> list:
    """Kills a run again and again, each time at another moment, and lets it end.

    Returns:
        What it was killed at.
    """
    random = np.random.default_rng(seed)
    run, met = Run(output), []
    moments = [
        # Whatever it was doing so long after its start.
        lambda started, at: time.monotonic() - started > random_seconds,
        # Some rows further on.
        lambda started, at: steps_done(output) >= at + random_steps,
        # While a checkpoint is written.
        lambda started, at: steps_done(output) > at and list(run.checkpoints.glob(".*.tmp")),
        # While it saves the model or measures it at the end.
        lambda started, at: list(output.glob(".model.*.tmp")) or run.model.exists(),
    ]
    names = ["start", "training", "checkpoint", "end"]
    chosen = [number % 3 for number in range(kills - 1)] + [3]
    for choice in chosen:
        random_seconds, random_steps = random.uniform(0, 8), random.integers(1, 12)
        at, started = steps_done(output), time.monotonic()
        process = jobs(output, *settings)
        wait_until(lambda: moments[choice](started, at), process)
        if choice:
            time.sleep(random.uniform(0, 0.05))
        process.kill()
        if process.wait() == 0:
            # It came too late.
            run.metrics.unlink()
        met.append((names[choice], steps_done(output)))
    finish(jobs(output, *settings), output)
    return met


@pytest.mark.slow
def test_a_run_killed_three_times_ends_as_if_it_had_not_been(jobs, tmp_path):
    settings = ("training.epochs=2",)
    finish(jobs(tmp_path / "whole", *settings), tmp_path / "whole")
    met = kill_at_random(jobs, tmp_path / "killed", settings, kills=3, seed=0)
    print(met)
    assert_same(tmp_path / "killed", tmp_path / "whole")


@pytest.mark.slow
def test_a_run_killed_twenty_times_ends_as_if_it_had_not_been(jobs, tmp_path):
    settings = ("training.epochs=8", "training.evaluate_every=10")
    finish(jobs(tmp_path / "whole", *settings), tmp_path / "whole")
    met = kill_at_random(jobs, tmp_path / "killed", settings, kills=20, seed=1)
    print(met)
    assert_same(tmp_path / "killed", tmp_path / "whole")
    assert not list((tmp_path / "killed").rglob(".*.tmp"))


def test_a_signal_ends_a_run_with_a_checkpoint(jobs, tmp_path):
    """`test_resume` stops within a process at every kind of step, and resumes."""
    number = signal.SIGTERM
    output, settings = tmp_path / "stopped", ("training.epochs=100000", "training.log_every=1")
    process = jobs(output, *settings)
    wait_until(lambda: steps_done(output) > 2, process)
    process.send_signal(number)
    said = finish(process, output, status=128 + number)
    step = int(re.search(rf"Stopped: {number.name} after step (\d+) of", said)[1])
    assert "--resume" in said
    assert (Run(output).checkpoints / f"step-{step}").is_dir()
    assert steps_done(output) == step


@pytest.mark.slow
def test_two_workers_end_as_if_one_had_not_been_killed(jobs, tmp_path):
    whole, output, settings = tmp_path / "whole", tmp_path / "killed", ("training.epochs=8",)
    finish(jobs(whole, *settings, launch=2), whole)
    for victim in (1, 0):
        process, at = jobs(output, *settings, launch=2), steps_done(output)
        wait_until(lambda: steps_done(output) > at + 20, process)
        os.kill(workers_of(process)[victim], signal.SIGKILL)
        killed = time.monotonic()
        said = finish(process, output, status=128 + signal.SIGKILL)
        seconds = time.monotonic() - killed
        print(f"worker {victim} killed: the end came after {seconds:.1f} s")
        assert seconds < 60
        assert f"worker {victim} of 2 was killed by SIGKILL" in said
    finish(jobs(output, *settings, launch=2), output)
    assert_same(output, whole)


@pytest.mark.slow
@pytest.mark.parametrize("whom", ["launch", "one worker"])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_two_workers_stop_at_the_same_step(jobs, tmp_path, whom, number):
    output, settings = tmp_path / "stopped", ("training.epochs=100000", "training.log_every=1")
    process = jobs(output, *settings, launch=2)
    wait_until(lambda: steps_done(output) > 2, process)
    os.kill(process.pid if whom == "launch" else workers_of(process)[1], number)
    said = finish(process, output, status=128 + number)
    stops = re.findall(r"\[worker (\d)\] Stopped: .* after step (\d+) of", said)
    assert sorted(worker for worker, _ in stops) == ["0", "1"], said
    assert len({step for _, step in stops}) == 1
    assert steps_done(output) == int(stops[0][1])
    assert (Run(output).checkpoints / f"step-{stops[0][1]}").is_dir()
