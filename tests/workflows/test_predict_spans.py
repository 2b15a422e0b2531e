"""Tests of files of spans: a line for each in csv, all of a text in jsonl and parquet, CoNLL."""

import csv
import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from kerasllm.data.readers.tagged_source import TaggedSource
from kerasllm.data.readers.whole_rows import WholeRow
from kerasllm.errors import CommandError
from kerasllm.tasks.task import find
from kerasllm.workflows.partial_output import Output
from kerasllm.workflows.predict_file import Predictor, predict_rows_to_file

TASK = find("token_classification")
TEXTS = ["Ada met Bob.", "nothing", "Bob,\r\n\tAda"]


def predict(inputs):
    for text in inputs:
        tokens = text.replace(".", " .").replace(",", " ,").split()
        tags = ["B-name" if token in ("Ada", "Bob") else "O" for token in tokens]
        spans = [
            {"start": at, "end": at + 3, "text": name, "label": "name", "probability": 0.5}
            for name in ("Ada", "Bob")
            if (at := text.find(name)) >= 0
        ]
        spans.sort(key=lambda one: one["start"])
        yield {"text": text, "spans": spans, "tokens": tokens, "tags": tags}


@pytest.fixture
def written(tmp_path):
    """Returns a function to the path of a file with a suffix, written of all texts."""

    def written(suffix, texts=TEXTS) -> Path:
        rows = [
            WholeRow(number, f"TEXT:{number}", text, {}, None) for number, text in enumerate(texts)
        ]
        forms = {
            "raw": dict,
            "flat": TASK.lines,
            "typed": TASK.columns,
            "text": lambda prediction: {"text": TASK.text(prediction)},
        }
        output = Output(tmp_path / f"spans{suffix}", text_suffixes=TASK.text_suffixes)
        output.check([])
        count, bad = predict_rows_to_file(rows, output, Predictor(predict, 2, forms), errors=False)
        assert (count >= len(texts) or suffix == ".csv") and not bad.count
        return output.path

    return written


def test_csv_has_a_line_for_each_span_and_one_for_a_text_without(written):
    with open(written(".csv"), encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["text"], row["start"], row["span"]) for row in rows] == [
        (TEXTS[0], "0", "Ada"),
        (TEXTS[0], "8", "Bob"),
        (TEXTS[1], "", ""),
        (TEXTS[2], "0", "Bob"),
        (TEXTS[2], "7", "Ada"),
    ]
    for row in rows:
        if row["start"]:
            assert row["text"][int(row["start"]) : int(row["end"])] == row["span"]


def test_jsonl_and_parquet_have_a_row_for_each_text(written):
    lines = [json.loads(line) for line in written(".jsonl").read_text().splitlines()]
    assert lines == list(predict(TEXTS))
    # Also where the first texts have no span.
    texts = ["nothing", *TEXTS]
    assert pq.read_table(written(".parquet", texts)).to_pylist() == list(predict(texts))


def test_conll_is_read_back(written):
    found = list(TaggedSource(written(".conll")).sentences())
    assert [one.tags for one in found] == [one["tags"] for one in predict(TEXTS)]
    assert [one.text for one in found] == [" ".join(one["tokens"]) for one in predict(TEXTS)]


def test_other_tasks_write_no_conll(tmp_path):
    with pytest.raises(CommandError, match="'.conll' is not a format for predictions"):
        Output(tmp_path / "a.conll").check([])
