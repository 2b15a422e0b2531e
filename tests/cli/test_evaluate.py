"""`kerasllm evaluate`: tables for people, one JSON object for programs."""

import json
import shutil

import pytest

from tests.toy import write_csv
from tests.toy_language_model import write_chats


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


def test_without_data_it_is_the_runs_own_test_data(kerasllm, toy_run):
    result = kerasllm("evaluate", toy_run, "--json")
    own = str(toy_run.parent / "test.csv")
    assert result.status == 0 and f"on the run's own test data: {own}" in result.err
    classes = json.loads(result.out)["per_class"].values()
    assert sum(one["support"] for one in classes) == 60
    assert "test.csv" in kerasllm("evaluate", toy_run).out


def test_where_its_own_data_are_gone_it_says_what_to_do(kerasllm, toy_run, tmp_path):
    run = shutil.copytree(toy_run, tmp_path / "run")
    recipe = (run / "recipe.yaml").read_text()
    (run / "recipe.yaml").write_text(recipe.replace(str(toy_run.parent / "test.csv"), "gone.csv"))
    result = kerasllm("evaluate", run)
    assert result.status == 2 and "test data were not found" in result.err
    assert f"gone.csv: data.test in {run / 'recipe.yaml'}" in result.err and "--data" in result.err


def test_without_data_of_its_own_it_is_asked_for(kerasllm, toy_language_model, toy_data):
    result = kerasllm("evaluate", toy_language_model)
    assert result.status == 2 and "has no test data of its own" in result.err
    assert "--data FILE; its validation data were a part of" in result.err
    result = kerasllm("evaluate", toy_data / "no_run")
    assert result.status == 2 and "not a run directory" in result.err and "--data" in result.err


@pytest.mark.parametrize(
    ("header", "rows", "words"),
    [
        (("text", "label"), [("a film", "mixed")], "data.csv:2"),
        (("text", "shelf"), [("a film", "5")], "--label NAME"),
        (("text", "label"), [("", "positive")], "data.csv:2: the text is empty"),
    ],
)
def test_wrong_data_is_refused(kerasllm, toy_run, tmp_path, header, rows, words):
    data = write_csv(tmp_path / "data.csv", rows, header)
    result = kerasllm("evaluate", toy_run, "--data", data, "--json")
    assert result.status == 2 and words in result.err and not result.out


def test_bad_rows_are_left_out_and_counted(kerasllm, toy_run, tmp_path):
    rows = [("good", "positive"), ("", "positive"), ("bad", "negative"), (" ", "negative")]
    command = ("evaluate", toy_run, "--data", write_csv(tmp_path / "data.csv", rows))
    refused = kerasllm(*command)
    assert refused.status == 2 and "evaluate: --on-bad-row skip" in refused.err
    assert kerasllm(*command, "--on-bad-row", "error").status == 2
    result = kerasllm(*command, "--on-bad-row", "skip")
    assert result.status == 0 and "2 bad rows were skipped (2 empty text)" in result.err
    assert [line.split()[-1] for line in result.out.splitlines() if "left out" in line] == ["2"]
    metrics = json.loads(kerasllm(*command, "--on-bad-row", "skip", "--json").out)
    assert metrics["skipped_rows"] == 2
    assert sum(one["support"] for one in metrics["per_class"].values()) == 2
    good = write_csv(tmp_path / "good.csv", rows[::2])
    result = kerasllm("evaluate", toy_run, "--data", good, "--on-bad-row", "skip", "--json")
    assert json.loads(result.out)["skipped_rows"] == 0


@pytest.mark.parametrize("kind", ["texts", "conversations", "questions"])
def test_bad_rows_of_a_language_model(kerasllm, toy_language_model, tmp_path, kind):
    good = {
        "texts": {"text": "Call me Ishmael."},
        "conversations": {"prompt": "Who?", "completion": "Ahab."},
        "questions": {"question": "Who?", "choices": ["Ishmael", "Ahab"], "answer": "B"},
    }[kind]
    bad = {key: {"an": "object"} for key in good}
    data = tmp_path / "data.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in (good, bad, good)))
    command = ("evaluate", toy_language_model, "--data", data, "--chat-template", "plain")
    command = command if kind == "conversations" else command[:4]
    assert kerasllm(*command).status == 2
    result = kerasllm(*command, "--on-bad-row", "skip", "--json")
    assert result.status == 0 and json.loads(result.out)["skipped_rows"] == 1
    assert "1 bad row" in result.err and "data.jsonl:2" in result.err


@pytest.fixture
def quiz(tmp_path):
    rows = [
        {"question": "Who?", "choices": ["Ishmael", "Ahab"], "answer": "B"},
        {"question": "What?", "choices": ["a whale", "a ship", "the sea"], "answer": 0},
    ]
    file = tmp_path / "quiz.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return file


def rows_of(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_a_language_model_is_measured_on_texts(kerasllm, toy_language_model, tmp_path):
    folder = tmp_path / "texts"
    folder.mkdir()
    (folder / "one.txt").write_text("Call me Ishmael. " * 30)
    (folder / "two.md").write_text("Some years ago.")
    output = tmp_path / "rows.jsonl"
    command = ("evaluate", toy_language_model, "--data", folder, "--output", output)
    result = kerasllm(*command, "--stride", 8, "--json")
    metrics = json.loads(result.out)
    assert (metrics["max_length"], metrics["stride"]) == (32, 8)
    assert metrics["bytes"] == 17 * 30 + 15
    rows = rows_of(output)
    assert [row["file"] for row in rows] == [str(folder / "one.txt"), str(folder / "two.md")]
    assert sum(row["tokens"] for row in rows) == metrics["tokens"]
    total = sum(row["tokens"] * row["loss"] for row in rows)
    assert metrics["loss"] == pytest.approx(total / metrics["tokens"])
    # More preceding context makes a text more likely.
    shorter = json.loads(kerasllm(*command, "--max-length", 8, "--json").out)
    assert shorter["tokens"] == metrics["tokens"] and shorter["stride"] == 4


def test_a_language_model_is_measured_on_conversations(kerasllm, toy_language_model, tmp_path):
    chats = write_chats(tmp_path / "chats.jsonl", 4)
    command = ("evaluate", toy_language_model, "--data", chats)
    refused = kerasllm(*command)
    assert refused.status == 2 and "has no chat template of its own" in refused.err
    assert "choose one with --chat-template" in refused.err
    result = kerasllm(*command, "--chat-template", "plain")
    assert result.status == 0
    for words in ("perplexity", "accuracy", "conversations"):
        assert words in result.out
    assert "of more than 32 tokens: 4 conversations" in result.err


def test_blank_rows_are_left_out_and_counted(kerasllm, toy_language_model, tmp_path):
    (tmp_path / "wiki.jsonl").write_text('{"text": ""}\n{"text": "A sentence."}\n' * 5)
    result = kerasllm("evaluate", toy_language_model, "--data", tmp_path / "wiki.jsonl")
    assert result.status == 0 and "empty texts left out: 5" in result.err


def test_columns_that_tell_no_conversation_can_be_measured_as_text(
    kerasllm, toy_language_model, tmp_path
):
    file = tmp_path / "rows.csv"
    file.write_text("question,answer,solution\nOne?,Yes.,No.\n")
    command = ("evaluate", toy_language_model, "--data", file)
    refused = kerasllm(*command)
    assert refused.status == 2 and "could each be the response" in refused.err
    assert "--text COLUMN" in refused.err
    assert kerasllm(*command, "--text", "solution").status == 0
    file.write_text("question,answer\nOne?,Yes.\n")
    assert kerasllm(*command, "--chat-template", "plain").status == 0


def test_a_language_model_is_measured_on_questions(kerasllm, toy_language_model, quiz, tmp_path):
    output = tmp_path / "not" / "there" / "rows.jsonl"
    result = kerasllm("evaluate", toy_language_model, "--data", quiz, "--output", output)
    assert result.status == 0
    for words in ("accuracy", "accuracy, by bytes", "by chance", "0.4167", "questions"):
        assert words in result.out
    assert [(row["line"], row["answer"]) for row in rows_of(output)] == [(1, 1), (2, 0)]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--stride", 8), "This is for texts, but the data are questions with choices"),
        (("--chat-template", "plain"), "This is for conversations"),
        (("--label", "stars"), "A model of the task causal_lm does not take it"),
        (("--max-length", 33), "The model reads from 1 to 32 tokens. Received: 33"),
        (("--template", "Answer:"), "write {question} there"),
        (("--output", "rows.csv"), "end --output with .jsonl"),
        (("--output", "quiz.jsonl/rows.jsonl"), "The directory cannot be made"),
        (("--adapter", "no_such_adapter"), "no_such_adapter"),
    ],
)
def test_options_that_do_not_fit_are_refused(
    kerasllm, toy_language_model, quiz, monkeypatch, options, words
):
    monkeypatch.chdir(quiz.parent)
    result = kerasllm("evaluate", toy_language_model, "--data", quiz, *options)
    assert result.status == 2 and words in result.err and not result.out


@pytest.mark.parametrize("stride", [0, 33])
def test_a_stride_is_within_the_window(kerasllm, toy_language_model, tmp_path, stride):
    (tmp_path / "text.txt").write_text("Call me Ishmael.")
    data = ("--data", tmp_path / "text.txt", "--stride", stride)
    result = kerasllm("evaluate", toy_language_model, *data)
    assert result.status == 2 and "is from 1 to 32. Received" in result.err


def test_a_preference_and_a_bad_question_are_refused(kerasllm, toy_language_model, tmp_path):
    file = tmp_path / "rows.jsonl"
    file.write_text('{"prompt": "a", "chosen": "b", "rejected": "c"}\n')
    result = kerasllm("evaluate", toy_language_model, "--data", file)
    assert result.status == 2 and "The rows are preferences" in result.err
    file.write_text('{"question": "Who?", "choices": ["a", "b"], "answer": 2}\n')
    result = kerasllm("evaluate", toy_language_model, "--data", file)
    assert result.status == 2 and f"{file}:1: the answer 2 is not one" in result.err


def test_each_model_has_its_own_verbs(kerasllm, toy_run, toy_language_model, toy_data):
    texts = toy_data / "texts.txt"
    result = kerasllm("predict", toy_language_model, "--input", texts)
    assert result.status == 2 and "`kerasllm generate`" in result.err
    result = kerasllm("generate", toy_run, "--prompt", "Call me")
    assert result.status == 2 and "`kerasllm predict`" in result.err
    result = kerasllm("evaluate", toy_run, "--data", toy_data / "test.csv", "--stride", 8)
    assert result.status == 2 and "text_classification does not take it" in result.err


def test_what_is_neither_a_run_nor_a_preset_is_refused(kerasllm, tmp_path):
    (tmp_path / "text.txt").write_text("Call me Ishmael.")
    result = kerasllm("evaluate", tmp_path / "no_such_run", "--data", tmp_path / "text.txt")
    assert result.status == 2 and "no_such_run" in result.err
