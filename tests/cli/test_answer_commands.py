"""A trained model answers questions from the command line, from files, and measures files."""

import csv
import io
import json
import sys

import pytest
from pyarrow import parquet

from tests.conftest import cached_in
from tests.tasks.toys.question_answering import some_unanswered

CONTEXT = "it was the great story\r\n 🎉 of a quite and with ."


@pytest.fixture(scope="module")
def run(tmp_path_factory, toy_preset, session_cache):
    """A finished run on toy questions, some of which have no answer."""
    from kerasllm.recipe import load
    from kerasllm.workflows.finetune import finetune

    folder = tmp_path_factory.mktemp("questions")
    recipe = load("qa", some_unanswered(folder, toy_preset).overrides)
    with cached_in(session_cache):
        return finetune(recipe, name="qa", output=folder / "run").path


def test_a_question_and_a_context_are_options(kerasllm, run):
    asked = ("--question", "the film ?", "--context", CONTEXT)
    line = kerasllm("predict", run, *asked).out
    assert line.split("\t")[0] == "great story" and line.endswith("\tthe film ?\n")
    told = json.loads(kerasllm("predict", run, *asked, "--json", "--n-best", "3").out)
    assert told["answer"] == "great story" == CONTEXT[told["start"] : told["end"]]
    assert len(told["n_best"]) == 3 and told["n_best"][0]["score"] == told["score"]
    assert told["no_answer"] < 0
    # As arguments, and from stdin, they are the same.
    assert kerasllm("predict", run, "the film ?", CONTEXT).out == line


def test_a_model_may_give_no_answer(kerasllm, run):
    asked = ("--question", "the actor ?", "--context", "the a very quite of with")
    told = json.loads(kerasllm("predict", run, *asked, "--json").out)
    assert (told["answer"], told["start"], told["end"]) == ("", None, None)
    assert kerasllm("predict", run, *asked).out.startswith("-\t")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--question", "Where?"], "A question needs a context"),
        (["--context", "here", "--question", " "], "A question needs a context"),
        (["a text", "--question", "Where?", "--context", "here"], "given both as arguments"),
        (["one text"], "A question needs a context. Received: 1 text"),
    ],
)
def test_half_a_question_is_refused(kerasllm, run, arguments, words):
    result = kerasllm("predict", run, *arguments)
    assert result.status == 2 and words in " ".join(result.err.split())


def test_files_are_answered_with_their_columns(kerasllm, run, tmp_path, monkeypatch):
    rows = [("1", "the film ?", CONTEXT), ("2", "the actor ?", CONTEXT)]
    with open(tmp_path / "in.csv", "w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([("id", "question", "context"), *rows])
    for suffix in (".csv", ".parquet"):
        output = tmp_path / f"out{suffix}"
        result = kerasllm("predict", run, "--input", tmp_path / "in.csv", "--output", output)
        assert result.status == 0, result.err
    with open(tmp_path / "out.csv", encoding="utf-8", newline="") as file:
        found = list(csv.DictReader(file))
    assert [row["id"] for row in found] == ["1", "2"]
    for row in found:
        assert row["context"][int(row["start"]) : int(row["end"])] == row["answer"] != ""
    typed = parquet.read_table(tmp_path / "out.parquet").to_pylist()
    assert [row["answer"] for row in typed] == [row["answer"] for row in found]
    assert all(len(row["n_best"]) == 5 for row in typed)
    line = b"the film ?\tof the great story\n"
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(line)))
    assert kerasllm("predict", run).out.startswith("great story\t")


def test_articles_are_measured_and_not_predicted_for(kerasllm, run, tmp_path):
    data = run.parent / "test.json"
    refused = kerasllm("predict", run, "--input", data)
    assert refused.status == 2 and "kerasllm evaluate" in refused.err
    output = tmp_path / "answers.json"
    metrics = json.loads(kerasllm("evaluate", run, "--output", output, "--json").out)
    assert metrics["f1"] > 0.5
    assert metrics["has_answer_questions"] + metrics["no_answer_questions"] == 24
    # What the official scripts read.
    answers = json.loads(output.read_text())
    asked = {
        one["id"]: [each["text"] for each in one["answers"]]
        for article in json.loads(data.read_text())["data"]
        for one in article["paragraphs"][0]["qas"]
    }
    assert answers.keys() == asked.keys()
    right = sum(answers[id] in (wanted or [""]) for id, wanted in asked.items())
    assert right / len(asked) == metrics["exact_match"]
    rows = tmp_path / "answers.jsonl"
    kerasllm("evaluate", run, "--data", data, "--output", rows)
    first = json.loads(rows.read_text().splitlines()[0])
    assert first["answer"] == answers[first["id"]] and first["references"] == asked[first["id"]]
    shown = kerasllm("evaluate", run, "--data", data).out
    assert "exact match, no answer" in shown
    assert kerasllm("evaluate", run, "--output", tmp_path / "x.csv").status == 2


def test_bad_questions_are_refused_or_skipped_and_counted(kerasllm, run, tmp_path):
    good = {"question": "the film ?", "context": "a great story", "answer": "great story"}
    file = tmp_path / "a.jsonl"
    file.write_text("\n".join(map(json.dumps, [good, good | {"answer": "grand story"}])))
    refused = kerasllm("evaluate", run, "--data", file)
    assert refused.status == 2
    assert "a.jsonl:2" in refused.err and "nearest" in refused.err
    metrics = kerasllm("evaluate", run, "--data", file, "--on-bad-row", "skip", "--json").out
    assert json.loads(metrics)["skipped_rows"] == 1


def test_a_folder_of_transformers_is_read_back_with_its_head(kerasllm, run, tmp_path):
    import numpy as np

    from kerasllm.models.answer_model import AnswerModel, trained_head
    from kerasllm.models.token_outputs import token_logits

    out = tmp_path / "exported"
    result = kerasllm("export", run, "--format", "transformers", "--output", out, "--rows", "8")
    assert result.status == 0, result.err
    config = json.loads((out / "config.json").read_text())
    assert config["architectures"] == ["BertForQuestionAnswering"]
    assert "AutoModelForQuestionAnswering" in (out / "README.md").read_text()
    own, read = AnswerModel.from_preset(run), AnswerModel.from_preset(out)
    assert read.answering == own.answering and read.max_length == own.max_length
    windows = own.cut([("the film ?", CONTEXT), ("the actor ?", CONTEXT * 3)])
    logits = [token_logits(each, windows.tokens) for each in (own, read)]
    np.testing.assert_allclose(*logits, atol=1e-4)
    heads = [trained_head(each) for each in (out, run / "model")]
    np.testing.assert_allclose(heads[0]["kernel"], heads[1]["kernel"], atol=1e-6)
