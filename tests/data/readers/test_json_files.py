"""Files of JSON: one object a line, lists, keys in capitals, keys that are there twice."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from kerasllm.data.readers.files import find_files
from kerasllm.data.readers.json_files import json_records
from kerasllm.data.readers.sources import Source
from kerasllm.data.readers.whole_rows import WholeRows
from kerasllm.errors import DataError


def read(path, content, **options):
    path.write_text(content)
    source = Source(path, on_bad_row="skip", **options)
    rows = [row for b in source.batches() for row in zip(b.texts, b.labels, strict=True)]
    return rows, source


ROWS = [{"text": "a", "label": "x"}, {"text": "b", "label": "y"}]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("list.json", json.dumps(ROWS)),
        ("indented.json", json.dumps(ROWS, indent=2)),
        ("lines.json", "\n".join(map(json.dumps, ROWS))),
        ("objects.json", "\n".join(json.dumps(row, indent=2) for row in ROWS)),
        ("list.jsonl", json.dumps(ROWS)),
        ("indented.ndjson", "\n" + json.dumps(ROWS, indent=2)),
        ("capitals.jsonl", "\n".join(map(json.dumps, ROWS)).replace("text", "Text")),
        ("shouting.json", json.dumps(ROWS).replace("text", "TEXT").replace("label", "LABEL")),
        ("marked.json", "\ufeff" + json.dumps(ROWS)),
        ("objects.jsonl", "\n".join(json.dumps(row, indent=2) for row in ROWS)),
        ("marked_keys.jsonl", "\n".join(map(json.dumps, ROWS)).replace('"text', '" \ufeffText ')),
    ],
)
def test_objects_are_read_however_they_are_written(tmp_path, name, content):
    found, source = read(tmp_path / name, content)
    assert found == [("a", "x"), ("b", "y")] and not source.bad_row_count
    readings = Source(tmp_path / name, labelled=False).readings
    whole = WholeRows(readings, lambda texts, *_: texts[0])
    assert [(row.input, row.problem) for row in whole] == [("a", None), ("b", None)]


def test_files_whose_keys_differ_in_capitals_go_together(tmp_path):
    for name, key in (("1.jsonl", "text"), ("2.jsonl", "Text"), ("3.json", "TEXT")):
        row = json.dumps({key: name, "label": "x"})
        (tmp_path / name).write_text(f"[{row}]" if name.endswith("n") else row)
    source = Source(sorted(tmp_path.iterdir()))
    assert [text for batch in source.batches() for text in batch.texts] == [
        "1.jsonl",
        "2.jsonl",
        "3.json",
    ]


def test_a_key_that_is_there_twice_is_a_bad_row(tmp_path):
    lines = [
        '{"text": "a", "label": "x"}',
        '{"text": "b", "text": "c", "label": "y"}',
        '{"text": "d", "label": "x", "meta": {"k": 1, "k": 2}}',
        '{"text": "e", "label": "y", "meta": [{"k": 1}, {"k": 2}]}',
    ]
    for name, content in (("a.jsonl", "\n".join(lines)), ("b.json", f"[{','.join(lines)}]")):
        found, source = read(tmp_path / name, content)
        assert found == [("a", "x"), ("e", "y")]
        assert [why for _, _, why in source.bad_rows] == [
            "the key 'text' occurs twice",
            "the key 'k' occurs twice",
        ]
        assert source.bad_row_reasons == {"duplicate key": 2}


def test_bad_rows_are_counted_by_reason(tmp_path):
    lines = [*map(json.dumps, ROWS), "{", "[1]", "{}", '{"text": "", "label": "x"}',
             '{"text": 7, "label": "x"}', '{"text": "c", "label": null}', "nonsense"]  # fmt: skip
    found, source = read(tmp_path / "a.jsonl", "\n".join(lines))
    assert len(found) == 2
    assert source.bad_row_reasons == {
        "not JSON": 2,
        "not an object": 1,
        "missing key": 1,
        "empty text": 1,
        "empty label": 1,
        "text that is not a string": 1,
    }
    with pytest.raises(DataError) as caught:
        list(Source(tmp_path / "a.jsonl").batches())
    assert caught.value.what.startswith("7 rows are bad in ")
    assert ": 2 not JSON, 1 empty label, 1 empty text" in caught.value.what


def test_rows_of_two_shapes_are_counted(tmp_path):
    rows = [*ROWS, {"sentence": "c", "label": "x"}, {"sentence": "d", "label": "y"}]
    found, source = read(tmp_path / "a.jsonl", "\n".join(map(json.dumps, rows)))
    assert len(found) == 2 and source.bad_row_reasons == {"missing key": 2}
    assert "no key 'text' (available keys: 'sentence', 'label')" in source.bad_rows[0]


def test_objects_that_end_in_commas(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text('{"text": "a", "label": 1},\n{"text": "b,", "label": 0}\n{"text": "c"},,\n')
    found = [(line, row) for line, row, problem in json_records(find_files(path, "train")[0])]
    assert found[:2] == [(1, {"text": "a", "label": 1}), (2, {"text": "b,", "label": 0})]
    assert found[2] == (3, None)


def test_objects_as_python_shows_them_are_refused_with_what_converts_them(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rows = [{"text": "it's", "label": None}, {"text": "b", "label": "x"}]
    Path("a.jsonl").write_text("".join(f"{row}\n" for row in rows))
    with pytest.raises(DataError) as error:
        Source("a.jsonl")
    command = error.value.fix.split("`")[1].replace("python ", f"{sys.executable} ", 1)
    subprocess.run(command, shell=True, check=True)
    assert [json.loads(line) for line in Path("json_a.jsonl").read_text().splitlines()] == rows
