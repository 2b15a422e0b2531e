"""`kerasllm finetune`: from files to a run, and what it refuses, with the place and the remedy."""

import gzip
import json
import os
import signal
import subprocess
import sys
import time

import pytest

from kerasllm.run import Run
from tests.conftest import toy_settings
from tests.toy import toy_rows, write_csv


@pytest.fixture
def finetune(kerasllm, toy_data, toy_preset):
    """Runs the toy recipe into `run`, with the file given to `--train`."""

    def run(*arguments, train="train.csv"):
        return kerasllm(*_command(toy_data, toy_preset), "--train", toy_data / train, *arguments)

    return run


def _command(toy_data, toy_preset):
    settings = [f"--set={setting}" for setting in toy_settings(toy_data, toy_preset)]
    return ["finetune", "--recipe", "bert_cls", *settings, "--output", toy_data / "run"]


def test_globs_and_gzip_train_a_model_that_predict_uses(finetune, kerasllm, toy_data):
    rows = toy_rows(240)
    (toy_data / "parts").mkdir()
    write_csv(toy_data / "parts" / "a.csv", rows[:120])
    plain = write_csv(toy_data / "b.csv", rows[120:]).read_bytes()
    (toy_data / "parts" / "b.csv.gz").write_bytes(gzip.compress(plain))
    result = finetune("--seed", "3", "--set", "training.epochs=1", "--json", train="parts/*")
    assert result.status == 0
    found = json.loads(result.out)
    assert found.pop("run") == str(toy_data / "run")
    assert found == Run.open(toy_data / "run").read_metrics()
    assert "240 rows" in result.err and "kerasllm predict" in result.err
    assert "seed: 3" in Run.open(toy_data / "run").recipe.read_text()
    assert kerasllm("predict", toy_data / "run", "a good film", "--json").status == 0


def test_a_dry_run_of_a_recipe_file_leaves_nothing(kerasllm, toy_data, toy_preset):
    recipe = toy_data / "mine.yaml"
    model, data = json.dumps(str(toy_preset)), json.dumps(str(toy_data / "train.csv"))
    recipe.write_text(
        f"task: text_classification\nmodel: {{preset: {model}}}\n"
        f"data: {{train: {data}, max_length: 32}}\n"
    )
    result = kerasllm("finetune", "--recipe", recipe, "--output", toy_data / "run", "--dry-run")
    assert result.status == 0 and "No run was written" in result.err
    assert not (toy_data / "run").exists()


def test_columns_are_named_as_for_predict_and_evaluate(kerasllm, toy_data, toy_preset):
    rows = [(number, text, label) for number, (text, label) in enumerate(toy_rows(40))]
    write_csv(toy_data / "odd.csv", rows, ("id", "what, they=wrote", "#topic"))
    command = _command(toy_data, toy_preset)
    files = ("--train", toy_data / "odd.csv", "--set", "data.test=null", "--dry-run")
    columns = ("--text", "what, they=wrote", "--label", "#topic")
    result = kerasllm(*command, *files, *columns)
    assert result.status == 0
    shown = " ".join(result.err.split())
    assert "data.text what, they=wrote (in bert_cls: null)" in shown
    assert "data.label #topic (in bert_cls: null)" in shown


def test_few_rows_and_rare_labels_are_warned_of_by_name(kerasllm, toy_data, toy_preset):
    write_csv(toy_data / "few.csv", [*toy_rows(12), ("uneven , and it ends", "mixed")])
    settings = ("--set", "data.test=null", "--set", "data.validation_split=0", "--dry-run")
    command = _command(toy_data, toy_preset)
    result = kerasllm(*command, "--train", toy_data / "few.csv", *settings)
    shown = " ".join(result.err.split())
    assert result.status == 0 and "13 rows, " in shown
    assert shown.count("only 13 training examples") == 1
    assert (
        "fewer than 5 training examples are hardly learned, and their metrics are unreliable: "
        "mixed (1)" in shown
    )


@pytest.mark.parametrize(
    ("recipe", "option", "words"),
    [
        ("gpt_dpo", "--text", ["preference", "data.text", "leave --text out"]),
        ("gpt_lm", "--label", ["causal_lm", "data.label", "--text names a column"]),
        ("gpt_lm", "--text-pair", ["data.text_pair", "leave --text-pair out"]),
    ],
)
def test_columns_that_a_task_does_not_have_are_refused(kerasllm, recipe, option, words):
    result = kerasllm("finetune", "--recipe", recipe, option, "body")
    assert result.status == 2
    for word in words:
        assert word in result.err


def test_several_label_columns_are_named_one_by_one():
    from kerasllm.cli.recipe_options import load_recipe

    options = dict.fromkeys(("train", "validation", "test", "overrides", "label"), ())
    options |= dict.fromkeys(("seed", "strategy", "text", "text_pair"))
    options["label"] = ("joy", "fear")
    assert load_recipe("multi_label_cls", options).data.label == ["joy", "fear"]


def test_a_batch_larger_than_the_data_is_not_filled_with_padding(finetune):
    settings = ("training.batch_size=100000000", "training.accumulate=5", "training.epochs=1")
    result = finetune(*(f"--set={setting}" for setting in settings))
    assert result.status == 0 and "1, batch size 220, each in 5 micro-batches" in result.err


HEADER = b"text,label\n"
GOOD = b"good film,positive\nbad film,negative\n"


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("missing.csv", None, ["does not exist", "missing.csv"]),
        ("a.csv", b"", ["empty", "a.csv"]),
        ("a.csv", HEADER, ["no rows", "a.csv"]),
        ("a.csv", b"foo,bar\n" + GOOD, ["No text column", "'foo', 'bar'", "data.text=NAME"]),
        ("a.csv", HEADER + GOOD + b" ,positive\n", ["a.csv:4", "text is empty"]),
        ("a.csv", HEADER + GOOD + b"a film,\n", ["a.csv:4", "label is empty"]),
        (
            "a.csv",
            HEADER + GOOD + b"caf\xe9,positive\n",
            ["a.csv:4", "not UTF-8", "data.encoding=cp1252"],
        ),
        ("a.csv", HEADER + GOOD + b'"open,positive\n', ["a.csv:4", "quote"]),
        ("a.csv", HEADER + b"good,positive\n", ["All rows have", "two classes"]),
        ("a.csv", (HEADER + GOOD).decode().encode("utf-16"), ["UTF-16"]),
        ("a.csv.gz", gzip.compress(HEADER + GOOD, mtime=0)[:-9], ["truncated"]),
        ("a.jsonl", b'{"text": "a", "label": "b"}\n{"text": "c', ["a.jsonl:2", "not JSON"]),
        ("a.jsonl", b'{"text": "a", "label": "b"}\n["c"]\n', ["a.jsonl:2", "a list"]),
        ("a.parquet", b"PAR1 no", ["not Parquet"]),
        ("a.xlsx", b"PK", ["'.xlsx' is not known", ".jsonl"]),
    ],
)
def test_bad_data_is_refused_with_its_place(finetune, toy_data, name, content, words):
    if content is not None:
        (toy_data / name).write_bytes(content)
    result = finetune(train=name)
    assert result.status == 2
    block = result.err[result.err.index("Error:") :]
    assert "where:" in block and "do:" in block
    for word in words:
        assert word in block
    assert not (toy_data / "run").exists()


def test_an_output_that_cannot_be_made_is_refused_before_the_data_is_read(kerasllm, toy_data):
    (toy_data / "file").write_text("mine")
    output = toy_data / "file" / "run"
    result = kerasllm(
        "finetune", "--recipe", "bert_cls", "--train", "no_such.csv", "--output", output
    )
    assert result.status == 2 and "is a file" in result.err and str(output) in result.err


def test_a_model_that_cannot_be_saved_whole_is_not_there(finetune, toy_data, monkeypatch):
    from kerasllm.models.text_classifier import TextClassifier

    def half(self, folder):
        (folder / "task.json").write_text("{}")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(TextClassifier, "save_to_preset", half)
    result = finetune("--set", "training.epochs=1")
    assert result.status == 1 and "No space left" in result.err
    assert not [path for path in (toy_data / "run").iterdir() if "model" in path.name]


def test_ctrl_c_ends_a_training_with_130_and_a_checkpoint(toy_data, toy_preset, tmp_path):
    command = [*map(str, _command(toy_data, toy_preset)), "--set", "training.epochs=5000"]
    process = subprocess.Popen(
        [sys.executable, "-m", "kerasllm", *command],
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "KERASLLM_CACHE": str(tmp_path / "cache")},
    )
    log = Run(toy_data / "run").metrics_log
    end = time.monotonic() + 90
    while not (log.exists() and log.stat().st_size) and time.monotonic() < end:
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    _, shown = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Stopped: SIGINT after step" in shown and "--resume" in shown
    assert "Traceback" not in shown
    assert len(list(Run(toy_data / "run").checkpoints.iterdir())) == 1
    assert not Run(toy_data / "run").metrics.exists()


def test_resume_takes_the_recipe_of_the_run(finetune, kerasllm, toy_data, monkeypatch):
    from kerasllm.models.text_classifier import TextClassifier

    def fail(self, folder):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(TextClassifier, "save_to_preset", fail)
        finetune("--set", "training.epochs=1")
    profile = ("--profile", "3:5", "--set", "training.epochs=2")
    changed = kerasllm("finetune", "--resume", "--output", toy_data / "run", *profile)
    assert changed.status == 2 and "training.epochs was 1, and is 2" in changed.err
    result = kerasllm(
        "finetune", "--resume", "--output", toy_data / "run", "--accept-changes", *profile
    )
    assert result.status == 0 and "resuming after step 7 of 14" in result.err
    assert "no profile is written: step 5 was already done" in result.err
    environment = json.loads(Run(toy_data / "run").environment.read_text())
    assert [again["from_step"] for again in environment["resumed"]] == [7]
    again = kerasllm("finetune", "--resume", "--output", toy_data / "run")
    assert again.status == 2 and "has finished" in again.err


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ((), "--recipe"),
        (("--resume",), "--recipe"),
        (("--resume", "--output", "no_such_run"), "no run to resume"),
        (("--recipe", "bert_cls", "--profile", "5:3"), "FIRST:LAST"),
    ],
)
def test_what_is_not_there_is_asked_for(kerasllm, options, words):
    result = kerasllm("finetune", *options)
    assert result.status == 2 and words in result.err
