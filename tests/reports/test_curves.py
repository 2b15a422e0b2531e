"""Curves of a log: which, how many points, and what a broken log is."""

import json

import pytest

from kerasllm.reports.charts import line_chart
from kerasllm.reports.curves import MOST_POINTS, curves_of, read_log

NAMES = {"loss": "loss", "accuracy": "accuracy", "macro_f1": "macro F1"}


def row(step, **values):
    return {"step": step, "epoch": 0.1, "seconds": 3.0, **values}


def test_loss_is_first_then_the_headline_and_a_lone_point_is_no_curve():
    rows = [row(step, loss=1 / step, accuracy=0.5, learning_rate=1e-4) for step in (1, 2, 3)]
    rows.append({"step": 3, "validation": {"loss": 0.4, "macro_f1": 0.7}})
    curves = curves_of(rows, NAMES, "accuracy")
    assert [curve["name"] for curve in curves] == ["loss", "accuracy", "learning rate"]
    assert [series["name"] for series in curves[0]["series"]] == ["training", "validation"]
    rows.append({"step": 4, "validation": {"loss": 0.3, "macro_f1": 0.8}})
    assert "macro F1" in [curve["name"] for curve in curves_of(rows, NAMES, "accuracy")]


def test_many_points_become_means_of_neighbours():
    rows = [row(step, loss=float(step % 2)) for step in range(1, 10_001)]
    [curve] = curves_of(rows, NAMES, "loss")
    [series] = curve["series"]
    assert len(series["steps"]) == MOST_POINTS
    assert series["steps"][-1] == 10_000
    assert set(series["values"]) == {0.48, 0.52} or all(0.4 < v < 0.6 for v in series["values"])


def test_numbers_that_are_not_finite_are_gaps(tmp_path):
    losses = (2.0, float("nan"), float("inf"), 1.0)
    rows = [row(step, loss=loss) for step, loss in enumerate(losses, 1)]
    [curve] = curves_of(rows, NAMES, "loss")
    assert curve["series"][0]["steps"] == [1, 4]
    assert "nan" not in line_chart(curve) and "inf" not in line_chart(curve)


@pytest.mark.parametrize("values", [[0.5], [0.0, 0.0], [1e-300, 2e-300], [-3.0, 1e12], [5.0] * 70])
def test_any_values_make_a_chart(values):
    series = {"name": "training", "steps": list(range(len(values))), "values": values, "colour": 0}
    drawn = line_chart({"name": "loss", "series": [series]})
    assert drawn.startswith("<svg") and "nan" not in drawn


def test_a_last_line_that_was_broken_off_is_left_out(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text(json.dumps(row(1, loss=2.0)) + '\n{"step": 2, "lo')
    assert [one["step"] for one in read_log(path)] == [1]
    assert read_log(tmp_path / "none.jsonl") == []
    path.write_text("")
    assert read_log(path) == []
