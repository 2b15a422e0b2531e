"""Class names of Parquet files, labels that mean none, and the labels of rows that are skipped."""

import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from kerasllm.data.readers.class_labels import class_names, with_class_names
from kerasllm.data.readers.sources import Source
from kerasllm.errors import DataError

NAMES = ["neg", "pos"]


def write(path, labels, feature=None, kind=None):
    """Writes a text for each label, with the metadata that `datasets` writes."""
    texts = [f"text {n}" for n in range(len(labels))]
    table = pa.table({"text": texts, "label": pa.array(labels, kind)})
    feature = feature or {"names": NAMES, "_type": "ClassLabel"}
    features = {"text": {"dtype": "string", "_type": "Value"}, "label": feature}
    metadata = {b"huggingface": json.dumps({"info": {"features": features}}).encode()}
    pq.write_table(table.replace_schema_metadata(metadata), path)
    return path


def labels_of(source):
    return [label for batch in source.batches() for label in batch.targets]


def test_class_names_are_label_names_and_minus_one_is_none(tmp_path):
    source = Source(write(tmp_path / "a.parquet", [0, -1, 1, -1, 1]))
    assert source.label_names == {"0": "neg", "1": "pos"}
    (batch,) = source.batches()
    assert batch.labels == ["0", "1", "1"] and batch.lines.tolist() == [1, 3, 5]
    assert source.unlabelled == {"-1": 2}
    assert source.texts_of([1]) == ["text 2"], "rows are counted without those left out"
    list(source.batches())
    assert source.unlabelled == {"-1": 2}, "counted afresh each time"


def test_data_without_a_label_are_refused_in_words(tmp_path):
    source = Source(write(tmp_path / "test.parquet", [-1] * 9))
    with pytest.raises(DataError, match="all 9 hold -1, which means that there is none") as error:
        list(source.batches())
    assert "predict" in error.value.fix


@pytest.mark.parametrize(
    "feature",
    [
        {"feature": {"names": NAMES, "_type": "ClassLabel"}, "_type": "Sequence"},
        {"feature": {"names": NAMES, "_type": "ClassLabel"}, "_type": "List"},
        [{"names": NAMES, "_type": "ClassLabel"}],
    ],
)
def test_lists_of_classes(tmp_path, feature):
    source = Source(write(tmp_path / "a.parquet", [[0, 1], [1], [-1], [0, -1]], feature))
    assert source.problem.kind == "multi_label" and source.label_names == {"0": "neg", "1": "pos"}
    assert labels_of(source) == [("0", "1"), ("1",), ("0",)] and source.unlabelled == {"-1": 1}


@pytest.mark.parametrize(
    ("labels", "feature"),
    [
        (["a", "b"], {"names": NAMES, "_type": "ClassLabel"}),
        ([0, 1], {"dtype": "int64", "_type": "Value"}),
        ([0, 1], "broken"),
    ],
)
def test_other_metadata_say_nothing(tmp_path, labels, feature):
    assert Source(write(tmp_path / "a.parquet", labels, feature)).label_names is None


def test_metadata_that_cannot_be_read():
    for metadata in (None, {}, {b"huggingface": b"{"}, {b"huggingface": b"[]"}):
        assert class_names(metadata, "label") is None
    assert class_names(with_class_names({b"a": b"b"}, {"label": NAMES}), "label") == ("neg", "pos")
    features = {"l": {"_type": "ClassLabel", "num_classes": 2}}
    counted = json.dumps({"info": {"features": features}}).encode()
    assert class_names({b"huggingface": counted}, "l") == ("0", "1")


def test_files_with_other_names_for_their_numbers_are_refused(tmp_path):
    one = write(tmp_path / "a.parquet", [0, 1])
    two = write(tmp_path / "b.parquet", [0, 1], {"names": NAMES[::-1], "_type": "ClassLabel"})
    with pytest.raises(DataError, match="mean different classes in each file") as error:
        Source([one, two])
    assert "a.parquet: neg, pos" in error.value.where


def test_a_file_without_missing_labels_keeps_its_fingerprint(tmp_path):
    path = write(tmp_path / "a.parquet", [0, 1])
    own = Source(path).fingerprint
    pq.write_table(pq.read_table(path), tmp_path / "b.parquet")
    assert Source(path, ignore_labels=["0"]).fingerprint != own
    with_none = Source(write(tmp_path / "c.parquet", [0, 1, -1]))
    assert with_none._labels.ignored == {"-1"} and not Source(path)._labels.ignored


@pytest.mark.parametrize("suffix", ["csv", "jsonl", "parquet"])
def test_labels_that_mean_none_are_left_out(tmp_path, suffix):
    path = tmp_path / f"a.{suffix}"
    rows = [("a", "joy"), ("", "N/A"), ("c", "fear"), ("d", "N/A")]
    if suffix == "parquet":
        texts, labels = zip(*rows, strict=True)
        pq.write_table(pa.table({"text": texts, "label": labels}), path)
    elif suffix == "csv":
        path.write_text("text,label\n" + "".join(f"{a},{b}\n" for a, b in rows))
    else:
        path.write_text("".join(json.dumps({"text": a, "label": b}) + "\n" for a, b in rows))
    source = Source(path, ignore_labels=["N/A"])
    assert labels_of(source) == ["joy", "fear"] and source.unlabelled == {"N/A": 2}


def test_scores_among_labels_that_mean_none(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("text,label\n" + "".join(f"t,{n / 5}\n" for n in range(26)) + "t,n/a\n")
    source = Source(path, ignore_labels=["n/a"])
    assert source.problem.kind == "regression" and len(labels_of(source)) == 26
    path.write_text("text,label\nt,joy|N/A\nt,joy|fear\nt,fear\nt,joy\n")
    source = Source(path, ignore_labels=["N/A"], label_separator="|")
    assert labels_of(source) == [("joy",), ("joy", "fear"), ("fear",), ("joy",)]


# Rows that are skipped


def test_labels_of_skipped_rows_are_counted(tmp_path):
    path = tmp_path / "a.csv"
    rows = [b"caf\xc3\xa9 \xa3,spam", b",spam", b"hi,ham", b'"a\nb \0",spam', b"n\0,ham"]
    rows += [b"x,y,z", b"\0,\xc3\xa9\xa3"]
    path.write_bytes(b"text,label\n" + b"\n".join(rows) + b"\n")
    source = Source(path, on_bad_row="skip")
    assert labels_of(source) == ["ham"]
    assert source.bad_row_count == 6
    assert source.bad_row_labels == {"spam": 3, "ham": 1}, "of two rows it cannot be read"
    path = tmp_path / "a.jsonl"
    rows = [b'{"text": "\xc3\xa9\xa3", "label": "spam"}', b'{"text": "a", "label": "ham"}']
    path.write_bytes(b"\n".join([*rows, b'{"label": 1}']) + b"\n")
    source = Source(path, on_bad_row="skip")
    assert labels_of(source) == ["ham"] and source.bad_row_labels == {"spam": 1}


def test_lists_of_float32_are_what_they_were(tmp_path):
    path = tmp_path / "a.parquet"
    labels = pa.array([[0.1, 0.7], [0.1]], pa.list_(pa.float32()))
    pq.write_table(pa.table({"text": ["a", "b"], "label": labels}), path)
    assert labels_of(Source(path)) == [("0.1", "0.7"), ("0.1",)]
