"""Names of a megabyte are refused soon, and not echoed."""

import os
import time

import pytest

from kerasllm.data.readers.tagged_source import TaggedSource
from kerasllm.errors import DataError
from tests.hostile.harness import run_command

LONG = "nm" * 500_000
ROWS = "text,label\n" + "a film,x\nno film,y\n" * 3


@pytest.mark.parametrize(
    "arguments",
    [
        ["data", "report", f"{LONG}.csv"],
        ["data", "report", "data.csv", "--label", LONG],
        ["data", "report", "data.csv", "--text", LONG],
        ["data", "convert", "data.csv", "--output", LONG],
        ["data", "convert", "data.csv", "--output", f"{LONG}.csv"],
        ["recipes", "show", LONG],
        ["recipes", "validate", LONG],
        ["finetune", "--recipe", LONG],
        ["finetune", "--recipe", "bert_cls", "--set", f"{LONG}=1"],
        ["finetune", "--recipe", "bert_cls", "--set", f"training.{LONG}=1"],
        ["finetune", "--recipe", "bert_cls", "--set", f"training.precision={LONG}"],
        ["finetune", "--recipe", "bert_cls", "--set", f"training.strategy={LONG}"],
        [LONG],
        ["evaluate", f"--{LONG}"],
    ],
    ids=lambda arguments: "-".join(arguments)[:40],
)
def test_a_long_name_is_not_echoed(tmp_path, monkeypatch, capsys, arguments):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data.csv").write_text(ROWS)
    began = time.process_time()
    status, _, said = run_command(capsys, *arguments)
    assert status == 2 and len(said) < 6_000
    assert time.process_time() - began < 6


@pytest.mark.parametrize("header", [f"text,label,{LONG}", f"text,{LONG}", f"{LONG},label"])
def test_nor_is_one_of_a_column(tmp_path, capsys, header):
    path = tmp_path / "data.csv"
    path.write_text(ROWS.replace("text,label", header).replace("\n", ",1\n"))
    _, written, said = run_command(capsys, "data", "report", str(path))
    assert len(written) + len(said) < 6_000


@pytest.mark.parametrize("kind", [".csv", ".jsonl", ".txt", ".parquet", ".json", ".csv.gz", ".zip"])
def test_a_pipe_is_not_waited_for(tmp_path, capsys, kind):
    path = tmp_path / f"data{kind}"
    os.mkfifo(path)
    status, _, said = run_command(capsys, "data", "report", str(path))
    assert status == 2 and "pipe" in said


def test_nor_is_one_in_a_folder(tmp_path, capsys):
    (tmp_path / "a.csv").write_text(ROWS)
    os.mkfifo(tmp_path / "b.csv")
    status, _, said = run_command(capsys, "data", "report", str(tmp_path))
    assert status == 2 and "pipe" in said


def test_nor_by_what_reads_tagged_words(tmp_path):
    (tmp_path / "a.conll").write_text("a\tO\n")
    os.mkfifo(tmp_path / "b.conll")
    with pytest.raises(DataError, match="pipe"):
        for _ in TaggedSource(tmp_path).sentences():
            pass
