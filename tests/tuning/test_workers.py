"""Trials at a time: each has GPUs of its own, and a run is one process' at a time."""

import pytest

from kerasllm.tuning import workers
from kerasllm.tuning.trial_run import TrialRun, hold


@pytest.mark.parametrize(
    ("visible", "count", "expected"),
    [
        ("0,1,2,3", 2, ["0,2", "1,3"]),
        ("0,1,2,3", 1, [None]),
        ("2,3", 4, ["2", "3", "2", "3"]),
        ("0", 2, [None, None]),
        ("-1", 2, [None, None]),
    ],
)
def test_processes_side_by_side_share_the_gpus(monkeypatch, visible, count, expected):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    found = [each.get("CUDA_VISIBLE_DEVICES") for each in workers.environments(count)]
    assert found == expected


def test_a_run_that_is_worked_at_is_not_taken(tmp_path):
    lock = hold(tmp_path / "0001.lock")
    assert hold(tmp_path / "0001.lock") is None
    lock.close()
    taken = TrialRun(tmp_path / "0001", hold(tmp_path / "0001.lock"))
    assert taken.is_free and not taken.is_finished
    taken.close()
    assert hold(tmp_path / "0001.lock") is not None


def test_rows_are_read_as_they_are_written_and_again_after_a_cut(tmp_path):
    run = TrialRun(tmp_path / "0001", hold(tmp_path / "0001.lock"))
    run.run.path.mkdir()
    log = run.run.metrics_log
    assert list(run.rows()) == []
    log.write_text('{"step": 1, "loss": 0.5}\n{"step": 2, "lo')
    assert [row["step"] for row in run.rows()] == [1]
    with open(log, "a") as file:
        file.write('ss": 0.4}\n{"step": 2, "validation": {"accuracy": 0.5}}\nnonsense\n')
    assert [row["step"] for row in run.rows()] == [2, 2]
    assert run.last == {"step": 2, "loss": 0.4}
    log.write_text('{"step": 1, "loss": 0.5}\n')
    assert [row["step"] for row in run.rows()] == [1]
