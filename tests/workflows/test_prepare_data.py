"""Tokens that several processes make ahead are those that a training makes, and it finds them."""

import pytest

from kerasllm.errors import DataError
from kerasllm.recipe import load
from kerasllm.tasks.task import task_of
from kerasllm.workflows.prepare import prepare_data
from kerasllm.workflows.report import Report
from tests.conftest import toy_settings
from tests.toy import toy_rows, write_csv


@pytest.fixture
def recipe(tmp_path, toy_preset, monkeypatch):
    monkeypatch.setenv("KERASLLM_CACHE", str(tmp_path / "cache"))
    for number in range(2):
        write_csv(tmp_path / f"part-{number}.csv", toy_rows(40, seed=number))
    write_csv(tmp_path / "test.csv", toy_rows(20, seed=5))
    settings = toy_settings(tmp_path, toy_preset)[1:]
    return load("bert_cls", [f"data.train={tmp_path}/part-*.csv", *settings])


def test_a_training_finds_what_two_processes_prepared(recipe):
    prepare_data(recipe, processes=2, report=Report.silent())
    task = task_of(recipe)
    facts = dict(task.facts(recipe, task.load(recipe)).facts)
    assert "tokens reused from the cache" in facts["train"]
    assert "tokens reused from the cache" in facts["test"]


@pytest.mark.slow
def test_a_bad_row_is_told_as_ever(tmp_path, recipe):
    with open(tmp_path / "part-1.csv", "a") as file:
        file.write(",negative\n")
    with pytest.raises(DataError, match="1 row is bad"):
        prepare_data(recipe, processes=2, report=Report.silent())
