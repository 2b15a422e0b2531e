"""What trackers get of a run: while it trains, after a resume, and later by `track push`."""

import json
import time
from pathlib import Path

import pytest

from kerasllm.errors import CommandError, JobError, RecipeError, RunError
from kerasllm.recipe import load
from kerasllm.recipe.training import TRACKERS
from kerasllm.run import Run
from kerasllm.tracking import tracker as trackers
from kerasllm.tracking.listener import Tracking
from kerasllm.tracking.sending import Sending, states
from kerasllm.tracking.tracker import Tracker, refuse_missing
from kerasllm.workflows.report import Report
from kerasllm.workflows.track import push


class Memory(Tracker):
    """A tracker that keeps what it is sent, by run; it can be made to fail."""

    package = "json"
    runs: dict[str, dict] = {}
    fails = False

    def __init__(self, folder, facts, id=None):
        self._check()
        self.id = id or f"run-{len(self.runs)}"
        self.where = f"memory of {self.id}"
        self.sent = self.runs.setdefault(self.id, {"facts": facts, "rows": [], "ends": []})

    def log(self, rows):
        self._check()
        self.sent["rows"] += rows

    def finish(self, summary, files):
        self._check()
        self.sent |= {"summary": summary, "files": [file.name for file in files]}

    def close(self, *, finished):
        self.sent["ends"].append(finished)

    def _check(self):
        if self.fails:
            raise ConnectionError("no route to https://user:secret@tracker/")


@pytest.fixture(autouse=True)
def memory(monkeypatch):
    monkeypatch.setattr(Memory, "runs", {})
    monkeypatch.setattr(Memory, "fails", False)
    monkeypatch.setattr("kerasllm.tracking.sending.find", lambda name: Memory)
    return Memory


@pytest.fixture
def run(tmp_path) -> Run:
    """A run that is being trained."""
    made = Run(tmp_path / "my_run")
    made.path.mkdir()
    made.recipe.write_text(load("bert_cls", ["training.track=mlflow"]).to_yaml())
    add_rows(made, 1, 3)
    return made


def add_rows(run: Run, first: int, last: int) -> None:
    with open(run.metrics_log, "a") as file:
        file.writelines(
            json.dumps({"step": step, "epoch": step / 10, "loss": 1 / step}) + "\n"
            for step in range(first, last + 1)
        )


def end(run: Run) -> None:
    run.model.mkdir(exist_ok=True)
    (run.model / "weights").write_text("w")
    run.environment.write_text(json.dumps({"data": {"train": "abc"}}))
    with open(run.metrics_log, "a") as file:
        file.write(json.dumps({"step": 9, "validation": {"loss": 0.2, "accuracy": 0.9}}) + "\n")
    run.metrics.write_text(json.dumps({"test": {"accuracy": 0.8, "confusion_matrix": [[1]]}}))


def test_a_training_is_sent_with_its_recipe_its_end_and_its_fingerprints(run):
    with Tracking(run, ["mlflow"], pytest.fail) as tracking:
        tracking.row({})
        add_rows(run, 4, 5)
        end(run)
    [sent] = Memory.runs.values()
    assert sent["facts"]["recipe"]["training.learning_rate"] == "0.0001"
    assert [step for step, _ in sent["rows"]] == [1, 2, 3, 4, 5, 9]
    assert sent["rows"][0][1] == {"train/loss": 1.0}
    assert sent["rows"][-1][1] == {"validation/loss": 0.2, "validation/accuracy": 0.9}
    assert sent["summary"]["final/test/accuracy"] == 0.8
    assert len(sent["summary"]["model_fingerprint"]) == 64
    assert sent["summary"]["data_fingerprint_train"] == "abc"
    assert {"recipe.yaml", "metrics.json"} <= set(sent["files"])
    assert sent["ends"] == [True]


def test_a_resumed_training_continues_the_same_remote_run_and_sends_no_row_twice(run):
    with Tracking(run, ["mlflow"], pytest.fail):
        pass
    assert Memory.runs["run-0"]["ends"] == [False]
    # The checkpoint was at step 2: what comes after is written again.
    lines = run.metrics_log.read_text().splitlines(keepends=True)
    run.metrics_log.write_text("".join(lines[:2]))
    with Tracking(run, ["mlflow"], pytest.fail) as tracking:
        tracking.row({})
        add_rows(run, 3, 5)
        end(run)
    assert list(Memory.runs) == ["run-0"]
    assert [step for step, _ in Memory.runs["run-0"]["rows"]] == [1, 2, 3, 4, 5, 9]
    assert Memory.runs["run-0"]["ends"] == [False, True]


def test_a_tracker_that_fails_is_told_once_and_push_sends_later(run, monkeypatch):
    told = []
    monkeypatch.setattr(Memory, "fails", True)
    with Tracking(run, ["mlflow"], told.append) as tracking:
        for _ in range(3):
            tracking.row({})
            time.sleep(0.01)
        end(run)
    assert len(told) == 1
    assert "kerasllm track push" in told[0] and "secret" not in told[0]
    with pytest.raises(JobError, match="no route"):
        push(run.path, report=Report.silent())
    monkeypatch.setattr(Memory, "fails", False)
    assert push(run.path, report=Report.silent()) == ["memory of run-0"]
    [sent] = Memory.runs.values()
    assert len(sent["rows"]) == 4 and sent["summary"]
    # Nothing is left.
    push(run.path, report=Report.silent())
    assert len(sent["rows"]) == 4 and sent["ends"] == [True]


def test_a_tracker_that_hangs_does_not_keep_a_training_from_ending(run, monkeypatch):
    monkeypatch.setattr(Memory, "log", lambda *_: time.sleep(30))
    monkeypatch.setattr("kerasllm.tracking.listener._SECONDS_AT_THE_END", 0.2)
    told, began = [], time.monotonic()
    with Tracking(run, ["mlflow"], told.append) as tracking:
        tracking.row({})
    assert time.monotonic() - began < 5
    assert len(told) == 1


def test_numbers_that_are_not_finite_are_left_out(run):
    with open(run.metrics_log, "a") as file:
        file.write('{"step": 4, "loss": NaN, "learning_rate": 0.1}\n')
    Sending(run, "mlflow").send()
    assert Memory.runs["run-0"]["rows"][-1] == (4, {"train/learning_rate": 0.1})


def test_a_line_that_is_no_row_is_left_out_and_the_others_are_sent_once(run):
    with open(run.metrics_log, "a") as file:
        file.write('nonsense\n[1]\n{"step": 4, "validation": 3}\n')
    add_rows(run, 5, 6)
    for _ in range(2):
        with Tracking(run, ["mlflow"], pytest.fail) as tracking:
            tracking.row({})
    assert [step for step, _ in Memory.runs["run-0"]["rows"]] == [1, 2, 3, 5, 6]
    assert states(run)["mlflow"]["rows"] == 8


@pytest.mark.parametrize("noted", ["{", "[]", '{"mlflow": [1]}', '{"mlflow": {"rows": "x"}}'])
def test_what_was_noted_may_be_damaged_and_the_training_continues(run, noted):
    (run.path / "tracking.json").write_text(noted)
    told = []
    with Tracking(run, ["mlflow"], told.append) as tracking:
        tracking.row({})
    assert len(told) == 1 and "Training continues" in told[0]
    with pytest.raises(RunError, match="not what kerasllm wrote"):
        push(run.path, report=Report.silent())


def test_a_log_that_is_gone_at_the_end_does_not_fail_the_training(run, monkeypatch):
    def gone(*_):
        raise PermissionError("metrics.jsonl")

    told = []
    with Tracking(run, ["mlflow"], told.append):
        monkeypatch.setattr("kerasllm.tracking.sending._lines", gone)
    assert len(told) == 1


def test_what_cannot_be_sent_is_refused(run, tmp_path):
    with pytest.raises(RunError, match="no run with metrics"):
        push(tmp_path, report=Report.silent())
    run.recipe.write_text(load("bert_cls").to_yaml())
    with pytest.raises(CommandError, match="names no tracker"):
        push(run.path, report=Report.silent())
    (run.path / "model.sig").write_text("")
    with pytest.raises(RunError, match="signed"):
        push(run.path, ["mlflow"], report=Report.silent())


def test_an_unknown_tracker_is_refused_with_the_nearest(monkeypatch):
    with pytest.raises(RecipeError, match="'mlfow' is not a known tracker") as error:
        load("bert_cls", ["training.track=[wandb, mlfow]"])
    assert error.value.fix == "did you mean mlflow?"
    assert load("bert_cls", ["training.track=[wandb, wandb]"]).training.trackers == ["wandb"]
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(CommandError) as error:
        refuse_missing(["wandb"])
    assert error.value.fix == 'pip install "kerasllm[wandb]"'


def test_each_tracker_has_its_class():
    assert {trackers.find(name).__module__ for name in TRACKERS} == {
        f"kerasllm.tracking.{name}_tracker" for name in TRACKERS
    }


def test_state_is_kept_by_tracker(run):
    Sending(run, "mlflow").send()
    Sending(run, "wandb").send()
    assert {name: state["rows"] for name, state in states(run).items()} == {"mlflow": 3, "wandb": 3}
    assert Path(run.path, "tracking.json").is_file()
