"""Tables in memory as files: what is kept, what is refused, and that the same is the same file."""

import os
import sys
import types

import pandas as pd
import pyarrow as pa
import pytest
from pyarrow import parquet

from kerasllm.data.readers.class_labels import with_class_names
from kerasllm.data.readers.data_file import DataFile
from kerasllm.data.readers.records import records
from kerasllm.data.readers.sources import Source
from kerasllm.data.tables import is_table, table_file
from kerasllm.errors import DataError, JobError

ROWS = [{"text": "good", "label": "yes"}, {"text": "bad\nworse", "label": "no"}]


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("KERASLLM_CACHE", str(tmp_path))
    return tmp_path


def read(data):
    return parquet.read_table(table_file(data)).to_pylist()


def test_names_of_files_are_no_tables(tmp_path):
    for files in ("a.csv", tmp_path, ["a.csv", tmp_path], ("a.csv",), [], None):
        assert not is_table(files)
    for table in (pd.DataFrame(ROWS), pa.Table.from_pylist(ROWS), ROWS, [1], 3):
        assert is_table(table)


def test_the_same_rows_are_the_same_file(cache):
    frame = pd.DataFrame(ROWS)
    path = table_file(ROWS)
    assert path.parent == cache / "tables" and path.suffix == ".parquet"
    same = [
        frame,
        frame.set_index(pd.Index([7, 3])),  # the index is no column
        frame.astype(object),
        frame.astype("string"),
        frame.astype("category"),
        pa.Table.from_pylist(ROWS),
        pa.concat_tables([pa.Table.from_pylist(ROWS[:1]), pa.Table.from_pylist(ROWS[1:])]),
        pa.table(frame).slice(0, 2),
        pa.RecordBatch.from_pylist(ROWS),
        tuple(ROWS),
    ]
    assert {table_file(one) for one in same} == {path}
    other = [ROWS[::-1], ROWS[:1], frame[["label", "text"]], frame.rename(columns={"text": "t"})]
    assert len({path, *map(table_file, other)}) == 5
    assert len(os.listdir(path.parent)) == 5


def test_a_file_that_is_there_is_not_written_again():
    path = table_file(ROWS)
    path.write_bytes(b"")
    assert table_file(ROWS) == path and not path.stat().st_size


def test_columns_keep_their_order_and_their_values():
    frame = pd.DataFrame(
        {
            "text": pd.Series(["a", None, "c"], dtype="string"),
            "words": pd.Series(["x", float("nan"), pd.NA], dtype=object),
            "kind": pd.Categorical(["u", None, "v"], categories=["v", "u", "w"]),
            "count": pd.Series([1, None, 3], dtype="Int64"),
            "gap": [1.0, float("nan"), 3.0],
            "flag": pd.Series([True, None, False], dtype="boolean"),
            2: [["m", "n"], [], None],
        }
    )
    assert list(read(frame)[0]) == ["text", "words", "kind", "count", "gap", "flag", "2"]
    assert [list(row.values()) for row in read(frame)] == [
        ["a", "x", "u", 1, 1.0, True, ["m", "n"]],
        [None, None, None, None, None, None, []],
        ["c", None, "v", 3, 3.0, False, None],
    ]


def test_the_readers_read_what_was_written():
    frame = pd.DataFrame({"review": ["a", "b"], "stars": pd.Categorical([5, 1])})
    batches = list(Source(table_file(frame), text="review", label="stars").batches())
    assert [batch.texts for batch in batches] == [["a", "b"]]
    assert [batch.labels for batch in batches] == [["5", "1"]]


def test_conversations_stay_nested():
    chat = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]
    path = table_file([{"messages": chat}, {"messages": chat[:1], "source": "mine"}])
    found = [row for _, row, _ in records(DataFile(path.name, str(path)))]
    assert found == [
        {"messages": chat, "source": None},
        {"messages": chat[:1], "source": "mine"},
    ]


def test_float32_is_not_taken_for_the_float64_that_is_close():
    single = pa.table({"score": pa.array([0.1], pa.float32())})
    double = pa.table({"score": single["score"].cast(pa.float64())})
    assert table_file(single) != table_file(double)


@pytest.mark.parametrize(
    ("data", "what"),
    [
        (pd.DataFrame([["a", "b"]], columns=["text", "text"]), "column 'text' 2 times"),
        (pd.DataFrame([["a", "b"]], columns=[1, "1"]), "column '1' 2 times"),
        (pd.DataFrame({"text": []}), "no rows"),
        (pd.DataFrame(index=[0, 1]), "no columns"),
        ([{}], "no columns"),
        ([{"text": "a"}, "b"], "item 1 is str"),
        ([pd.DataFrame(ROWS)], "item 0 is pandas."),
        ([{"label": 1}, {"label": "a"}], "the key 'label'"),
        (pd.DataFrame({"label": [1, "a"]}), "column label"),
        ([{"text": "\ud800"}], "surrogates not allowed"),
        (pa.table({"made": [{}]}), "values of different types"),
        (pd.Series(["a"]), "This is not data: pandas."),
        ({"text": ["a"]}, "This is not data: dict"),
        (3, "This is not data: int"),
        (iter(ROWS), "This is not data: list_iterator"),
    ],
)
def test_what_is_no_table_is_refused(data, what, cache):
    with pytest.raises(DataError) as caught:
        table_file(data)
    assert what in str(caught.value) and caught.value.fix
    assert not list(cache.rglob("*.*"))


def test_a_write_that_fails_leaves_nothing(cache, monkeypatch):
    def full(table, file):
        file.write(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(parquet, "write_table", full)
    with pytest.raises(JobError, match="No space left on device"):
        table_file(ROWS)
    assert not list(cache.rglob("*.*"))


def test_class_labels_of_datasets_become_their_names():
    datasets = pytest.importorskip("datasets")
    labels = datasets.ClassLabel(names=["no", "yes"])
    features = datasets.Features(
        {"text": datasets.Value("string"), "label": labels, "tags": datasets.Sequence(labels)}
    )
    data = datasets.Dataset.from_dict(
        {"text": ["a", "b", "c"], "label": [1, 0, -1], "tags": [[1, 0], [], [0]]}, features
    )
    assert read(data.select([1, 0])) == [
        {"text": "b", "label": "no", "tags": []},
        {"text": "a", "label": "yes", "tags": ["yes", "no"]},
    ]
    # -1 says that a row has no label: its class is not known, and it is no bad row.
    assert [row["label"] for row in read(data.select([2, 0, 1]))] == [-1, 1, 0]
    source = Source(table_file(data))
    assert source.label_names == {"0": "no", "1": "yes"}
    assert next(source.batches()).labels == ["1", "0"] and source.unlabelled == {"-1": 1}
    with pytest.raises(DataError, match=r'dataset\["train"\]'):
        table_file(datasets.DatasetDict({"train": data}))


class ClassLabel:
    """What is needed of `datasets.ClassLabel`."""

    def __init__(self, names):
        self.names = names


class Dataset:
    """What is needed of `datasets.Dataset`."""

    def __init__(self, table, features):
        self.table, self.features = table, features

    def with_format(self, _):
        return self

    def __getitem__(self, rows):
        return self.table


@pytest.fixture
def datasets(monkeypatch):
    """Stands for the package, where it is not installed."""
    module = types.ModuleType("datasets")
    module.Dataset, module.ClassLabel, module.DatasetDict = Dataset, ClassLabel, dict
    monkeypatch.setitem(sys.modules, "datasets", module)
    return module


def test_rows_of_a_data_set_without_a_label_are_left_out(datasets):
    features = {"text": None, "label": ClassLabel(["no", "yes"])}

    def source(labels):
        table = pa.table({"text": ["t"] * len(labels), "label": labels})
        return Source(table_file(Dataset(table, features)))

    named, numbered, unlabelled = source([1, 0, 1]), source([1, 0, -1]), source([-1, -1])
    assert next(named.batches()).labels == ["yes", "no", "yes"]
    assert next(numbered.batches()).labels == ["1", "0"]
    assert (numbered.label_names, numbered.unlabelled) == ({"0": "no", "1": "yes"}, {"-1": 1})
    with pytest.raises(DataError, match="all 2 hold -1"):
        next(unlabelled.batches())


def test_an_arrow_table_keeps_its_class_names():
    table = pa.table({"text": ["a", "b"], "label": [0, 1]})
    named = table.replace_schema_metadata(with_class_names({b"x": b"y"}, {"label": ["no", "yes"]}))
    assert Source(table_file(named)).label_names == {"0": "no", "1": "yes"}
    assert Source(table_file(table)).label_names is None
    other = table.replace_schema_metadata({b"x": b"y"})
    assert table_file(table) == table_file(other) != table_file(named)
