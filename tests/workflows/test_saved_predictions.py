"""What a training keeps for its report never fails it, and is told when it is missing."""

from contextlib import nullcontext
from types import SimpleNamespace

import numpy as np
import pytest

from kerasllm.errors import DataError
from kerasllm.run import Run
from kerasllm.tasks.task import Evaluation
from kerasllm.workflows import saved_predictions
from tests.reports.made_run import make_run


class Lines:
    """Takes what a report would print."""

    def __init__(self):
        self.lines = []

    def line(self, text=""):
        self.lines.append(text)

    def busy(self, text):
        return nullcontext()


def job(outcomes=lambda *_: None, **data):
    task = SimpleNamespace(outcomes=outcomes, balance=lambda data: data.balance)
    data = SimpleNamespace(**data)
    return SimpleNamespace(task=task, recipe=None, data=data, precision="mixed_bfloat16")


def failing(error):
    def outcomes(*_):
        raise error

    return outcomes


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (KeyError("label"), "KeyError: 'label'"),
        (DataError("The file is gone", where="a.csv"), "The file is gone"),
        (OSError(28, "No space left on device"), "No space left on device"),
    ],
)
def test_rows_that_cannot_be_kept_are_told_and_nothing_else(error, told, tmp_path):
    run, lines = Run(tmp_path), Lines()
    run.predictions.write_bytes(b"of an earlier training")
    saved_predictions.keep(job(failing(error)), run, Evaluation({}, None), lines)
    assert len(lines.lines) == 1 and told in lines.lines[0]
    assert not run.predictions.exists()


def test_a_report_that_cannot_be_written_is_told(tmp_path):
    run, lines = make_run(tmp_path / "run"), Lines()
    saved_predictions.write_report(job(), run, lines, seconds=1.0)
    assert run.report.is_file() and not lines.lines
    run.predictions.write_bytes(b"damaged")
    run.report.unlink()
    saved_predictions.write_report(job(), run, lines, seconds=1.0)
    assert not run.report.exists()
    assert "the report was not written" in lines.lines[0]


@pytest.mark.parametrize(("seconds", "most"), [(10, None), (60, 6.0), (3600, 20.0)])
@pytest.mark.parametrize("why_not", [None, "no such layer"])
def test_mistakes_are_explained_in_a_tenth_of_the_time_of_a_run(
    tmp_path, monkeypatch, seconds, most, why_not
):
    asked = []

    def explain_for_report(run, *, seconds, model):
        asked.append((seconds, model))
        return why_not

    monkeypatch.setattr(saved_predictions, "explain_for_report", explain_for_report)
    run, lines = make_run(tmp_path / "run", rows=40, steps=40), Lines()
    saved_predictions.write_report(job(), run, lines, seconds=seconds)
    assert asked == ([] if most is None else [(most, None)])
    told = most is not None and why_not is not None
    assert len(lines.lines) == told and all("no such layer" in line for line in lines.lines)


def test_lengths_and_classes_of_the_data_are_noted():
    parts = {
        "train": Rows(np.array([3, 4, 8])),
        "validation": Rows(np.array([[3, 4], [5, 6]])),
        "test": Rows(np.array([], int)),
    }
    balance = {"train": {"good": 2, "bad": 1}}
    found = saved_predictions.facts_of_data(job(parts=parts, balance=balance))
    assert found["tokens"] == {
        "train": {"total": 15, "median": 4.0, "longest": 8.0},
        # Of source and target together.
        "validation": {"total": 18, "median": 9.0, "longest": 11.0},
    }
    assert found["balance"] == balance
    many = {"train": {str(number): 1 for number in range(5000)}}
    assert "balance" not in saved_predictions.facts_of_data(job(parts=parts, balance=many))


class Rows:
    def __init__(self, lengths):
        self.lengths = lengths

    def __len__(self):
        return len(self.lengths)
