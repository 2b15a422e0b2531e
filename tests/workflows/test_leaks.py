"""Test data that the model would train on stop a training, unless that is accepted."""

import pytest

from kerasllm.errors import DataError
from kerasllm.recipe import load
from kerasllm.workflows import finetune_summary as summary
from kerasllm.workflows.finetune import finetune
from kerasllm.workflows.job import prepare
from kerasllm.workflows.report import Report
from tests.conftest import toy_settings
from tests.toy import toy_rows, write_csv


@pytest.fixture
def settings(tmp_path, toy_preset, monkeypatch):
    monkeypatch.setenv("KERASLLM_CACHE", str(tmp_path / "cache"))
    rows = [row for row in toy_rows(120) if len(row[0].split()) > 10]
    write_csv(tmp_path / "train.csv", rows)
    write_csv(tmp_path / "test.csv", [*toy_rows(20, seed=1), *rows[:3]])
    return [*toy_settings(tmp_path, toy_preset), "data.validation_split=0"]


def test_a_leak_stops_the_training_before_there_is_a_run(tmp_path, settings):
    with pytest.raises(DataError) as refused:
        finetune(load("bert_cls", settings), output=tmp_path / "run")
    assert "3 test rows are in train too (13.0%)" in str(refused.value)
    assert f"{tmp_path}/test.csv:22" in str(refused.value)
    assert "--set data.leaks=warn" in str(refused.value)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(("leaks", "lines"), [("warn", 1), ("ignore", 0)])
def test_an_accepted_leak_is_told_or_not(settings, leaks, lines):
    recipe = load("bert_cls", [*settings, f"data.leaks={leaks}"])
    job = prepare(recipe, Report.silent())
    assert summary.refused_leak(job) is None
    assert len(job.checked.lines()) == lines
