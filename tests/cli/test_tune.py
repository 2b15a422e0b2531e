"""`kerasllm tune`, as it is typed: trials of a toy model, the learning-rate finder, refusals."""

import json
import os
import re
import subprocess
import sys

import pytest

from kerasllm.run import Run
from tests import forked
from tests.conftest import toy_settings


@pytest.fixture
def settings(toy_data, toy_preset):
    """The options of a toy training."""
    short = [*toy_settings(toy_data, toy_preset), "training.epochs=2", "data.buckets=1"]
    return ["--recipe", "bert_cls", *(f"--set={setting}" for setting in short)]


def test_trials_are_runs_and_the_best_recipe_trains_again_to_the_same_metrics(
    kerasllm, settings, tmp_path, monkeypatch
):
    monkeypatch.setenv("COLUMNS", "80")
    folder = tmp_path / "search"
    command = ["tune", *settings, "--trials", 2, "--seeds", 0, "--output", folder]
    command += ["--space", "training.learning_rate=0.005,1e-6", "--json"]
    ran = kerasllm(*command)
    assert ran.status == 0
    assert all(len(line) <= 80 for line in ran.err.splitlines() if str(tmp_path) not in line)
    found = json.loads(ran.out)
    assert found["best"]["settings"] == {"training.learning_rate": "0.005"}
    best = Run.open(folder / "trials" / f"{found['best']['trial']:04}")
    assert not best.checkpoints.exists()
    again = tmp_path / "again"
    # In a process of its own, as the trial had.
    arguments = ["finetune", "--recipe", folder / "best.yaml", "--output", again]
    assert forked.run("-m", "kerasllm", *arguments).returncode == 0
    metrics = Run.open(again).read_metrics()
    assert metrics["validation"] == best.read_metrics()["validation"]
    assert metrics["test"] and not best.read_metrics()["test"]


def test_a_learning_rate_is_found_and_drawn(kerasllm, settings, tmp_path):
    ran = kerasllm("tune", *settings, "--lr-find", "--output", tmp_path / "found", "--json")
    assert ran.status == 0
    found = json.loads(ran.out)
    assert 5e-4 < found["learning_rate"] < 0.2
    assert re.search(r"--set training.learning_rate=\S", ran.err)
    assert (tmp_path / "found" / "lr_find.svg").read_text().startswith("<?xml")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--space", "training.epoch=1,2"], "did you mean training.epochs?"),
        (["--budget", "soon"], "expected a time such as"),
        (["--set", "data.validation_split=0"], "A search needs validation data"),
        (["--storage", "nonsense://x"], "The storage cannot be opened"),
        (["--trials", "0"], "--trials"),
        (["--lr-find", "--trials", "3", "--budget", "2m"], "--trials, --budget does not apply"),
    ],
)
def test_what_cannot_be_searched_is_refused_at_once(kerasllm, tmp_path, options, words):
    ran = kerasllm("tune", "--recipe", "bert_cls", "--output", tmp_path / "search", *options)
    assert ran.status == 2
    assert words in ran.err


def test_a_folder_of_something_else_is_refused(kerasllm, tmp_path):
    (tmp_path / "file").write_text("")
    ran = kerasllm("tune", "--recipe", "bert_cls", "--output", tmp_path)
    assert ran.status == 2 and "does not hold a search" in ran.err
    ran = kerasllm("tune", "--resume", "--output", tmp_path)
    assert ran.status == 2 and "no search to resume" in ran.err
    ran = kerasllm("tune", "--resume", "--output", tmp_path, "--set", "training.epochs=2")
    assert ran.status == 2 and "--set would change it" in ran.err


def test_without_optuna_one_sentence_says_how_to_install_it(tmp_path):
    (tmp_path / "optuna.py").write_text("raise ImportError('not here')")
    command = [sys.executable, "-m", "kerasllm", "tune", "--recipe", "bert_cls"]
    environment = {**os.environ, "PYTHONPATH": f"{tmp_path}:{os.getcwd()}"}
    ran = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert ran.returncode == 2
    assert 'pip install "kerasllm[tune]"' in ran.stderr and "Traceback" not in ran.stderr
