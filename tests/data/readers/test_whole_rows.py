"""Whole rows: each row of a file, good or bad, with all its columns."""

import datetime
import json

import pyarrow as pa
import pytest
from pyarrow import parquet

from kerasllm.data.readers.sources import Source
from kerasllm.data.readers.whole_rows import WholeRows
from kerasllm.errors import CommandError, DataError


def whole_rows(*files, keep=None, text=None, text_pair=None):
    source = Source([str(file) for file in files], text=text, text_pair=text_pair, labelled=False)
    return WholeRows(source.readings, lambda texts, *_: tuple(texts), keep)


def kept(rows):
    return [dict(row.kept) for row in rows]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.csv", 'id,text,note\n1,one,"x, y"\n2,,z\n3,three,\n'),
        ("a.tsv", "id\ttext\tnote\n1\tone\tx, y\n2\t\tz\n3\tthree\t\n"),
        (
            "a.jsonl",
            (
                '{"id": "1", "text": "one", "note": "x, y"}\n{"id": "2", "text": "", "note": "z"}\n'
                '{"id": "3", "text": "three", "note": ""}\n'
            ),
        ),
    ],
)
def test_every_row_comes_in_order_with_all_columns(tmp_path, name, content):
    (tmp_path / name).write_text(content)
    rows = list(whole_rows(tmp_path / name))
    assert [row.input for row in rows] == [("one",), None, ("three",)]
    assert [list(row.kept.values()) for row in rows] == [
        ["1", "one", "x, y"],
        ["2", "", "z"],
        ["3", "three", ""],
    ]
    assert rows[1].problem == "the text is empty" and rows[1].number == 1
    assert rows[1].where.endswith(":2" if name == "a.jsonl" else ":3")


def test_rows_of_parquet_keep_values_and_types(tmp_path):
    day = datetime.datetime(2024, 5, 6, 7, 8, 9)
    table = pa.table(
        {
            "id": pa.array([1, 2], pa.int32()),
            "text": ["one", None],
            "at": pa.array([day, None], pa.timestamp("ns")),
            "tags": [["a", "b"], []],
        }
    )
    parquet.write_table(table, tmp_path / "a.parquet")
    found = whole_rows(tmp_path / "a.parquet")
    rows = list(found)
    assert [row.problem for row in rows] == [None, "the text is empty"]
    assert rows[0].kept["tags"] == ["a", "b"] and rows[0].kept["at"].startswith("2024-05-06 07:08")
    survey = found.survey(typed=True)
    assert survey.schema == table.schema and (survey.rows, survey.bad_count) == (2, 1)


def test_a_row_that_cannot_be_read_is_a_row(tmp_path):
    (tmp_path / "a.jsonl").write_bytes(b'{"text": "one"}\n{"text": \n{"other": 1}\n{"text": 5}\n')
    rows = list(whole_rows(tmp_path / "a.jsonl"))
    assert [row.problem is None for row in rows] == [True, False, False, False]
    assert "not JSON" in rows[1].problem and "no key 'text'" in rows[2].problem
    assert rows[2].kept == {"other": 1} and "the text is a number" in rows[3].problem


def test_a_row_of_the_wrong_length_keeps_what_it_has(tmp_path):
    (tmp_path / "a.csv").write_text("id,text,note\n1,one,x\n2,two\n3,three,x,y\n4,four,x\n")
    rows = list(whole_rows(tmp_path / "a.csv"))
    assert [row.kept["id"] for row in rows] == ["1", "2", "3", "4"]
    assert [row.problem is None for row in rows] == [True, False, False, True]
    assert rows[1].kept == {"id": "2", "text": "two", "note": ""} and rows[1].input is None


def test_keys_that_come_late_are_columns_and_types_are_common(tmp_path):
    lines = [{"text": "a", "n": 1, "mixed": 1}] * 200
    lines += [{"text": "a", "n": 0.5, "mixed": "x", "late": True, "empty": None, "o": {}}]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    survey = whole_rows(tmp_path / "a.jsonl").survey(typed=True)
    assert list(survey.columns) == ["text", "n", "mixed", "late", "empty", "o"]
    kinds = [pa.string(), pa.float64(), pa.string(), pa.bool_(), pa.string(), pa.string()]
    assert survey.schema.types == kinds


def test_columns_are_kept_as_asked_for(tmp_path):
    (tmp_path / "a.csv").write_text("id,text,x,x,\n1,one,2,3,4\n")
    assert kept(whole_rows(tmp_path / "a.csv")) == [
        {"id": "1", "text": "one", "x": "2", "x_2": "3", "column_4": "4"}
    ]
    assert kept(whole_rows(tmp_path / "a.csv", keep=["x", "id"])) == [{"x": "2", "id": "1"}]
    with pytest.raises(CommandError, match="no column 'idd'") as refused:
        whole_rows(tmp_path / "a.csv", keep=["idd"])
    assert "did you mean id?" in refused.value.fix


def test_a_table_without_a_header_and_a_text_file(tmp_path):
    (tmp_path / "a.csv").write_text("1,one\n2,two\n")
    found = whole_rows(tmp_path / "a.csv", text="1")
    assert [row.input for row in found] == [("one",), ("two",)]
    assert kept(found)[1] == {"column_0": "2", "column_1": "two"}
    (tmp_path / "a.txt").write_text("one\n\ntwo\n")
    lines = whole_rows(tmp_path / "a.txt")
    assert [row.input for row in lines] == [("one",), None, ("two",)]
    assert not lines.has_columns and kept(lines) == [{}, {}, {}]


def test_rows_can_be_read_from_a_number_on(tmp_path):
    (tmp_path / "a.csv").write_text("text\none\ntwo\n")
    (tmp_path / "b.csv").write_text("id,text\n3,three\n")
    found = whole_rows(tmp_path / "a.csv", tmp_path / "b.csv")
    assert [(row.number, row.input[0]) for row in found.after(1)] == [(1, "two"), (2, "three")]
    assert found.survey().columns == ["text", "id"]


def test_files_without_a_good_row_are_refused(tmp_path):
    (tmp_path / "a.csv").write_text("text,n\n ,1\n,2\n")
    with pytest.raises(DataError, match="all 2 are bad"):
        whole_rows(tmp_path / "a.csv").survey().refuse(any_bad=False, description="text 'text'")


def test_lines_that_are_no_rows_are_told(tmp_path):
    (tmp_path / "a.csv").write_text("id,text\n1,one\n,\nid,text\n2,two\n,\n")
    rows = whole_rows(tmp_path / "a.csv")
    assert [row.kept["id"] for row in rows] == ["1", "2"]
    # Each pass counts again.
    rows.survey()
    assert rows.survey().left_out == [
        f"rows without a value left out: 2, the first at {tmp_path}/a.csv:3",
        f"lines that repeat the header left out: 1, the first at {tmp_path}/a.csv:4",
    ]


@pytest.mark.parametrize("suffix", ["jsonl", "parquet"])
def test_a_text_may_be_a_field_of_a_column(tmp_path, suffix):
    rows = [{"id": 1, "review": {"body": "one", "stars": 5}}, {"id": 2, "review": {"body": ""}}]
    file = tmp_path / f"a.{suffix}"
    if suffix == "parquet":
        parquet.write_table(pa.Table.from_pylist(rows), file)
    else:
        file.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    found = list(whole_rows(file, text="review.body"))
    assert [row.input for row in found] == [("one",), None]
    assert found[0].kept["review"] == {"body": "one", "stars": 5}
    labelled = Source(str(file), text="review.body", label="review.stars", on_bad_row="skip")
    [batch] = labelled.batches()
    assert (batch.texts, batch.labels, labelled.bad_row_count) == (["one"], ["5"], 1)
