"""`kerasllm predict`: texts from anywhere, labels to anywhere, and no damaged or foreign model."""

import csv
import io
import json
import os
import shutil
import signal
import subprocess
import sys

import pytest
from pyarrow import parquet

from kerasllm.run import Run
from kerasllm.workflows import predict_file
from tests.toy import toy_rows


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
    result = kerasllm("predict", toy_run, "--on-bad-row", "error")
    assert result.status == 2 and words in result.err


def test_each_line_of_stdin_has_an_answer(kerasllm, toy_run, stdin):
    stdin(b"good\n\n\xff\nbad\n")
    found = kerasllm("predict", toy_run)
    assert [line.split("\t")[0] for line in found.out.splitlines()] == [
        "positive",
        "-",
        "-",
        "negative",
    ]
    assert found.status == 0 and "stdin:2: the text is empty" in found.err
    stdin(b"\n \n")
    none = kerasllm("predict", toy_run)
    assert none.status == 2 and "No row can be used" in none.err and not none.out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["a", "--input", "x.csv"], "both as arguments and with --input"),
        (["--input", "-", "--input", "x.csv"], "not from both"),
        ([""], "Text 1 is empty"),
        (["a", "--output", "x.pdf"], ".jsonl"),
        (["a", "--output", "a_file/x.csv"], "directory cannot be made"),
        (["a", "--output", "folder.csv"], "is a directory"),
        (["a", "--output", "x.parquet.gz"], ".jsonl"),
        (["a", "--keep", "id"], "Only files have columns"),
        (["a", "--resume"], "give --output"),
        (["a", "--resume", "--output", "x.csv"], "predictions for files"),
    ],
)
def test_what_cannot_be_done_is_refused(kerasllm, toy_run, tmp_path, monkeypatch, arguments, words):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder.csv").mkdir()
    (tmp_path / "a_file").write_text("")
    result = kerasllm("predict", toy_run, *arguments)
    assert result.status == 2 and words in result.err and not result.out


def test_the_folder_of_the_output_is_made(kerasllm, toy_run, tmp_path):
    output = tmp_path / "not" / "there" / "labels.csv"
    result = kerasllm("predict", toy_run, "a good film", "--output", output)
    assert result.status == 0 and _read(output)[0]["label"] == "positive"


ROWS = [("7", "a good film", "x"), ("8", " ", "y"), ("9", "a bad film", "z")]


@pytest.fixture
def rows_csv(tmp_path):
    """A file with an id, an empty text, and a column that a prediction has too."""
    with open(tmp_path / "rows.csv", "w", newline="") as file:
        csv.writer(file).writerows([("id", "text", "label"), *ROWS])
    return tmp_path / "rows.csv"


def _read(path):
    if path.suffix == ".parquet":
        return parquet.read_table(path).to_pylist()
    with open(path, newline="") as file:
        if path.suffix == ".jsonl":
            return [json.loads(line) for line in file]
        return list(csv.DictReader(file, delimiter="\t" if path.suffix == ".tsv" else ","))


@pytest.mark.parametrize("suffix", ["csv", "tsv", "jsonl", "parquet"])
def test_each_row_of_a_file_has_a_row_with_its_columns(kerasllm, toy_run, rows_csv, suffix):
    output = rows_csv.with_name(f"out.{suffix}")
    result = kerasllm("predict", toy_run, "--input", rows_csv, "--output", output)
    assert result.status == 0 and "2 predictions" in result.err and "1 bad row" in result.err
    rows = _read(output)
    assert [(row["id"], row["text"], row["label"]) for row in rows] == ROWS
    assert list(rows[0])[:4] == ["id", "text", "label", "predicted_label"]
    labels = [row["predicted_label"] or "" for row in rows]
    assert labels == ["positive", "", "negative"]
    assert rows[1]["error"] == f"{rows_csv}:3: the text is empty" and not rows[0].get("error")
    assert sorted(path.name for path in rows_csv.parent.iterdir()) == [f"out.{suffix}", "rows.csv"]


def test_the_column_of_errors_is_named_as_it_is(kerasllm, toy_run, rows_csv):
    rows_csv.write_text("text,error\na good film,no\n,yes\n")
    output = rows_csv.with_name("out.csv")
    result = kerasllm("predict", toy_run, "--input", rows_csv, "--output", output)
    assert "(see `predicted_error`)" in result.err
    assert [row["error"] for row in _read(output)] == ["no", "yes"]
    assert _read(output)[1]["predicted_error"] == f"{rows_csv}:3: the text is empty"


def test_columns_are_kept_as_named_and_the_id_is_first(kerasllm, toy_run, rows_csv):
    output = rows_csv.with_name("out.csv")
    files = ("--input", rows_csv, "--output", output)
    kerasllm("predict", toy_run, *files, "--keep", "text", "--id", "id")
    assert list(_read(output)[0])[:3] == ["id", "text", "label"]
    assert [row["label"] for row in _read(output)] == ["positive", "", "negative"]
    refused = kerasllm("predict", toy_run, *files, "--keep", "idd")
    assert refused.status == 2 and "did you mean id?" in refused.err
    printed = kerasllm("predict", toy_run, "--input", rows_csv, "--id", "id", "--json")
    assert [json.loads(line)["id"] for line in printed.out.splitlines()] == ["7", "8", "9"]


@pytest.mark.parametrize(("what", "count"), [("skip", 2), ("error", 0)])
def test_a_bad_row_can_be_left_out_or_end_the_command(kerasllm, toy_run, rows_csv, what, count):
    output = rows_csv.with_name("out.csv")
    files = ("--input", rows_csv, "--output", output)
    result = kerasllm("predict", toy_run, *files, "--on-bad-row", what)
    assert "rows.csv:3: the text is empty" in result.err
    if what == "error":
        assert result.status == 2
        assert [path.name for path in rows_csv.parent.iterdir()] == ["rows.csv"]
    else:
        assert [row["id"] for row in _read(output)] == ["7", "9"]


@pytest.mark.parametrize("way", ["same", "relative", "symlink", "hard link"])
def test_the_input_is_never_the_output(kerasllm, toy_run, rows_csv, monkeypatch, way):
    monkeypatch.chdir(rows_csv.parent)
    output, before = rows_csv, rows_csv.read_bytes()
    if way == "relative":
        output = f"../{rows_csv.parent.name}/rows.csv"
    elif way != "same":
        output = rows_csv.with_name("other.csv")
        output.hardlink_to(rows_csv) if way == "hard link" else output.symlink_to(rows_csv)
    result = kerasllm("predict", toy_run, "--input", "rows.csv", "--output", output)
    assert result.status == 2 and "The output is the input" in result.err
    assert rows_csv.read_bytes() == before


def test_a_prediction_that_was_killed_is_resumed(kerasllm, toy_run, tmp_path, monkeypatch):
    from kerasllm.workflows import predict as workflow

    texts = [text for text, _ in toy_rows(40, seed=3)]
    (tmp_path / "in.jsonl").write_text(
        "".join(json.dumps({"id": i, "text": text}) + "\n" for i, text in enumerate(texts))
    )
    files = ("--input", tmp_path / "in.jsonl", "--output")
    monkeypatch.setattr(workflow, "CHUNK", 8)
    monkeypatch.setattr(predict_file, "SECONDS_BETWEEN_COMMITS", 0)
    whole = tmp_path / "whole.jsonl"
    kerasllm("predict", toy_run, *files, whole)
    output = tmp_path / "out.jsonl"
    with monkeypatch.context() as patched:
        patched.setattr(workflow, "predict", _terminated_after(20, workflow.predict))
        killed = kerasllm("predict", toy_run, *files, output)
    assert killed.status == 143 and "16 of 40 rows" in killed.err and "--resume" in killed.err
    assert not output.exists() and (tmp_path / "out.jsonl.partial").is_dir()
    again = kerasllm("predict", toy_run, *files, output)
    assert again.status == 2 and "--resume" in again.err
    other = kerasllm("predict", toy_run, *files, output, "--resume", "--id", "id")
    assert other.status == 2 and "the options changed" in other.err
    resumed = kerasllm("predict", toy_run, *files, output, "--resume")
    assert resumed.status == 0 and "resuming after 16 of 40 rows" in resumed.err
    assert output.read_bytes() == whole.read_bytes()
    assert not (tmp_path / "out.jsonl.partial").exists()


def _terminated_after(count, predict):
    def predict_and_end(*arguments, **options):
        for number, prediction in enumerate(predict(*arguments, **options)):
            if number == count:
                signal.raise_signal(signal.SIGTERM)
            yield prediction

    return predict_and_end


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
        (_lambda, "runs no code from a model"),
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


def test_a_tsv_of_predictions_has_quotes_only_where_it_must(kerasllm, toy_run, toy_data):
    output = toy_data / "out.tsv"
    kerasllm("predict", toy_run, 'a "good" film', "a bad film", "--output", output)
    assert [line.split("\t")[0] for line in output.read_text().splitlines()] == [
        "text",
        'a "good" film',
        "a bad film",
    ]
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
        ("positive", "a good great film"),
        ("negative", "a bad awful film"),
    ]


def test_a_file_without_the_column_is_refused_before_tensorflow_is_imported(toy_run, tmp_path):
    """Reading loads nothing heavy: or the commands could not leave out what Keras needs not."""
    (tmp_path / "rows.csv").write_text("a,b\n1,2\n", encoding="utf-8")
    code = (
        "import sys\n"
        "from kerasllm.cli.main import main\n"
        "try: main(sys.argv[1:])\n"
        "except SystemExit as end: print(end.code)\n"
        "print([name for name in ('tensorflow', 'keras') if name in sys.modules])"
    )
    command = ["predict", str(toy_run), "--input", str(tmp_path / "rows.csv")]
    ran = subprocess.run(
        [sys.executable, "-c", code, *command], capture_output=True, text=True, check=True
    )
    assert ran.stdout.split("\n") == ["2", "[]", ""]
