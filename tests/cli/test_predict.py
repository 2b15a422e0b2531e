"""`kerasllm predict`: texts from anywhere, labels to anywhere, and no damaged or foreign model."""

import csv
import io
import json
import os
import shutil
import subprocess
import sys

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kerasllm.cli.predict import _writer
from kerasllm.data.readers.sources import Source
from kerasllm.run import Run


@pytest.fixture
def stdin(monkeypatch):
    """Gives bytes to stdin."""

    def give(content: bytes):
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content)))

    return give


def test_arguments_and_stdin_say_the_same(kerasllm, toy_run, stdin):
    texts = ["a good great film", "a bad awful film"]
    said = kerasllm("predict", toy_run, *texts)
    assert [line.split("\t")[0] for line in said.out.splitlines()] == ["positive", "negative"]
    stdin("\r\n".join(texts).encode())
    assert kerasllm("predict", toy_run).out == said.out


def test_json_is_a_line_a_text_and_alone_on_stdout(kerasllm, toy_run, toy_data):
    result = kerasllm("predict", toy_run, "--input", toy_data / "texts.txt", "--json")
    rows = [json.loads(line) for line in result.out.splitlines()]
    assert [row["text"] for row in rows] == (toy_data / "texts.txt").read_text().splitlines()
    assert all(sum(row["probabilities"].values()) == pytest.approx(1) for row in rows)


@pytest.mark.parametrize("suffix", ["csv", "tsv", "jsonl"])
def test_a_file_holds_every_prediction(kerasllm, toy_run, toy_data, suffix):
    output = toy_data / f"out.{suffix}"
    result = kerasllm("predict", toy_run, "--input", toy_data / "test.csv", "--output", output)
    assert result.status == 0 and not result.out and "60 predictions" in result.err
    with open(output, newline="") as file:
        if suffix == "jsonl":
            rows = [json.loads(line) for line in file]
        else:
            rows = list(csv.DictReader(file, delimiter="\t" if suffix == "tsv" else ","))
    assert len(rows) == 60 and {row["label"] for row in rows} == {"negative", "positive"}


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "stdin is empty"),
        (b"good\n\nbad\n", "stdin:2"),
        (b"good\n\xff\xfe\n", "stdin:2"),
    ],
)
def test_bad_stdin_is_refused(kerasllm, toy_run, stdin, content, words):
    stdin(content)
    result = kerasllm("predict", toy_run)
    assert result.status == 2 and words in result.err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["a", "--input", "x.csv"], "both as arguments and with --input"),
        (["--input", "-", "--input", "x.csv"], "not from both"),
        ([""], "Text 1 is empty"),
        (["a", "--output", "x.pdf"], ".jsonl"),
        (["a", "--output", "no_such_folder/x.csv"], "not there"),
        (["a", "--output", "folder.csv"], "is a directory"),
    ],
)
def test_what_cannot_be_done_is_refused(
    kerasllm, toy_run, tmp_path, monkeypatch, arguments, words
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder.csv").mkdir()
    result = kerasllm("predict", toy_run, *arguments)
    assert result.status == 2 and words in result.err and not result.out


def test_a_bad_row_leaves_no_file(kerasllm, toy_run, toy_data):
    (toy_data / "texts.csv").write_text("text\ngood\n \n")
    output = toy_data / "out.csv"
    result = kerasllm("predict", toy_run, "--input", toy_data / "texts.csv", "--output", output)
    assert result.status == 2 and "texts.csv:3" in result.err
    assert not [path for path in toy_data.iterdir() if "out.csv" in path.name]


def _one_label(model):
    (model / "labels.json").write_text('{"names": ["a"], "raw": ["a"]}')


def _foreign(model):
    task = json.loads((model / "task.json").read_text())
    task.update(module="os", class_name="system", registered_name=None)
    (model / "task.json").write_text(json.dumps(task))


def _lambda(model):
    task = json.loads((model / "task.json").read_text())
    code = {"class_name": "__lambda__", "config": {"code": "", "defaults": None, "closure": None}}
    task["config"]["backbone"] = {
        "module": "keras.layers",
        "class_name": "Lambda",
        "config": {"name": "code", "function": code},
        "registered_name": None,
    }
    (model / "task.json").write_text(json.dumps(task))


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda model: (model.parent / "metrics.json").unlink(), "did not finish"),
        (lambda model: (model / "labels.json").unlink(), "labels.json"),
        (_one_label, "has 2 classes"),
        (lambda model: os.truncate(model / "task.weights.h5", 3000), "cannot be loaded"),
        (lambda model: (model.parent / "recipe.yaml").write_text("task: [\n"), "recipe.yaml:"),
        (_foreign, "cannot be loaded"),
        (_lambda, "runs no code of a model"),
    ],
)
def test_a_damaged_or_foreign_run_is_refused(kerasllm, toy_run, tmp_path, damage, words):
    run = Run(shutil.copytree(toy_run, tmp_path / "run"))
    damage(run.model)
    result = kerasllm("predict", run.path, "a film")
    assert result.status == 2 and words in result.err and not result.out


def test_a_reader_that_stops_is_not_a_failure(toy_run, tmp_path):
    (tmp_path / "texts.txt").write_text("a good film\n" * 5000)
    command = [sys.executable, "-m", "kerasllm", "predict", toy_run, "--input", "texts.txt"]
    process = subprocess.Popen(
        command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=_with_repo()
    )
    assert process.stdout.readline().startswith(b"positive\t")
    process.stdout.close()
    assert process.stderr.read() == b""
    assert process.wait(60) == 0


def _with_repo():
    import kerasllm

    root = os.path.dirname(os.path.dirname(kerasllm.__file__))
    return {**os.environ, "PYTHONPATH": root}


@given(
    rows=st.lists(
        st.tuples(st.text('a "\t\n\r,é', min_size=1).filter(str.strip), st.text('a "\t\n|')),
        min_size=1,
    )
)
@settings(
    max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@pytest.mark.parametrize("suffix", ["tsv", "csv"])
def test_any_texts_that_are_written_are_read_back(tmp_path, suffix, rows):
    class Flat:
        flat = staticmethod(dict)

    output = tmp_path / f"out.{suffix}"
    with _writer(str(output), False, Flat) as write:
        for text, label in rows:
            write({"text": text, "label": label, "probability_a": "0.500000"})
    batches = list(Source(output, text="text", labelled=False).batches())
    assert [text for batch in batches for text in batch.texts] == [text for text, _ in rows]


def test_a_tsv_of_predictions_has_quotes_only_where_it_must(kerasllm, toy_run, toy_data):
    output = toy_data / "out.tsv"
    kerasllm("predict", toy_run, 'a "good" film', "a bad film", "--output", output)
    assert [line.split("\t")[0] for line in output.read_text().splitlines()] == [
        "text", 'a "good" film', "a bad film",
    ]  # fmt: skip
    kerasllm("predict", toy_run, 'a "good" film', "two\nlines", "--output", output)
    assert output.read_text().startswith('"text"\t"label"\t')
    assert '\n"a ""good"" film"\t"positive"\t' in output.read_text()
    result = kerasllm("predict", toy_run, "--input", output, "--json")
    texts = [json.loads(line)["text"] for line in result.out.splitlines()]
    assert texts == ['a "good" film', "two\nlines"]


@pytest.mark.parametrize("named", [[], ["--text", "2"]])
def test_a_table_without_a_header_is_read_as_in_the_training(kerasllm, toy_run, toy_data, named):
    table = toy_data / "rows.tsv"
    table.write_text("7\t1\ta good great film\n8\t0\ta bad awful film\n")
    found = kerasllm("predict", toy_run, "--input", table, *named)
    lines = [line.split("\t") for line in found.out.splitlines()]
    assert [(line[0], line[-1]) for line in lines] == [
        ("positive", "a good great film"), ("negative", "a bad awful film"),
    ]  # fmt: skip
