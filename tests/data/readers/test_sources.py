"""What a source reads: formats, columns, labels, bad rows, fingerprints."""

import csv
import gzip
import json
import subprocess
import sys

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kerasllm.data.label_cells import label_text
from kerasllm.data.label_forms import visible
from kerasllm.data.readers.sources import Source
from kerasllm.errors import DataError

ROWS = [("a fine film", "1"), ('she said "no", twice', "0"), ("två\nrader\r\n", "1"), ("x", "0")]


def write(path, rows, columns=("text", "label"), newline="\r\n"):
    """Writes rows in the format of the path's suffix; returns the line of each row."""
    suffixes = path.suffixes
    if suffixes[0] == ".parquet":
        pq.write_table(pa.table(dict(zip(columns, map(list, zip(*rows))))), path)
        return list(range(1, len(rows) + 1))
    opener = gzip.open if suffixes[-1] == ".gz" else open
    lines = []
    with opener(path, "wt", encoding="utf-8", newline="") as file:
        if suffixes[0] == ".tsv":
            lines = list(range(2, len(rows) + 2))
            file.write("".join("\t".join(row) + newline for row in (columns, *rows)))
        elif suffixes[0] == ".csv":
            writer = csv.writer(
                file,
                lineterminator=newline,
                quoting=csv.QUOTE_ALL if newline == "\n" else csv.QUOTE_MINIMAL,
            )
            line = 2
            writer.writerow(columns)
            for row in rows:
                lines.append(line)
                writer.writerow(row)
                line += 1 + sum(field.count("\n") for field in row)
        else:
            for line, row in enumerate(rows, start=1):
                lines.append(line)
                record = dict(zip(columns, row))
                file.write(json.dumps(record, ensure_ascii=bool(line % 2)) + "\n")
    return lines


def read(source):
    """Texts with labels, and lines."""
    batches = list(source.batches())
    texts = [text for batch in batches for text in batch.texts]
    labels = [label for batch in batches for label in batch.labels or [None] * len(batch)]
    return list(zip(texts, labels)), [int(line) for batch in batches for line in batch.lines]


def refusal(path, **arguments):
    """The message of the error that reading the file ends with."""
    with pytest.raises(DataError) as caught:
        list(Source(path, **arguments).batches())
    return str(caught.value)


FORMATS = ["csv", "csv.gz", "tsv", "tsv.gz", "jsonl", "jsonl.gz", "ndjson", "parquet"]


@pytest.mark.parametrize("suffix", FORMATS)
def test_every_format_gives_the_same_rows(tmp_path, suffix):
    path = tmp_path / f"data.{suffix}"
    rows = [(" ".join(text.split()), label) for text, label in ROWS] if "tsv" in suffix else ROWS
    lines = write(path, rows)
    source = Source(path)
    assert source.files == (str(path),)
    assert (source.text_column, source.label_column) == ("text", "label")
    assert read(source) == (rows, lines)
    assert read(source) == (rows, lines), "a source can be read again"


# A byte-order mark that begins a line is no part of its text.
text_values = st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters="\0\ufeff")
).filter(lambda text: text and not text.isspace())
# True and false are one label however they are written, and these mean that there is none.
_OTHERWISE = "true false nan n/a na null none nil - ? <na> #n/a".split()
label_values = text_values.map(str.strip).filter(
    lambda label: label_text(label) == label and visible(label) and label.lower() not in _OTHERWISE
)
line_values = text_values.map(lambda text: " ".join(text.splitlines()).replace("\t", " ")).filter(
    str.strip
)


@pytest.mark.parametrize("suffix", ["csv", "csv.gz", "jsonl", "jsonl.gz", "parquet"])
@given(
    rows=st.lists(st.tuples(text_values, label_values), min_size=1, max_size=12),
    newline=st.sampled_from(["\n", "\r\n"]),
    batch=st.integers(1, 5),
)
@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_any_rows_come_back_with_their_lines(tmp_path, suffix, rows, newline, batch):
    path = tmp_path / f"data.{suffix}"
    lines = write(path, rows, newline=newline)
    batches = list(Source(path, problem="single_label").batches(rows=batch))
    assert [pair for b in batches for pair in zip(b.texts, b.labels, strict=True)] == rows
    assert np.concatenate([b.lines for b in batches]).tolist() == lines
    assert all(b.lines.dtype == np.int64 and 1 <= len(b) <= batch for b in batches)


@given(
    rows=st.lists(st.tuples(line_values, line_values, st.sampled_from("ab")), min_size=1),
    newline=st.sampled_from(["\n", "\r\n"]),
)
@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_a_tsv_has_no_quotes(tmp_path, rows, newline):
    path = tmp_path / "data.tsv"
    lines = write(path, rows, ("premise", "hypothesis", "label"), newline)
    batches = list(Source(path, text_pair="auto").batches())
    found = [row for b in batches for row in zip(b.texts, b.pairs, b.labels, strict=True)]
    assert found == rows and np.concatenate([b.lines for b in batches]).tolist() == lines


def test_a_tsv_that_was_written_with_quotes_is_pointed_out(tmp_path):
    path = tmp_path / "data.tsv"
    path.write_text('text\tlabel\n"two\nlines"\t1\na "stray\t0\n"one"\t1\n')
    assert "1 field, where the header names 2 (this .tsv is read without quot" in refusal(path)


@pytest.mark.parametrize("suffix", ["txt", "txt.gz"])
def test_txt_is_a_text_a_line(tmp_path, suffix):
    path = tmp_path / f"data.{suffix}"
    opener = gzip.open if suffix.endswith("gz") else open
    with opener(path, "wb") as file:
        file.write('\ufeffone, "two"\r\n  three\nfour'.encode())
    source = Source(path, labelled=False)
    (batch,) = source.batches()
    assert batch.texts == ['one, "two"', "  three", "four"]
    assert batch.labels is None
    assert batch.lines.tolist() == [1, 2, 3]
    assert source.text_column is None and source.label_column is None


def test_txt_has_no_labels(tmp_path):
    path = tmp_path / "data.txt"
    path.write_text("one\n")
    assert "texts without labels" in refusal(path)


def test_a_byte_order_mark_and_blank_lines_are_no_part_of_a_csv(tmp_path):
    path = tmp_path / "data.csv"
    path.write_bytes(b"\xef\xbb\xbf\ntext,label\n\na,1\n\n\nb,0\n")
    assert read(Source(path)) == ([("a", "1"), ("b", "0")], [4, 7])


def test_long_texts_make_short_batches(tmp_path):
    path = tmp_path / "data.csv"
    write(path, [("long " * 1_800_000, "1")] * 3)
    assert [len(batch) for batch in Source(path).batches()] == [2, 1]


def test_a_field_may_be_longer_than_python_allows_by_default(tmp_path):
    path = tmp_path / "data.csv"
    text = "word " * 100_000
    write(path, [(text, "1")])
    assert read(Source(path))[0] == [(text, "1")]


# Labels


@pytest.mark.parametrize(
    ("value", "label"),
    [
        (1, "1"), ("1", "1"), (" 1.0 ", "1"), (1.0, "1"), (-2.0, "-2"), ("-2.00", "-2"),
        (0.5, "0.5"), ("0.5", "0.5"), ("1.", "1."), ("v1.0", "v1.0"), ("007", "007"),
        (True, "true"), (False, "false"), ("True", "True"), ("\tspam ham\n", "spam ham"),
        (None, ""), (float("nan"), ""), ("  ", ""), (10**20, "1" + "0" * 20),
    ],
)  # fmt: skip
def test_labels_are_strings(value, label):
    assert label_text(value) == label


def test_labels_of_every_type_of_a_parquet_column(tmp_path):
    path = tmp_path / "data.parquet"
    for column, labels in [
        (pa.array([0, 1, 0], pa.int8()), ["0", "1", "0"]),
        (pa.array([0.0, 1.0, 2.5]), ["0", "1", "2.5"]),
        (pa.array([0.1, 1.0, 0.1], pa.float32()), ["0.1", "1", "0.1"]),
        (pa.array([0.5, None, 0.1], pa.float16()), ["0.5", "0.1"]),
        (pa.array([True, False, True]), ["true", "false", "true"]),
        (pa.array(["x", "y ", "x"]).dictionary_encode(), ["x", "y", "x"]),
        (pa.array(["x", "y", "x"], pa.large_string()), ["x", "y", "x"]),
    ]:
        pq.write_table(pa.table({"text": ["a", "b", "c"], "label": column}), path)
        source = Source(path, problem="single_label", on_bad_row="skip")
        assert [label for _, label in read(source)[0]] == labels
    pq.write_table(pa.table({"text": ["a"], "label": [{"a": 2}]}), path)
    assert "holds struct<" in refusal(path) and "--set data.label=NAME" in refusal(path)
    pq.write_table(pa.table({"text": [1], "label": [1]}), path)
    assert "The text column 'text' holds int64" in refusal(path)


def test_labels_of_every_type_of_a_json_value(tmp_path):
    path = tmp_path / "data.jsonl"
    values = ["1", "2.0", "true", '" a "', "[1]", '{"a": 1}', "null", "NaN", '""']
    path.write_text("".join(f'{{"text": "t", "label": {value}}}\n' for value in values))
    source = Source(path, on_bad_row="skip")
    assert [label for _, label in read(source)[0]] == ["1", "2", "true", "a"]
    assert [(line, why) for _, line, why in source.bad_rows] == [
        (5, "the label is a list, where a string or a number is expected"),
        (6, "the label is an object, where a string or a number is expected"),
        (7, "the label is empty"),
        (8, "the label is empty"),
        (9, "the label is empty"),
    ]


# Bad rows


def test_bad_rows_are_counted_to_the_end_and_the_first_are_shown(tmp_path):
    path = tmp_path / "data.csv"
    rows = [("fine", "1"), (" \t", "1"), ("fine", " ")] + [("", "0")] * 5
    write(path, rows)
    source = Source(path)
    with pytest.raises(DataError) as caught:
        list(source.batches())
    assert caught.value.exit_status == 2
    message = str(caught.value)
    assert f"7 rows are bad in {path}" in message
    assert f"{path}:3: the text is empty" in message
    assert f"{path}:4: the label is empty" in message
    assert f"{path}:7: the text is empty" in message and f"{path}:8" not in message
    assert "and 2 more" in message and "--set data.on_bad_row=skip" in message
    assert source.bad_row_count == 7


def test_bad_rows_can_be_skipped(tmp_path):
    path = tmp_path / "data.csv"
    write(path, [("a", "1"), ("", "1"), ("b", "0")])
    source = Source([path], on_bad_row="skip")
    assert read(source) == ([("a", "1"), ("b", "0")], [2, 4])
    assert source.bad_rows == [(str(path), 3, "the text is empty")]
    read(source)
    assert source.bad_row_count == 1, "counted afresh each time"


def test_the_list_of_bad_rows_is_bounded(tmp_path):
    path = tmp_path / "data.csv"
    write(path, [("a", "1")] + [("", "1")] * 1500)
    source = Source(path, on_bad_row="skip")
    read(source)
    assert (len(source.bad_rows), source.bad_row_count) == (1000, 1500)


def test_nothing_but_bad_rows_is_refused_when_skipping_too(tmp_path):
    path = tmp_path / "data.csv"
    write(path, [("a", ""), ("b", "")])
    message = refusal(path, on_bad_row="skip")
    assert "all 2 are bad" in message and f"{path}:2: the label is empty" in message


def test_texts_without_labels_are_checked_too(tmp_path):
    path = tmp_path / "data.txt"
    path.write_text("one\n\n \ntwo\n")
    message = refusal(path, labelled=False)
    assert "2 rows are bad" in message and f"{path}:2: the text is empty" in message
    source = Source(path, labelled=False, on_bad_row="skip")
    assert next(source.batches()).lines.tolist() == [1, 4]


def test_a_text_must_be_a_string_that_utf8_can_hold(tmp_path):
    path = tmp_path / "data.jsonl"
    values = ["5", "null", '"ok \\ud83d\\ude00"', '"half \\ud83d"', "true"]
    path.write_text("".join(f'{{"text": {value}, "label": 1}}\n' for value in values))
    source = Source(path, on_bad_row="skip")
    assert read(source)[0] == [("ok 😀", "1")]
    assert [why for _, _, why in source.bad_rows] == [
        "the text is a number, where a string is expected",
        "the text is empty",
        r"the text holds \ud83d, which is half a character",
        "the text is a boolean, where a string is expected",
    ]


def test_on_bad_row_is_checked():
    with pytest.raises(ValueError, match="on_bad_row must be 'error' or 'skip'"):
        Source("starter:movie_reviews", on_bad_row="ignore")


# Pairs, several labels, scores


def written(path, rows):
    """Writes rows of any values, dictionaries of one shape, as the path's suffix says."""
    if path.suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(rows), path)
        return path
    opener = gzip.open if path.suffix == ".gz" else open
    with opener(path, "wt", encoding="utf-8", newline="") as file:
        if "json" in path.name:
            file.write("".join(json.dumps(row) + "\n" for row in rows))
        else:
            delimiter = "," if ".csv" in path.name else "\t"
            writer = csv.DictWriter(file, list(rows[0]), delimiter=delimiter)
            writer.writeheader()
            writer.writerows(rows)
    return path


def pairs(source):
    return [pair for batch in source.batches() for pair in zip(batch.texts, batch.pairs)]


@pytest.mark.parametrize("suffix", FORMATS)
@pytest.mark.parametrize("names", [("Premise", "HYPOTHESIS"), ("text", "text_pair")])
def test_pairs_are_read_from_every_format(tmp_path, suffix, names):
    first, second = names
    rows = [{first: f"a {n}", second: f"b {n}", "label": n % 2} for n in range(5)]
    path = written(tmp_path / f"data.{suffix}", rows)
    expected = [(row[first], row[second]) for row in rows]
    source = Source(path, text_pair="auto")
    assert (source.text_column, source.pair_column) == names
    assert pairs(source) == expected
    columns = f"text '{first}', second text '{second}', label 'label'"
    assert source.description() == f"{columns} (single label)"
    assert pairs(Source(path, text=first, text_pair=second, labelled=False)) == expected
    assert pairs(Source(path, text=second, text_pair=first)) == [pair[::-1] for pair in expected]
    assert source.pairs_of([3, 0]) == (["a 3", "a 0"], ["b 3", "b 0"])
    assert source.texts_of([3, 0]) == ["a 3", "a 0"]


def test_pairs_are_found_only_where_they_are_asked_for(tmp_path):
    row = {"text": "a", "question": "b", "sentence": "c", "label": 1}
    path = written(tmp_path / "data.jsonl", [row])
    for arguments in ({}, {"text_pair": "auto"}, {"text": "text", "text_pair": "auto"}):
        source = Source(path, **arguments)
        assert (source.text_column, source.pair_column) == ("text", None)
        assert next(source.batches()).pairs is None and source.pairs_of([0]) == (["a"], None)
    assert Source(path, text_pair="sentence").pair_column == "sentence"
    del row["text"]
    path = written(tmp_path / "pair.jsonl", [row])
    assert Source(path).text_column == "sentence"
    assert Source(path, text_pair="auto").pair_column == "sentence"
    assert Source(path, text="sentence", text_pair="auto").pair_column is None


def test_second_texts_that_are_not_there(tmp_path):
    path = written(tmp_path / "data.csv", [{"premise": "a", "hypothesis": " ", "label": 1}])
    assert f"{path}:2: the second text is empty" in refusal(path, text_pair="auto")
    message = refusal(path, text="premise", text_pair="other")
    assert "There is no text_pair column 'other'" in message
    message = refusal(path, text="premise", text_pair="premise")
    assert "The text and the second text cannot both be the column 'premise'" in message
    assert "cannot both be" in refusal(path, text_pair="label", label="label")
    message = refusal(path)
    assert "--set 'data.text=premise' --set 'data.text_pair=hypothesis'" in message
    (tmp_path / "data.txt").write_text("a\n")
    assert "without a second text" in refusal(
        tmp_path / "data.txt", text="a", text_pair="b", labelled=False
    )


@pytest.mark.parametrize("suffix", ["csv", "tsv.gz", "jsonl", "parquet"])
def test_several_labels_of_a_text(tmp_path, suffix):
    sets = [("joy",), ("joy", "fear"), ("fear",), ("fear", "joy")]
    if suffix in ("jsonl", "parquet"):
        sets.append(())
    cell = list if suffix in ("jsonl", "parquet") else "|".join
    rows = [{"text": f"text {n}", "labels": cell(one)} for n, one in enumerate(sets)]
    source = Source(written(tmp_path / f"data.{suffix}", rows))
    (batch,) = source.batches()
    assert batch.targets == sets and batch.labels is None
    assert source.problem.kind == "multi_label" and "(multi label)" in source.description()


@pytest.mark.parametrize("suffix", ["csv", "jsonl", "parquet"])
def test_a_column_for_each_label(tmp_path, suffix):
    rows = [{"text": f"text {n}", "toxic": n % 2, "insult": n == 3, "id": n} for n in range(4)]
    path = written(tmp_path / f"data.{suffix}", rows)
    source = Source(path, label=["toxic", "insult"])
    (batch,) = source.batches()
    assert batch.targets == [(), ("toxic",), (), ("toxic", "insult")] and batch.labels is None
    assert (source.label_column, source.label_columns) == (None, ("toxic", "insult"))
    assert source.description() == "text 'text', labels 'toxic', 'insult' (multi label)"
    assert source.fingerprint != Source(path, label=["insult", "toxic"]).fingerprint
    again = Source(path, label=source.label_columns, problem=source.problem)
    assert again.fingerprint == source.fingerprint
    assert Source(path, label=["toxic"]).problem.kind == "single_label"
    assert f"data.{suffix}:" in refusal(path, label=["toxic", "id"])
    assert "the label column 'id' is" in refusal(path, label=["toxic", "id"])
    message = refusal(path, label=["toxic", "id"], problem="regression")
    assert "data.problem is regression" in message
    assert "names the column 'toxic' twice" in refusal(path, label=["toxic", "toxic"])
    message = refusal(path, label=["toxic", "insult"], label_separator="|")
    assert "data.label_separator='|' is for several labels in one column" in message


def test_a_column_for_the_only_label(tmp_path):
    path = written(tmp_path / "data.csv", [{"text": "t", "toxic": n % 2} for n in range(4)])
    source = Source(path, label=["toxic"], problem="multi_label")
    (batch,) = source.batches()
    assert batch.targets == [(), ("toxic",)] * 2
    again = Source(path, label=["toxic"], problem=source.problem)
    assert again.fingerprint == source.fingerprint
    by_name = Source(path, label="toxic", problem="multi_label")
    assert by_name.fingerprint != source.fingerprint
    path = written(tmp_path / "names.csv", [{"text": "t", "labels": "joy|fear"}])
    (batch,) = Source(path, label=["labels"], problem="multi_label").batches()
    assert batch.targets == [("joy", "fear")]


@pytest.mark.parametrize("suffix", ["csv", "tsv", "jsonl", "parquet"])
@pytest.mark.parametrize("kind", [pa.float32(), pa.float64()])
def test_scores_are_the_same_in_every_format(tmp_path, suffix, kind):
    scores = [0.1, 2.35, 3.8, 5.0]
    path = tmp_path / f"data.{suffix}"
    if suffix == "parquet":
        texts = ["t"] * len(scores)
        pq.write_table(pa.table({"text": texts, "score": pa.array(scores, kind)}), path)
    else:
        written(path, [{"text": "t", "score": score} for score in scores])
    source = Source(path)
    (batch,) = source.batches()
    assert (source.label_column, source.problem.kind) == ("score", "regression")
    assert batch.targets == scores and batch.labels is None


def test_labels_of_another_source_are_read_by_its_problem(tmp_path):
    train = Source(
        written(
            tmp_path / "train.csv", [{"text": "t", "label": score} for score in (0.1, 2.35, 3.8)]
        )
    )
    path = written(
        tmp_path / "test.csv", [{"text": "t", "label": score} for score in (1, "high", 3, "nan")]
    )
    test = Source(path, problem=train.problem, on_bad_row="skip")
    assert [batch.targets for batch in test.batches()] == [[1.0, 3.0]]
    assert test.bad_rows == [
        (str(path), 3, "the label is 'high', where a finite number is expected"),
        (str(path), 5, "the label is 'nan', where a finite number is expected"),
    ]
    assert "data.on_bad_row=skip" in refusal(path, problem=train.problem)


def test_a_column_that_is_not_clear_stops_before_the_first_row(tmp_path):
    path = written(
        tmp_path / "data.csv", [{"text": "t", "label": f"intent {n % 400}"} for n in range(500)]
    )
    with pytest.raises(DataError, match="400 different values in 500 rows") as caught:
        Source(path)
    assert caught.value.where == str(path)
    (batch,) = Source(path, problem="single_label").batches()
    assert batch.targets is batch.labels and len(set(batch.labels)) == 400


def test_a_cell_that_does_not_fit_is_named_by_its_line(tmp_path):
    scores = [{"text": "t", "label": f"{n % 26 / 5}"} for n in range(300)]
    path = written(tmp_path / "data.csv", [*scores, {"text": "t", "label": "nan"}])
    with pytest.raises(DataError, match="mostly numbers, with other values") as caught:
        Source(path)
    assert f"('nan' ({path}:302): 1 row)" in str(caught.value)
    (batch,) = Source(path, problem="regression", on_bad_row="skip").batches()
    assert len(batch) == 300
    path = written(
        tmp_path / "stars.csv", [{"text": "t", "label": label} for label in [*"12345" * 9, "N/A"]]
    )
    with pytest.raises(DataError) as error:
        list(Source(path).batches())
    message = str(error.value)
    assert "stars.csv:47: the label is missing: 'N/A' among numbers" in message


def test_booleans_of_csv_and_parquet_are_the_same_classes(tmp_path):
    rows = [{"text": "t", "label": "True"}, {"text": "t", "label": "FALSE"}]
    one = written(tmp_path / "a.csv", rows)
    two = written(tmp_path / "b.parquet", [{"text": "t", "label": True}])
    three = written(tmp_path / "c.jsonl", [{"text": "t", "label": False}])
    labels = [label for batch in Source([one, two, three]).batches() for label in batch.labels]
    assert labels == ["true", "false", "true", "false"]
    assert next(Source(one, problem=Source(two).problem).batches()).labels == ["true", "false"]


def test_a_separator_that_is_set(tmp_path):
    path = written(tmp_path / "data.csv", [{"text": "t", "label": "a / b"}])
    assert next(Source(path, label_separator="/").batches()).targets == [("a", "b")]


# Reading again, fingerprints, cost


def test_texts_of_some_rows(tmp_path):
    write(tmp_path / "a.csv", [("a0", "1"), ("", "1"), ("a1", "1")])
    write(tmp_path / "b.jsonl", [("b2", "1"), ("b3", "1")])
    source = Source([tmp_path / "a.csv", tmp_path / "b.jsonl"], on_bad_row="skip")
    assert source.texts_of([3, 0, 2, 3]) == ["b3", "a0", "b2", "b3"]
    assert source.texts_of(np.array([1])) == ["a1"]
    assert source.texts_of([]) == []
    with pytest.raises(IndexError, match="has 4 rows"):
        source.texts_of([4])


def test_the_fingerprint_follows_contents_and_columns_not_names(tmp_path):
    first, second = tmp_path / "a.csv", tmp_path / "b.csv"
    write(first, [("a", "1")], columns=("text", "label"))
    second.write_bytes(first.read_bytes())
    fingerprint = Source(first).fingerprint
    assert len(fingerprint) == 64 and fingerprint == Source(second).fingerprint
    others = {
        Source(first, labelled=False).fingerprint,
        Source(first, text="label", label="text").fingerprint,
        Source([first, second]).fingerprint,
    }
    source = Source(first)
    write(first, [("a", "2")])
    others.add(source.fingerprint)
    others.add(Source([first, second]).fingerprint)
    others.add(Source([second, first]).fingerprint)
    assert len(others | {fingerprint}) == 7


def test_the_fingerprint_is_the_same_in_every_version(tmp_path):
    """It keys token stores that users keep: when this changes, they are all built again."""
    path = tmp_path / "a.csv"
    path.write_bytes(b"text,label\na,1\n")
    fingerprint = "9f9dba54e8772548f22928951a6e8d1c238b0e3120d5acd5e60168561a57ea5e"
    assert Source(path).fingerprint == fingerprint


def test_memory_stays_flat_and_light_modules_light(tmp_path):
    path = tmp_path / "data.csv"
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["text", "label"])
        writer.writerows([f"a review of some length, {n} " * 24, n % 3] for n in range(60_000))
    program = (
        "import resource, sys, kerasllm.data.readers.sources as s, kerasllm.data.split\n"
        "peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        f"source = s.Source({str(path)!r})\n"
        "before = peak()\n"
        "rows = sum(map(len, source.batches()))\n"
        "heavy = {'tensorflow', 'keras', 'pyarrow', 'rich', 'pydantic'} & set(sys.modules)\n"
        "print(rows, (peak() - before) // 1024, heavy or 'light')\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    rows, grown, heavy = done.stdout.split()
    assert (rows, heavy) == ("60000", "light")
    assert path.stat().st_size > 40 << 20 and int(grown) < 30


def test_skipping_bad_rows_is_no_advice_where_nearly_all_are_bad(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("text,label\n" + ",good\n" * 30 + "fine,good\n")
    with pytest.raises(DataError, match="30 rows are bad") as caught:
        list(Source(str(path)).batches())
    assert "on_bad_row" not in caught.value.fix and "only 1 would be left" in caught.value.fix
