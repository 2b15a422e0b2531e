"""Files of data that were made to do harm, or by accident: read, or refused in words."""

import contextlib
import gzip
import json
import random
import shutil
import sys
import time
import tracemalloc
import warnings

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from kerasllm.data.chat.conversation_files import ConversationFiles
from kerasllm.data.documents import Documents
from kerasllm.data.multiple_choice import read_questions
from kerasllm.data.readers import parquet, text_lines
from kerasllm.data.readers.question_source import QuestionSource
from kerasllm.data.readers.sources import Source
from kerasllm.data.readers.tagged_source import TaggedSource
from tests.hostile.cases_data import write_case
from tests.hostile.harness import refusal, run_command

CASES, MORE = 120, 1000
ENCODED = [(np.zeros(2, np.int32), np.zeros(2, np.uint8))]


def read_labels(path: str, draw: random.Random) -> None:
    on_bad_row = draw.choice(["error", "skip"])
    pair = draw.choice([None, None, "auto"])
    labelled = draw.random() < 0.8
    source = Source(path, text_pair=pair, labelled=labelled, on_bad_row=on_bad_row)
    for _ in source.batches():
        pass
    source.description(), source.noted, source.fingerprint


def read_conversations(path: str, draw: random.Random, preferences: bool = False) -> None:
    on_bad_row = draw.choice(["error", "skip"])
    files = ConversationFiles(path, "train", "auto", None, on_bad_row, preferences=preferences)
    for _ in files.batches(lambda row, counts: ENCODED):
        pass
    str(files.counts), files.counts.remarks


def read_preferences(path: str, draw: random.Random) -> None:
    read_conversations(path, draw, preferences=True)


def read_documents(path: str, draw: random.Random) -> None:
    for _ in Documents(path, on_bad_row=draw.choice(["error", "skip"])):
        pass


def read_tags(path: str, draw: random.Random) -> None:
    source = TaggedSource(path, on_bad_row=draw.choice(["error", "skip"]))
    for _ in source.sentences():
        pass
    source.description(), source.noted, source.fingerprint


def read_passages(path: str, draw: random.Random) -> None:
    source = QuestionSource(path, on_bad_row=draw.choice(["error", "skip"]))
    for _ in source.questions():
        pass
    source.description(), source.noted, source.fingerprint


JOBS = {
    "tags": [read_tags],
    "spans": [read_tags],
    "conll": [read_tags],
    "passages": [read_passages],
    "labels": [read_labels, read_labels, read_documents],
    "messages": [read_conversations],
    "prompts": [read_conversations, read_documents],
    "preferences": [read_preferences],
    "questions": [lambda path, draw: read_questions(path)],
}


@contextlib.contextmanager
def deep_values():
    """Lets a case be written that is nested deeper than Python lets it be read."""
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(10 * limit)
    try:
        yield
    finally:
        sys.setrecursionlimit(limit)


def try_out(folder, seed: int, capsys, large: bool = True) -> bool:
    """Reads the file of a seed as a user would; returns whether it was refused."""
    folder = folder / str(seed)
    folder.mkdir()
    with warnings.catch_warnings(), deep_values():
        warnings.simplefilter("ignore")
        shape, path = write_case(folder, seed, large)
    draw = random.Random(seed)
    if draw.random() < 0.3:
        command = draw.choice(
            [
                ["report", "--", str(path)],
                ["convert", "--output", str(folder / "out.jsonl"), "--", str(path)],
                ["convert", "--output", str(folder / "out.parquet"), "--", str(path)],
                ["convert", "--output", str(folder / "out.csv"), "--lines", "--", str(path)],
            ]
        )
        refused = run_command(capsys, "data", *command)[0] == 2
    else:
        refused = refusal(draw.choice(JOBS[shape]), str(path), draw) is not None
    shutil.rmtree(folder)
    return refused


def test_drawn_files_are_read_or_refused(tmp_path, capsys):
    refused = sum(try_out(tmp_path, seed, capsys, large=False) for seed in range(CASES))
    assert CASES // 5 < refused < CASES * 4 // 5


CELLS = {
    "digits": "9" * 100_000 + "x",
    "digits and commas": "1" + ",1" * 50_000 + "x",
    "numbers as NumPy writes them": "[" + "11 " * 300 + "x]",
    "strings as Python writes them": "[" + "'a', " * 20_000 + "'b']",
    "a list that is too long": "[" + "'a', " * 500_000 + "'b']",
    "strings that are joined": "[" + "'a' " * 50_000 + "]",
    "a deep list": "[" * 900 + "]" * 900,
    "spaces": " " * 100_000 + "x",
    "signs": "-+" * 50_000,
}


@pytest.mark.parametrize("cell", CELLS.values(), ids=CELLS)
def test_a_long_cell_is_read_in_no_time(tmp_path, cell):
    path = tmp_path / "data.jsonl"
    rows = [{"text": cell, "label": label} for label in (cell, "a", "b")] * 4
    path.write_text("\n".join(map(json.dumps, rows)))
    began = time.process_time()
    refusal(read_labels, str(path), random.Random(0))
    assert time.process_time() - began < 5


@pytest.mark.parametrize("depth", [101, 900, 990, 100_000])
@pytest.mark.parametrize("suffix", [".jsonl", ".json"])
def test_what_is_nested_deeply_is_a_bad_row(tmp_path, capsys, depth, suffix):
    path = tmp_path / f"data{suffix}"
    row = '{"text": "a", "label": "b", "more": DEEP}'.replace("DEEP", "[" * depth + "]" * depth)
    path.write_text("[" * (suffix == ".json") + row + "]" * (suffix == ".json"))
    output = str(tmp_path / "out.csv")
    status, _, said = run_command(capsys, "data", "convert", str(path), "--output", output)
    assert status == 2 and ("nested" in said or "recursion" in said)


def test_a_table_may_have_many_columns(tmp_path, capsys):
    path = tmp_path / "data.csv"
    names = ["text", "label", *(f"k{number}" for number in range(6_000))]
    path.write_text("\n".join([",".join(names), *[",".join(["a", "b"] + ["1"] * 6_000)] * 3]))
    assert run_command(capsys, "data", "report", str(path))[0] == 0
    output = str(tmp_path / "out.jsonl")
    assert run_command(capsys, "data", "convert", str(path), "--output", output)[0] == 0
    names = ",".join(f"k{number}" for number in range(200_000))
    path.write_text(names + "\n" + "1," * 199_999 + "1")
    status, _, said = run_command(capsys, "data", "report", str(path))
    assert status == 2 and "200,000 columns" in said


def test_the_first_lines_do_not_fill_the_memory(tmp_path):
    path = tmp_path / "data.csv.gz"
    rows = ('"' + "x, " * 1_500_000 + '",a\n').encode()
    path.write_bytes(gzip.compress(b"text,label\n") + gzip.compress(rows, 1) * 60)
    refusal(read_labels, str(path), random.Random(0))


@pytest.mark.parametrize("sign", ["\n", ",\n", " \n"])
def test_lines_without_a_value_are_bounded(tmp_path, monkeypatch, sign):
    monkeypatch.setattr(text_lines, "MOST_BLANK", 1000)
    path = tmp_path / "data.csv"
    path.write_text("text,label\n" + sign * 2000 + "a,b\n")
    assert "empty lines one after another" in refusal(read_labels, str(path), random.Random(0))


def test_labels_are_detected_without_the_texts_of_a_parquet_file(tmp_path, monkeypatch):
    path = tmp_path / "data.parquet"
    rows = [{"text": "x " * 1000, "label": label} for label in "ab"] * 500
    pq.write_table(pa.Table.from_pylist(rows), path)
    read = []
    kept = parquet._batches

    def counted(file, opened, columns=None):
        read.append(columns)
        return kept(file, opened, columns)

    monkeypatch.setattr(parquet, "_batches", counted)
    Source(str(path))
    # A row of each file, and the labels.
    assert ["label"] in read


def test_no_rows_of_one_kind_fill_what_is_kept_of_them(tmp_path):
    path = tmp_path / "data.jsonl"
    first = json.dumps({"messages": [{"role": "user", "content": "a"}]})
    rows = [json.dumps({"k" * 1000 + str(number): 1}) for number in range(4_000)]
    path.write_text("\n".join([first, *rows]))
    tracemalloc.start()
    assert refusal(read_conversations, str(path), random.Random(1)) is not None
    assert tracemalloc.get_traced_memory()[1] < 8 << 20
    tracemalloc.stop()


@pytest.mark.slow
def test_a_thousand_drawn_files_are_read_or_refused(tmp_path, capsys):
    for seed in range(CASES, CASES + MORE):
        try_out(tmp_path, seed, capsys)
