"""A report by a recipe: its task's rows, its tokenizer's tokens, and labels that are wrong."""

import numpy as np
import pytest

from kerasllm.errors import CommandError
from kerasllm.recipe import load
from kerasllm.workflows.data_report import data_report
from kerasllm.workflows.report import Report
from tests.conftest import toy_settings
from tests.toy import toy_rows, write_csv


def test_lengths_are_tokens_and_wrong_labels_come_first(tmp_path, toy_preset):
    rows = toy_rows(240)
    wrong = np.random.default_rng(0).choice(240, 12, replace=False)
    other = {"negative": "positive", "positive": "negative"}
    for row in wrong:
        rows[row] = (rows[row][0], other[rows[row][1]])
    write_csv(tmp_path / "train.csv", rows)
    write_csv(tmp_path / "test.csv", toy_rows(30, seed=1))
    recipe = load("bert_cls", [*toy_settings(tmp_path, toy_preset), "data.max_length=16"])
    found = data_report({}, recipe, deep=True, report=Report.silent())
    facts = found.describe_parts()["train"]["lengths"]
    words = [len(text.split()) for text, _ in rows]
    assert facts["unit"] == "tokens" and facts["most"] == max(words) + 2
    assert facts["cut"] == sum(count + 2 > 16 for count in words)
    noise = next(one for one in found.findings if one.kind == "label_noise")
    assert len({*noise.rows[:12].tolist()} & {*wrong.tolist()}) >= 10
    assert noise.notes[int(noise.rows[0])].startswith("rather ")


def test_wrong_labels_need_labels(tmp_path):
    (tmp_path / "book.txt").write_text("a line of text\n\nanother line of text\n")
    with pytest.raises(CommandError, match="texts with a single label"):
        data_report({"train": [str(tmp_path / "book.txt")]}, deep=True, report=Report.silent())
