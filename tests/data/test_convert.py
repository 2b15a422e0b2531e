"""Converted data: the rows that were read, all of them, in another format."""

import csv
import gzip
import json
from datetime import date

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from kerasllm.data.convert import convert
from kerasllm.errors import CommandError, DataError

ROWS = [
    {"text": 'said "no",\nand went', "label": "a", "id": 1},
    {"text": "café 😀\ttab", "label": "b", "id": 2},
    {"text": "", "label": "b", "id": 3},
    {"text": " spaces ", "label": "a", "id": 40},
]


def write(path, rows=ROWS):
    if path.suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(rows), path)
    elif path.suffix == ".csv":
        with open(path, "w", newline="") as file:
            writer = csv.DictWriter(file, rows[0])
            writer.writeheader()
            writer.writerows(rows)
    else:
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def read(path):
    if path.suffix == ".parquet":
        return pq.read_table(path).to_pylist()
    opened = gzip.open(path, "rt", newline="") if path.suffix == ".gz" else open(path, newline="")
    with opened as file:
        if ".csv" in path.name:
            return list(csv.DictReader(file))
        return [json.loads(line) for line in file]


@pytest.mark.parametrize("source", ["in.csv", "in.jsonl", "in.parquet"])
@pytest.mark.parametrize(
    "target", ["out.csv", "out.jsonl", "out.parquet", "out.csv.gz", "out.jsonl.gz"]
)
def test_every_format_into_every_other(tmp_path, source, target):
    done = convert(write(tmp_path / source), tmp_path / target)
    assert (done.rows, done.columns, done.skipped) == (4, ("text", "label", "id"), 0)
    found = [{name: str(value) for name, value in row.items()} for row in read(tmp_path / target)]
    assert found == [{name: str(value) for name, value in row.items()} for row in ROWS]
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([source, target])


def test_conversations_keep_their_shape(tmp_path):
    rows = [{"messages": [{"role": "user", "content": "hi"},
                          {"role": "assistant", "content": "yes", "weight": 0}]},
            {"messages": [{"role": "user", "content": "x"}], "id": 7}]  # fmt: skip
    convert(write(tmp_path / "chat.jsonl", rows), tmp_path / "chat.parquet")
    convert(str(tmp_path / "chat.parquet"), tmp_path / "again.jsonl")
    assert [row["messages"][0] for row in read(tmp_path / "again.jsonl")] == [
        {"role": "user", "content": "hi", "weight": None},
        {"role": "user", "content": "x", "weight": None},
    ]


def test_text_files_are_a_row_each_or_a_row_a_line(tmp_path):
    (tmp_path / "a.txt").write_text("one\ntwo\n")
    (tmp_path / "b.txt").write_text("three\n")
    files = [str(tmp_path / "a.txt"), str(tmp_path / "b.txt")]
    convert(files, tmp_path / "whole.jsonl")
    assert read(tmp_path / "whole.jsonl") == [{"text": "one\ntwo\n"}, {"text": "three\n"}]
    assert convert(files, tmp_path / "lines.jsonl", lines=True).rows == 3


def test_columns_are_chosen_and_files_without_a_header_numbered(tmp_path):
    convert(write(tmp_path / "in.csv"), tmp_path / "out.jsonl", columns=["label", "text"])
    assert list(read(tmp_path / "out.jsonl")[0]) == ["label", "text"]
    with pytest.raises(DataError, match="no column 'body'"):
        convert(str(tmp_path / "in.csv"), tmp_path / "out.jsonl", columns=["body"])
    (tmp_path / "plain.tsv").write_text("1\tgood film\n0\tdull film\n1\ta great one\n")
    convert(str(tmp_path / "plain.tsv"), tmp_path / "plain.jsonl")
    assert read(tmp_path / "plain.jsonl")[1] == {"column_0": "0", "column_1": "dull film"}


def test_rows_that_cannot_be_read_are_refused_or_counted(tmp_path):
    (tmp_path / "in.jsonl").write_text('{"text": "a"}\nnot json\n{"text": "b"}\n')
    with pytest.raises(DataError, match="1 row cannot be read"):
        convert(str(tmp_path / "in.jsonl"), tmp_path / "out.csv")
    assert not (tmp_path / "out.csv").exists()
    done = convert(str(tmp_path / "in.jsonl"), tmp_path / "out.csv", on_bad_row="skip")
    assert (done.rows, done.skipped, done.bad_rows[0][1]) == (2, 1, 2)


def test_what_a_format_cannot_hold_is_refused(tmp_path):
    rows = [{"text": "a", "label": 1}, {"text": "b", "label": "one"}]
    with pytest.raises(DataError, match="values of several types"):
        convert(write(tmp_path / "in.jsonl", rows), tmp_path / "out.parquet")
    for value in ({}, 2**70):
        write(tmp_path / "in.jsonl", [{"text": "a", "more": value}])
        with pytest.raises(DataError, match="Parquet cannot hold it"):
            convert(str(tmp_path / "in.jsonl"), tmp_path / "out.parquet")
    write(tmp_path / "in.parquet", [{"text": "a", "image": {"bytes": b"\xff"}}])
    for target in ("out.jsonl", "out.csv"):
        with pytest.raises(DataError, match="bytes"):
            convert(str(tmp_path / "in.parquet"), tmp_path / target)
        assert convert(str(tmp_path / "in.parquet"), tmp_path / target, columns=["text"]).rows
    with pytest.raises(CommandError, match="also an input file"):
        convert(str(tmp_path / "in.jsonl"), tmp_path / "in.jsonl")
    with pytest.raises(CommandError, match="suffix"):
        convert(str(tmp_path / "in.jsonl"), tmp_path / "out.xlsx")


@pytest.mark.parametrize("target", ["out.jsonl", "out.csv", "out.parquet"])
def test_half_a_character_makes_a_bad_row(tmp_path, target):
    source = write(tmp_path / "in.jsonl", [{"text": "a\ud83d"}, {"text": "b"}])
    with pytest.raises(DataError, match="1 row cannot be read") as error:
        convert(source, tmp_path / target)
    assert "half a character" in error.value.where
    assert convert(source, tmp_path / target, on_bad_row="skip").skipped == 1


def test_long_texts_are_converted(tmp_path):
    source = write(tmp_path / "in.jsonl", [{"text": "word " * 30_000}])
    before = csv.field_size_limit(131_072)
    try:
        convert(source, tmp_path / "out.csv")
        assert read(tmp_path / "out.csv") == [{"text": "word " * 30_000}]
    finally:
        csv.field_size_limit(before)


def test_no_column_is_lost(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("text,label,label\na,1,2\n")
    with pytest.raises(DataError, match="names the column 'label' 2 times"):
        convert(str(path), tmp_path / "b.jsonl")
    # As a spreadsheet writes empty columns, one of which is not all empty.
    path.write_text("v1,v2,,\nham,ok,,\nspam,now,more,\n")
    convert(str(path), tmp_path / "b.jsonl")
    assert read(tmp_path / "b.jsonl") == [
        {"v1": "ham", "v2": "ok"},
        {"v1": "spam", "v2": "now", "column_2": "more"},
    ]


def test_a_header_of_other_names_is_no_row(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("v1,v2\nham,ok\nspam,now\n")
    assert convert(str(path), tmp_path / "b.jsonl", columns=["v2"]).rows == 2
    assert read(tmp_path / "b.jsonl") == [{"v2": "ok"}, {"v2": "now"}]


def test_an_empty_table_is_refused_and_a_new_folder_is_made(tmp_path):
    (tmp_path / "a.csv").touch()
    with pytest.raises(DataError, match="The file is empty"):
        convert(str(tmp_path / "a.csv"), tmp_path / "b.jsonl")
    assert convert(write(tmp_path / "in.csv"), tmp_path / "new" / "b.jsonl").rows == 4


def test_the_types_of_columns_are_kept(tmp_path):
    table = pa.table(
        {
            "id": pa.array([1, 2, None], pa.int32()),
            "label": pa.array([0, 1, 1], pa.int8()),
            "score": pa.array([0.1, 2.0, None], pa.float32()),
            "day": pa.array([date(2026, 1, 2)] * 3, pa.date32()),
            "kind": pa.array(["a", "b", "a"], pa.dictionary(pa.int32(), pa.string())),
            "tags": pa.array([["x"], [], None], pa.list_(pa.large_string())),
            "text": ["one", "two", "three"],
        }
    )
    names = {
        b"huggingface": b'{"info": {"features": {"label": {"names": ["neg", "pos"], '
        b'"_type": "ClassLabel"}}}}'
    }
    table = table.replace_schema_metadata(names)
    pq.write_table(table, tmp_path / "a.parquet")
    convert(tmp_path / "a.parquet", tmp_path / "b.parquet")
    written = pq.read_table(tmp_path / "b.parquet")
    assert written.equals(pq.read_table(tmp_path / "a.parquet"), check_metadata=True)
    convert(tmp_path / "a.parquet", tmp_path / "c.parquet", columns=["text", "label"])
    assert pq.read_schema(tmp_path / "c.parquet").field("label").type == pa.int8()
    convert(tmp_path / "a.parquet", tmp_path / "a.jsonl")
    rows = [json.loads(line) for line in (tmp_path / "a.jsonl").read_text().splitlines()]
    assert [(row["id"], row["score"]) for row in rows] == [(1, 0.1), (2, 2.0), (None, None)]


def test_numbers_stay_what_they_are(tmp_path):
    rows = [
        {"id": 7, "score": 4.0, "big": 2**53 + 1, "text": "1.0", "flag": True},
        {"id": 8, "score": 0.5, "big": None, "text": "002", "flag": False},
    ]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    convert(tmp_path / "a.jsonl", tmp_path / "a.csv")
    assert (tmp_path / "a.csv").read_text() == (
        "id,score,big,text,flag\n7,4.0,9007199254740993,1.0,true\n8,0.5,,002,false\n"
    )
    convert(tmp_path / "a.jsonl", tmp_path / "a.parquet")
    types = pq.read_schema(tmp_path / "a.parquet").types
    assert types == [pa.int64(), pa.float64(), pa.int64(), pa.string(), pa.bool_()]
    convert(tmp_path / "a.parquet", tmp_path / "b.jsonl")
    assert [json.loads(line) for line in (tmp_path / "b.jsonl").read_text().splitlines()] == rows
