"""`kerasllm evaluate`: tables for people, one JSON object for programs."""

import json

import pytest

from tests.toy import write_csv


def test_json_is_alone_on_stdout(kerasllm, toy_run, toy_data):
    result = kerasllm("evaluate", toy_run, "--data", toy_data / "test.csv", "--json")
    metrics = json.loads(result.out)
    assert result.status == 0 and metrics["accuracy"] > 0.95
    assert set(metrics["per_class"]) == {"negative", "positive"}


def test_tables_for_people(kerasllm, toy_run, toy_data):
    result = kerasllm("evaluate", toy_run, "--data", toy_data / "test.csv")
    assert result.status == 0
    for words in ("accuracy", "precision", "recall", "negative", "positive", "true \\ predicted"):
        assert words in result.out


@pytest.mark.parametrize(
    ("header", "rows", "words"),
    [
        (("text", "label"), [("a film", "mixed")], "data.csv:2"),
        (("text", "stars"), [("a film", "5")], "--label NAME"),
        (("text", "label"), [("", "positive")], "data.csv:2: the text is empty"),
    ],
)
def test_wrong_data_is_refused(kerasllm, toy_run, tmp_path, header, rows, words):
    data = write_csv(tmp_path / "data.csv", rows, header)
    result = kerasllm("evaluate", toy_run, "--data", data, "--json")
    assert result.status == 2 and words in result.err and not result.out
