"""Broken files: each is reported with its line, and what can be read after it is."""

import gzip
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from kerasllm.data.readers import dialects, text_lines
from kerasllm.data.readers.sources import Source
from kerasllm.errors import DataError


def bad_rows(path, content, **arguments):
    """Good labels, and line and reason of each bad row."""
    path.write_bytes(content)
    source = Source(path, on_bad_row="skip", **arguments)
    labels = [label for batch in source.batches() for label in batch.labels]
    return labels, [(line, why) for _, line, why in source.bad_rows]


def refusal(path, content=None, **arguments):
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(DataError) as caught:
        list(Source(path, on_bad_row="skip", **arguments).batches())
    return caught.value


# Bytes


@pytest.mark.parametrize("suffix", ["csv", "jsonl", "txt"])
def test_broken_utf8_is_reported_with_line_and_column(tmp_path, suffix):
    good, bad = {
        "csv": ("text,label\nå,1\n", b"\xc3\xa5 caf\xe9,2\n"),
        "jsonl": ('{"text": "å", "label": 1}\n', b'{"text": "caf\xe9", "label": 2}\n'),
        "txt": ("å\n", b"\xc3\xa5 caf\xe9\n"),
    }[suffix]
    path = tmp_path / f"data.{suffix}"
    path.write_bytes(good.encode() + bad + good.encode().splitlines()[-1])
    source = Source(path, labelled=suffix != "txt", on_bad_row="skip")
    assert sum(map(len, source.batches())) == 2
    line = good.count("\n") + 1
    column, byte = (14, 14) if suffix == "jsonl" else (6, 7)
    assert source.bad_rows == [
        (str(path), line, f"byte 0xe9 at column {column} (byte {byte} of the line) is not UTF-8")
    ]


def test_a_broken_byte_in_a_row_of_many_lines(tmp_path):
    content = b'text,label\n"one\ntwo \xff\nthree",1\nb,2\n'
    labels, bad = bad_rows(tmp_path / "data.csv", content)
    assert labels == ["2"]
    assert bad == [(3, "byte 0xff at column 5 (byte 5 of the line) is not UTF-8")]


def test_a_character_cut_at_the_end_of_the_file(tmp_path):
    labels, bad = bad_rows(tmp_path / "data.csv", "text,label\na,1\nb,å".encode()[:-1])
    assert labels == ["1"] and bad[0][0] == 3


def test_columns_do_not_count_the_byte_order_mark(tmp_path):
    path = tmp_path / "data.txt"
    path.write_bytes(b"\xef\xbb\xbfab\xff\nfine\n")
    source = Source(path, labelled=False, on_bad_row="skip")
    assert [batch.texts for batch in source.batches()] == [["fine"]]
    assert "column 3 (byte 6 of the line)" in source.bad_rows[0][2]


def test_nul_bytes_are_reported(tmp_path):
    labels, bad = bad_rows(tmp_path / "data.csv", b"text,label\na,1\nb\0c,2\nd,3\n")
    assert labels == ["1", "3"] and bad == [(3, "a NUL byte at column 2")]


def test_a_broken_header_is_refused(tmp_path):
    error = refusal(tmp_path / "data.csv", b"text\xff,label\na,1\n")
    assert "header" in error.what and "0xff" in error.what and error.where.endswith("data.csv:1")


@pytest.mark.parametrize(
    ("content", "what"),
    [
        ("text,label\na,1\n".encode("utf-16"), "UTF-16"),
        (gzip.compress(b"text,label\na,1\n", mtime=0), "gzip-compressed"),
        (b"PK\x03\x04....", "spreadsheet"),
        (b"PAR1....PAR1", "Parquet"),
    ],
)
def test_a_file_that_is_something_else(tmp_path, content, what):
    assert what in refusal(tmp_path / "data.csv", content).what


def test_an_endless_line_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(text_lines, "LONGEST", 1000)
    error = refusal(tmp_path / "data.csv", b"text,label\na,1\n" + b"b" * 2000 + b",2\n")
    assert "A line is longer" in error.what and error.where.endswith("data.csv:3")


# gzip


@pytest.mark.parametrize("suffix", ["csv.gz", "jsonl.gz", "txt.gz"])
def test_a_gzip_file_that_is_cut_short(tmp_path, suffix):
    row = '{"text": "a", "label": 1}\n' if "json" in suffix else "a,1\n"
    head = "text,label\n" if "csv" in suffix else ""
    content = gzip.compress((head + row * 50_000).encode())
    error = refusal(tmp_path / f"d.{suffix}", content[:-100], labelled="txt" not in suffix)
    assert "truncated or damaged" in error.what and "after line" in error.where


def test_a_gzip_file_that_is_damaged(tmp_path):
    content = bytearray(gzip.compress(b"text,label\n" + b"a,1\n" * 1000))
    content[-6] ^= 0xFF
    assert "CRC" in refusal(tmp_path / "data.csv.gz", bytes(content)).what
    assert "not gzip-compressed" in refusal(tmp_path / "data.csv.gz", b"text,label\na,1\n").what


# csv


def test_rows_with_too_few_or_too_many_fields(tmp_path):
    content = b"text,label\na,1\nb\nc,2,3\nd,4\n"
    labels, bad = bad_rows(tmp_path / "data.csv", content)
    assert labels == ["1", "4"]
    assert bad == [
        (3, "1 field, where the header names 2"),
        (4, "3 fields, where the header names 2"),
    ]


def test_a_quote_that_is_never_closed(tmp_path):
    error = refusal(tmp_path / "data.csv", b'text,label\na,1\n"b,2\nc,3\n')
    assert "never closed" in error.what and error.where.endswith("data.csv:3")


def test_a_quote_that_swallows_more_than_fits(tmp_path, monkeypatch):
    import csv

    monkeypatch.setattr(dialects, "LONGEST", 1 << 18)
    before = csv.field_size_limit(1)
    try:
        error = refusal(tmp_path / "data.csv", b'text,label\na,1\n"b,2\n' + b"c,3\n" * 100_000)
    finally:
        csv.field_size_limit(before)
    assert "never closed" in error.what and error.where.endswith("data.csv:3")


def test_a_quote_that_is_closed_rows_later(tmp_path):
    content = b'text,label\n"a,1\nb,2\nc,"3"\nd,4\n'
    labels, bad = bad_rows(tmp_path / "data.csv", content)
    assert labels == ["4"]
    assert bad[0][0] == 2 and "ends in line 4: is a quote left open?" in bad[0][1]


def test_text_after_a_quote_and_lone_carriage_returns(tmp_path):
    content = b'text,label\n"a" b,1\n5" disk,2\na\rb,3\n"c\rd",4\n'
    labels, bad = bad_rows(tmp_path / "data.csv", content)
    assert labels == ["2", "4"]
    assert [line for line, _ in bad] == [2, 4]
    assert "after a closing quote" in bad[0][1] and "carriage return" in bad[1][1]


@pytest.mark.parametrize("suffix", ["csv", "tsv", "jsonl", "ndjson", "csv.gz"])
@pytest.mark.parametrize("content", [b"", b"\n", b"\xef\xbb\xbf\n \n"])
def test_a_file_with_nothing_in_it(tmp_path, suffix, content):
    if suffix.endswith(".gz"):
        content = gzip.compress(content)
    assert refusal(tmp_path / f"data.{suffix}", content).what == "The file is empty"


@pytest.mark.parametrize("name", ["data.txt", "data.parquet", "data.csv.gz"])
def test_a_file_without_a_byte(tmp_path, name):
    assert refusal(tmp_path / name, b"", labelled=name != "data.txt").what == "The file is empty"


def test_a_header_without_rows(tmp_path):
    what = "The file has a header, but no rows"
    assert refusal(tmp_path / "data.csv", b"text,label\n\n").what == what
    pq.write_table(pa.table({"text": pa.array([], "string"), "label": []}), tmp_path / "d.parquet")
    assert refusal(tmp_path / "d.parquet").what == what


@pytest.mark.parametrize("suffix", ["csv", "tsv", "jsonl", "parquet", "csv.gz"])
def test_empty_parts_are_left_out_and_named(tmp_path, suffix):
    """As Spark writes them, and distributed jobs that had no rows for a process."""
    for number, rows in enumerate([[], [("a", "x"), ("b", "y")], []]):
        part = tmp_path / f"part-{number}.{suffix}"
        if suffix == "parquet":
            texts, labels = zip(*rows) if rows else (pa.array([], "string"),) * 2
            pq.write_table(pa.table({"text": texts, "label": labels}), part)
            continue
        separator = "\t" if suffix == "tsv" else ","
        lines = [separator.join(row) for row in rows]
        if suffix == "jsonl":
            lines = [f'{{"text": "{text}", "label": "{label}"}}' for text, label in rows]
        # The first part is without a byte, the last has a header.
        elif number:
            lines.insert(0, separator.join(["text", "label"]))
        content = "".join(f"{line}\n" for line in lines).encode()
        part.write_bytes(gzip.compress(content) if suffix.endswith(".gz") else content)
    source = Source(tmp_path)
    assert [batch.texts for batch in source.batches()] == [["a", "b"]]
    assert source.files == (str(tmp_path / f"part-1.{suffix}"),)
    (remark,) = source.remarks
    assert remark.startswith("2 empty files were left out") and f"part-0.{suffix}" in remark
    assert source.fingerprint == Source(tmp_path / f"part-1.{suffix}").fingerprint


# jsonl


def test_malformed_json_lines(tmp_path):
    content = b"\n".join(
        [
            b'{"text": "a", "label": 1}', b'{"text": "b", "label": ', b"", b"[1, 2]", b'"c"',
            b'{"text": "d", "label": 2} trailing', b'{"Text": "e", "label": 3}', b"[" * 100_000,
            b'{"text": "f", "label": 4}',
        ]
    )  # fmt: skip
    labels, bad = bad_rows(tmp_path / "data.jsonl", content)
    assert labels == ["1", "4"]
    assert [line for line, _ in bad] == [2, 4, 5, 6, 7, 8]
    reasons = [why for _, why in bad]
    assert reasons[0] == "not JSON: Expecting value at column 23"
    assert reasons[1] == "a list, where a JSON object is expected"
    assert reasons[2] == "a string, where a JSON object is expected"
    assert reasons[3].startswith("not JSON: Extra data")
    assert reasons[4] == "no key 'text' (available keys: 'Text', 'label')"


@pytest.mark.parametrize(
    "content",
    [
        b'[\n {\n  "text": "a",\n  "label": 1\n },\n {"text": "b", "label": 2}\n]\n',
        b'\n[{"text": "a", "label": 1}, {"text": "b", "label": 2}]',
        b'{"text": "a", "label": 1}\n{"text": "b", "label": 2}\n',
    ],
)
@pytest.mark.parametrize("suffix", ["json", "jsonl", "json.gz"])
def test_a_list_of_objects_is_read_under_any_name(tmp_path, content, suffix):
    content = gzip.compress(content) if suffix.endswith("gz") else content
    assert bad_rows(tmp_path / f"data.{suffix}", content) == (["1", "2"], [])


def test_lists_without_objects_are_refused(tmp_path):
    error = refusal(tmp_path / "data.jsonl", b'["a", 1]\n["b", 2]\n')
    assert "a list, where a JSON object is expected" in error.what
    assert error.where.endswith("data.jsonl:1") and "one object a line" in error.fix
    error = refusal(tmp_path / "data.json", b'[{"text": "a", "label": 1},\n{"text": "b"')
    assert "not JSON from here on" in error.what and error.where.endswith("data.json:2")
    error = refusal(tmp_path / "data.json", b'[{"text": "a", "label": 1}]\n[]\n')
    assert "more text after the end of the list" in error.what and error.where.endswith(
        "data.json:2"
    )


# parquet


def test_nulls_and_broken_utf8_in_parquet(tmp_path):
    content = pa.py_buffer(b"ok\xffzfine")
    offsets = pa.py_buffer(b"".join(n.to_bytes(4, "little") for n in (0, 2, 4, 8)))
    broken = pa.StringArray.from_buffers(3, offsets, content)
    text = pa.chunked_array([broken, pa.array([None, "end"])])
    path = tmp_path / "data.parquet"
    pq.write_table(pa.table({"text": text, "label": [1, 2, 3, 4, None]}), path)
    source = Source(path, on_bad_row="skip")
    (batch,) = source.batches()
    assert (batch.texts, batch.labels, batch.lines.tolist()) == (["ok", "fine"], ["1", "3"], [1, 3])
    assert source.bad_rows == [
        (str(path), 2, "byte 0xff at column 1 (byte 1 of the line) is not UTF-8"),
        (str(path), 4, "the text is empty"),
        (str(path), 5, "the label is empty"),
    ]


def test_rows_are_numbered_across_row_groups(tmp_path):
    path = tmp_path / "data.parquet"
    texts = [f"row {n}" for n in range(1, 20_001)]
    pq.write_table(pa.table({"text": texts, "label": texts}), path, row_group_size=7000)
    batches = list(Source(path, problem="single_label").batches(rows=3000))
    assert [text for batch in batches for text in batch.texts] == texts
    assert all(f"row {n}" == text for b in batches for n, text in zip(b.lines, b.texts))


def test_a_parquet_file_that_is_broken(tmp_path):
    path = tmp_path / "data.parquet"
    texts = [f"text {n}" for n in range(5000)]
    pq.write_table(pa.table({"text": texts, "label": texts}), path)
    content = path.read_bytes()
    assert "truncated" in refusal(path, content[:-100]).what
    assert "not Parquet" in refusal(path, b"text,label\na,1\n").what
    error = refusal(path, content[:4] + bytes(2000) + content[2004:])
    assert "damaged" in error.what and "after row" in error.where
    packed = tmp_path / "data.parquet.gz"
    assert "compressed inside" in refusal(packed, gzip.compress(content)).fix


# Files that are something else


POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n"
PAGE = b"\n<!DOCTYPE html>\n<html><head><title>Sign in</title></head></html>\n"
DENIED = b'<?xml version="1.0"?>\n<Error><Code>AccessDenied</Code></Error>\n'


@pytest.mark.parametrize("suffix", ["csv", "tsv", "jsonl", "json", "parquet", "csv.gz"])
@pytest.mark.parametrize(
    ("content", "what", "fix"),
    [(POINTER, "a git-lfs pointer", "git lfs pull"), (PAGE, "a web page", "/resolve/"),
     (DENIED, "a web page (XML)", "download the data itself")],
)  # fmt: skip
def test_pages_and_pointers_are_named(tmp_path, suffix, content, what, fix):
    content = gzip.compress(content) if suffix.endswith("gz") else content
    error = refusal(tmp_path / f"data.{suffix}", content)
    assert what in error.what and fix in error.fix


def test_pages_are_texts_where_texts_are_asked_for(tmp_path):
    (tmp_path / "page.txt").write_bytes(PAGE)
    (tmp_path / "pointer.txt").write_bytes(POINTER)
    assert sum(map(len, Source(tmp_path / "page.txt", labelled=False, on_bad_row="skip").batches()))
    assert "git-lfs" in refusal(tmp_path / "pointer.txt", labelled=False).what


def test_annotations_that_were_rejected_are_no_labels(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rows = [
        {
            "text": f"text {n}",
            "label": "AB"[n % 2],
            "answer": "reject" if n == 3 else "accept",
            "_task_hash": n,
        }
        for n in range(6)
    ]
    Path("a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.raises(DataError, match="not all were accepted: 1 reject") as error:
        Source("a.jsonl")
    command = error.value.fix.split("`")[1]
    assert command == "jq -c 'select(.answer == \"accept\")' a.jsonl > accepted.jsonl"
    Path("accepted.jsonl").write_text(
        "".join(json.dumps(row) + "\n" for row in rows if row["answer"] == "accept")
    )
    assert sum(map(len, Source("accepted.jsonl").batches())) == 5
    assert sum(map(len, Source("a.jsonl", labelled=False).batches())) == 6
