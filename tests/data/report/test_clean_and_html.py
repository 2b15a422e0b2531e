"""A cleaned copy is the data without what harms; a page opens offline and escapes the data."""

import csv
import json
import re
import xml.etree.ElementTree as ElementTree
import zipfile

import pyarrow.parquet as pq
import pytest

from kerasllm.data.convert import convert
from kerasllm.data.report.clean import clean
from kerasllm.data.report.html import html_of
from kerasllm.data.report.report import make_report
from kerasllm.data.report.rows import rows_of_files
from kerasllm.errors import CommandError, DataError
from tests.data.report.test_report import text, write

HEADER = ("text", "label", "id")


@pytest.fixture
def train(tmp_path):
    rows = [(f"{text(number)},\nand so on", "ab"[number % 2], number) for number in range(30)]
    rows += [rows[0], (rows[1][0], "a", 31), ("", "a", 32), ("cafÃ© is garbled", "b", 33)]
    rows += [("...", "a", 34), ('a "quoted" <script>x</script> text', "a", 35)]
    return write(tmp_path / "train.csv", rows, HEADER)


def report(train, test=None):
    parts = {"train": rows_of_files(train)}
    if test:
        parts["test"] = rows_of_files(test, "test", like=parts["train"])
    return make_report(parts)


def test_a_copy_has_the_lines_that_are_kept_as_they_stand(tmp_path, train):
    test = write(tmp_path / "test.csv", [(f"{text(4)},\nand so on", "a", 0)], HEADER)
    before = open(train, "rb").read()
    counts, listed = clean(report(train, test), tmp_path / "clean.csv")
    with open(tmp_path / "clean.csv", newline="") as file:
        ids = [int(row["id"]) for row in csv.DictReader(file)]
    assert ids == [0, 2, 3, *range(5, 30), 35]
    kept = open(tmp_path / "clean.csv", "rb").read()
    assert set(kept.splitlines()) <= set(before.splitlines())
    assert open(train, "rb").read() == before
    assert counts == {
        "cannot be used": 1, "no letter or digit": 1, "garbled": 1,
        "other labels for the same text": 2, "also in the validation or test data": 1,
        "the text of an earlier row": 1,
    }  # fmt: skip
    lines = [json.loads(line) for line in open(listed)]
    assert len(lines) == 7 and {"place", "why"} <= set(lines[0])


def test_other_formats_and_several_files(tmp_path, train):
    for suffix in ("parquet", "jsonl"):
        convert(train, tmp_path / f"in.{suffix}")
        clean(report(str(tmp_path / f"in.{suffix}")), tmp_path / f"out.{suffix}")
    ids = [*[0], *range(2, 30), 35]
    assert pq.read_table(tmp_path / "out.parquet")["id"].to_pylist() == list(map(str, ids))
    assert [int(json.loads(line)["id"]) for line in open(tmp_path / "out.jsonl")] == ids
    other = write(
        tmp_path / "more.csv", [(text(50), "a", 99), (f"{text(3)},\nand so on", "b", 98)], HEADER
    )
    clean(report([train, other]), tmp_path / "folder")
    assert (tmp_path / "folder" / "more.csv").read_text().endswith(",a,99\n")


def test_rows_in_one_line_are_not_told_apart(tmp_path):
    said = [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]
    (tmp_path / "chat.json").write_text(json.dumps([{"messages": said}] * 3))
    with pytest.raises(DataError, match="Several rows start on one line"):
        clean(report(str(tmp_path / "chat.json")), tmp_path / "clean.json")


def test_the_data_are_never_written_over(tmp_path, train):
    found = report(train)
    with pytest.raises(CommandError, match="also an input file"):
        clean(found, train)
    with pytest.raises(CommandError, match="format of the original"):
        clean(found, tmp_path / "clean.jsonl")


def test_a_page_is_whole_and_escapes_what_is_in_the_data(tmp_path, train):
    page = html_of(report(train), "Report on <data>")
    assert "<script>" not in page and "&lt;script&gt;" in page
    assert not re.search(r"(src|href)=", page) and "http" not in page.replace("http-equiv", "")
    pictures = re.findall(r"<svg.*?</svg>", page, re.DOTALL)
    assert len(pictures) >= 3
    for picture in pictures:
        ElementTree.fromstring(picture)


def test_a_file_in_an_archive_is_converted_first(tmp_path, train):
    with zipfile.ZipFile(tmp_path / "all.zip", "w") as archive:
        archive.write(train, "train.csv")
    with pytest.raises(DataError, match="in an archive") as error:
        clean(report(str(tmp_path / "all.zip")), tmp_path / "clean.csv")
    assert error.value.where == str(tmp_path / "all.zip")
    assert "kerasllm data convert" in error.value.fix


def test_personal_data_of_bad_rows_are_not_listed(tmp_path):
    rows = [
        {
            "messages": [
                {"role": "user", "content": text(1)},
                {"role": "assistant", "content": text(2)},
            ]
        },
        {"messages": [{"role": "ann@example.org", "content": text(3)}]},
    ]
    path = tmp_path / "in.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    _, listed = clean(report(str(path)), tmp_path / "out.jsonl")
    assert "role of message" in listed.read_text() and "ann@" not in listed.read_text()
