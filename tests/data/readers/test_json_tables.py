"""A table in one JSON object, as pandas, web services and the hub's viewer write it."""

import json
import subprocess

import pytest

from kerasllm.data.convert import convert
from kerasllm.data.readers.files import find_files
from kerasllm.data.readers.records import records
from kerasllm.data.readers.sources import Source
from kerasllm.errors import DataError

ROWS = [
    {"text": "a fine film", "label": "pos"},
    {"text": "dull to the end", "label": "neg"},
    {"text": "two lost hours", "label": "neg"},
]
TEXTS, LABELS = ([row[key] for row in ROWS] for key in ("text", "label"))
NUMBERED = {key: {str(n): row[key] for n, row in enumerate(ROWS)} for key in ("text", "label")}
TABLES = {
    "data": {"data": ROWS},
    "beside others": {"version": "1.0", "count": 3, "examples": ROWS},
    "pandas": NUMBERED,
    "index": {str(n): row for n, row in enumerate(ROWS)},
    "lists": {"text": TEXTS, "label": LABELS},
    "split": {
        "columns": ["text", "label"],
        "index": [0, 1, 2],
        "data": [list(row.values()) for row in ROWS],
    },
    "table": {"schema": {"fields": [{"name": "text"}]}, "data": ROWS},
    "viewer": {
        "features": [{"name": "text"}],
        "rows": [{"row_idx": n, "row": row, "truncated_cells": []} for n, row in enumerate(ROWS)],
    },
    "a split": {"train": ROWS},
}


def read(path):
    source = Source(path)
    return [
        {"text": text, "label": label}
        for batch in source.batches()
        for text, label in zip(batch.texts, batch.labels)
    ]


@pytest.mark.parametrize("indent", [None, 2])
@pytest.mark.parametrize("suffix", ["json", "jsonl"])
@pytest.mark.parametrize("kind", TABLES)
def test_tables_in_one_object(tmp_path, kind, suffix, indent):
    path = tmp_path / f"a.{suffix}"
    path.write_text(json.dumps(TABLES[kind], indent=indent))
    assert read(path) == ROWS
    assert convert(str(path), tmp_path / "all.csv").rows == 3


@pytest.mark.parametrize(
    "row",
    [
        {"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]},
        {"id": "1", "data": ["a question that is long", "an answer that is long"]},
        {"tokens": ["a", "b"], "tags": [0, 1]},
        {"text": "a text", "meta": {"0": 1}},
        {"text": {"a": 1}},
        {},
    ],
)
@pytest.mark.parametrize("suffix", ["json", "jsonl"])
def test_an_object_that_is_a_row(tmp_path, row, suffix):
    path = tmp_path / f"a.{suffix}"
    path.write_text(json.dumps(row))
    assert [found for _, found, _ in records(find_files(path, "train")[0])] == [row]
    path.write_text(json.dumps(row) + "\n" + json.dumps(TABLES["pandas"]))
    assert len(list(records(find_files(path, "train")[0]))) == 2, "several are rows in any case"


@pytest.mark.parametrize(
    ("table", "what", "rows"),
    [
        ({"train": ROWS, "test": ROWS}, "the parts train, test", ROWS),
        (
            {"version": "2.0", "data": [{"title": "T", "paragraphs": [
                {"context": "C", "qas": [{"question": "Q", "id": "1", "answers": [{"text": "A"}]}]},
            ]}]},
            "paragraphs with questions",
            [{"question": "Q", "context": "C", "answer": "A"}],
        ),
    ],
)  # fmt: skip
def test_what_is_refused_with_the_command_that_converts_it(
    tmp_path, monkeypatch, table, what, rows
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.json").write_text(json.dumps(table))
    with pytest.raises(DataError, match=what) as error:
        read("a.json")
    command = error.value.fix.split("`")[1]
    assert command.startswith("jq -c '") and command.endswith(".jsonl")
    if subprocess.run("jq --version", shell=True, capture_output=True).returncode:
        pytest.skip("jq is not on this machine")
    subprocess.run(command, shell=True, check=True)
    written = (tmp_path / command.rpartition(" ")[2]).read_text().splitlines()
    assert list(map(json.loads, written)) == rows
