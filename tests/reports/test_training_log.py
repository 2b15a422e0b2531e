"""The log of a training, followed as it grows, however long it is and whoever has written it."""

import itertools
import json
import os

import pytest

from kerasllm.errors import RunError
from kerasllm.reports.curves import curves_of, read_log
from kerasllm.reports.training_log import MOST_ROWS, TrainingLog, newest_row


def lines(*steps: int) -> bytes:
    return b"".join(json.dumps({"step": step, "loss": 1.5}).encode() + b"\n" for step in steps)


def test_a_log_of_any_length_is_read_in_memory_for_some_thousand_rows(tmp_path):
    path = tmp_path / "metrics.jsonl"
    count = 5 * MOST_ROWS
    path.write_bytes(lines(*range(count)) + b'{"step": 7, "validation": {"loss": 0.5}}\n')
    log = TrainingLog(path)
    log.read()
    steps = [row["step"] for row in log.rows if "validation" not in row]
    assert MOST_ROWS / 2 < len(steps) <= MOST_ROWS
    # Evenly, from the beginning to the end.
    assert len({after - before for before, after in itertools.pairwise(steps)}) == 1
    assert steps[0] == 0 and steps[-1] > 0.999 * count
    assert log.rows[-1] == {"step": 7, "validation": {"loss": 0.5}}
    assert [row["step"] for row in log.newest][:-1] == list(range(count - 29, count))
    assert newest_row(path)["step"] == count - 1


def test_what_comes_is_read_once_and_a_log_that_was_cut_from_the_beginning(tmp_path):
    path = tmp_path / "metrics.jsonl"
    log = TrainingLog(path)
    log.read()
    assert log.rows == [] and newest_row(path) == {}
    for number in range(3):
        with open(path, "ab") as file:
            file.write(lines(number) + b'{"step": ')
        log.read()
        assert [row["step"] for row in log.rows] == list(range(number + 1))
        os.truncate(path, path.stat().st_size - len(b'{"step": '))
    path.write_bytes(lines(9))
    log.read()
    assert [row["step"] for row in log.rows] == [9]


def test_a_line_without_end_takes_no_memory_and_is_told_by_its_number(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(lines(1) + b"[" * 3_000_000 + b"\n" + lines(2) + b"9" * 3_000_000)
    log = TrainingLog(path)
    log.read()
    assert [row["step"] for row in log.rows] == [1, 2]
    with pytest.raises(RunError, match="longer than") as refused:
        read_log(path)
    assert refused.value.where.endswith(":2")
    with open(path, "ab") as file:
        file.write(b"\n" + lines(3))
    log.read()
    assert [row["step"] for row in log.rows] == [1, 2, 3]


@pytest.mark.parametrize(
    "row",
    [
        {"step": 10**400, "loss": 1.0},
        {"step": -1, "loss": 1.0},
        {"step": "x", "loss": 1.0},
        {"step": 3, "loss": 10**400, "validation": [1]},
        {"step": 3, "loss": {"a": [1] * 1000}, "tokens_per_second": "x" * 100_000},
        {"step": 3, **{f"metric {number}": "y" * 900 for number in range(200)}},
    ],
)
def test_no_value_of_a_row_stops_its_curves_or_fills_memory(tmp_path, row):
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(lines(1, 2) + json.dumps(row).encode() + b"\n" + lines(4))
    log = TrainingLog(path)
    log.read()
    [loss, *_] = curves_of(log.rows, {}, "loss")
    assert loss["series"][0]["steps"] == [1, 2, 4]
    assert all(len(json.dumps(each)) < 50_000 for each in log.rows)


def test_a_pipe_is_not_read(tmp_path):
    os.mkfifo(tmp_path / "metrics.jsonl")
    log = TrainingLog(tmp_path / "metrics.jsonl")
    log.read()
    assert log.rows == [] and newest_row(tmp_path / "metrics.jsonl") == {}
