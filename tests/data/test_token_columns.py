"""What a task keeps beside the tokens comes back as it was given, and pairs know their border."""

import functools
import hashlib
import itertools
import json
import tracemalloc
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kerasllm.data.examples import Examples
from kerasllm.data.rows import model_inputs
from kerasllm.data.stored_tokens import TokenStore
from kerasllm.data.token_file import TOKEN_FIELDS, DamagedFileError, write_token_file
from kerasllm.data.token_store import open_or_build, open_or_write, row_batch

NUMBERS = {"int8": pa.int8(), "int32": pa.int32(), "float32": pa.float32(), "float64": pa.float64()}


def batch_of(count: int, columns, file: int = 0) -> pa.RecordBatch:
    """Rows of one token, the number of the row."""
    ids = np.arange(count, dtype=np.int32)
    return row_batch(ids, np.arange(count + 1), file, np.arange(count), columns=columns)


def store_of(folder, *batches, name="rows") -> TokenStore:
    return open_or_write(name, lambda: iter(batches), ["rows.csv"], folder=folder)


floats = st.floats(-1e6, 1e6, width=32)
cells = st.fixed_dictionaries(
    {
        "text": st.none() | st.text(max_size=5),
        "int8": st.integers(-128, 127),
        "int32": st.integers(-(2**31), 2**31 - 1),
        "float32": floats,
        "float64": floats,
        "spans": st.lists(st.integers(0, 99), max_size=4),
        "classes": st.lists(st.text(max_size=3), max_size=3),
        # A name of the store's own columns.
        "token_ids": st.lists(st.integers(0, 99), max_size=7),
    }
)
TYPES = {
    "text": pa.string(),
    **NUMBERS,
    "spans": pa.list_(pa.int32()),
    "classes": pa.list_(pa.string()),
    "token_ids": pa.list_(pa.int32()),
}


@settings(max_examples=60, deadline=None)
@given(st.lists(st.lists(cells, max_size=5), min_size=1, max_size=4), st.booleans(), st.data())
def test_columns_come_back_as_they_were_given(tmp_path_factory, batches, cut, data):
    def columns(rows):
        # A slice of a longer array is what a reader may give.
        extra = rows[:1] * cut
        return {
            name: pa.array([row[name] for row in (*extra, *rows)], kind)[len(extra) :]
            for name, kind in TYPES.items()
        }

    folder = tmp_path_factory.mktemp("tokens")
    store_of(folder, *(batch_of(len(rows), columns(rows)) for rows in batches))
    store = store_of(folder)
    assert store.reused and store.column_names == tuple(TYPES)
    rows = [row for batch in batches for row in batch]
    order = data.draw(st.lists(st.integers(0, len(rows) - 1), max_size=9)) if rows else []
    for name, kind in TYPES.items():
        expected = [row[name] for row in rows]
        assert store.column(name).type == kind
        assert store.column(name).to_pylist() == pa.array(expected, kind).to_pylist()
    for name, kind in NUMBERS.items():
        for found, some in (
            (store.numbers(name), range(len(rows))),
            (store.numbers(name, order), order),
        ):
            assert found.dtype == kind.to_pandas_dtype()
            np.testing.assert_array_equal(found, np.array([rows[i][name] for i in some]))
    for name in ("spans", "token_ids"):
        lengths = store.column_lengths(name)
        assert lengths.dtype == np.int32
        assert lengths.tolist() == [len(row[name]) for row in rows]
        gathered = store.gather_column(name, order, 8, pad=-1)
        assert (gathered.dtype, gathered.shape) == (np.int32, (len(order), 8))
        assert gathered.tolist() == [rows[i][name] + [-1] * (8 - len(rows[i][name])) for i in order]
    # The tokens are the store's own still.
    assert store.lengths.tolist() == [1] * len(rows)


def test_what_a_column_cannot_give_is_refused(tmp_path):
    columns = {
        "stars": pa.array([1.0, None], pa.float32()),
        "spans": pa.array([[1, 2, 3], None], pa.list_(pa.int32())),
        "gaps": pa.array([[1, None], []], pa.list_(pa.int32())),
        "names": pa.array([["a"], []]),
        "right": pa.array([True, False]),
        "classes": pa.array([[1, 2, 3], [4]], pa.list_(pa.int32())),
        "id": pa.array([1, 2], pa.int32()),
    }
    store = store_of(tmp_path, batch_of(2, columns))
    with pytest.raises(KeyError, match="'stars', 'spans'.* Received: 'score'"):
        store.column("score")
    for name in ("stars", "spans", "gaps"):
        with pytest.raises(ValueError, match=f"'{name}' has .*(without a value|missing)"):
            store.numbers(name) if name == "stars" else store.column_lengths(name)
    for name in ("names", "right"):
        with pytest.raises(TypeError, match="must hold numbers"):
            store.numbers(name)
        with pytest.raises(TypeError, match="must hold lists of int32"):
            store.gather_column(name, [0], 3, 0)
    with pytest.raises(ValueError, match="Row 0 has 3 .*length=2"):
        store.gather_column("classes", [1, 0], 2, 0)
    with pytest.raises(IndexError):
        store.numbers("id", [2])
    with pytest.raises(
        ValueError, match="'stars' must have a value for each row.*1 values, 2 rows"
    ):
        batch_of(2, {"stars": pa.array([1.0])})


def test_a_file_of_the_old_layout_is_not_read_as_one_without_labels(tmp_path):
    path = tmp_path / "old.arrow"
    arrays = [pa.array([[1]], pa.list_(pa.int32())), [0], [1], ["good"]]
    schema = pa.schema([*TOKEN_FIELDS, ("label", pa.string())])
    batch = pa.record_batch([pa.array(a, f.type) for a, f in zip(arrays, schema)], schema=schema)
    write_token_file(path, iter([batch]), ["rows.csv"], remarks=lambda: [0, []])
    with pytest.raises(DamagedFileError, match="layout of another version, with .'label'"):
        TokenStore(path)


def test_columns_are_not_held_in_memory(tmp_path):
    def batches():
        for _ in range(40):
            values = {
                "score": pa.array(np.zeros(5000, np.float64)),
                "targets": pa.array([[1] * 20] * 5000, pa.list_(pa.int32())),
            }
            yield batch_of(5000, values)

    path = open_or_write("many", batches, ["rows.csv"], folder=tmp_path).path
    before = pa.total_allocated_bytes()
    tracemalloc.start()
    try:
        store = TokenStore(path)
        for rows in np.random.default_rng(0).integers(0, 200_000, (50, 32)):
            store.numbers("score", rows)
            store.gather_column("targets", rows, 24, 0)
        assert store.column("targets").slice(199_999)[0].as_py() == [1] * 20
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    # The columns take 17,600,000 bytes; a block of 1 MiB is read to check them.
    assert peak < 4_000_000 and pa.total_allocated_bytes() - before < 1_000_000


class Source:
    """A source of what is given, with pairs of texts and targets."""

    files = ("pairs.csv",)
    on_bad_row = "error"
    bad_row_count, bad_rows = 0, []

    def __init__(self, texts, pairs=None, targets=None):
        self.given = (texts, pairs, targets)
        self.fingerprint = repr(self.given)

    def batches(self):
        texts, pairs, targets = self.given
        for start in range(0, len(texts), 3):
            part = slice(start, start + 3)
            yield SimpleNamespace(
                texts=texts[part],
                pairs=pairs and pairs[part],
                targets=targets and targets[part],
                labels=None,
                file=0,
                lines=np.arange(len(texts[part])),
            )


class Letters:
    """A token a letter; the first text ends with 1, the second with 2, each cut to a half."""

    fingerprint = "letters"
    truncations = []

    def encode(self, texts, max_length):
        rows = [list(map(ord, text))[:max_length] for text in texts]
        return np.array([*itertools.chain(*rows)], np.int32), np.cumsum([0, *map(len, rows)])

    def encode_pairs(self, texts, pairs, max_length, *, truncation):
        self.truncations.append(truncation)
        half = max_length // 2 - 1
        first = [[*map(ord, text[:half]), 1] for text in texts]
        # A text that is not there has no token, and no segment.
        second = [[*map(ord, pair[:half]), 2] if pair else [] for pair in pairs]
        rows = [a + b for a, b in zip(first, second, strict=True)]
        segments = [[0] * len(a) + [1] * len(b) for a, b in zip(first, second, strict=True)]
        return SimpleNamespace(
            ids=np.array([*itertools.chain(*rows)], np.int32),
            offsets=np.cumsum([0, *map(len, rows)]),
            segments=np.array([*itertools.chain(*segments)], np.uint8),
        )


words = st.text("abc", max_size=6)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(words, words), min_size=1, max_size=8), st.sampled_from([0, 1]))
def test_a_pair_of_texts_is_a_row_of_two_segments(tmp_path_factory, found, second):
    texts, pairs = map(list, zip(*found, strict=True))
    folder = tmp_path_factory.mktemp("tokens")
    store = open_or_build(Source(texts, pairs), Letters(), 10, folder=folder)
    assert store.column_names == ("segment_start",)
    examples = Examples.of(store, np.zeros(len(texts), int), second_segment=second)
    made = model_inputs(examples, np.arange(len(texts)), 12, ("segment_ids",), 0)
    for text, pair, ids, segments in zip(texts, pairs, made["token_ids"], made["segment_ids"]):
        border, end = len(text[:4]) + 1, len(text[:4]) + 1 + (len(pair[:4]) + 1) * bool(pair)
        assert ids[border - 1] == 1 and (not pair or ids[end - 1] == 2)
        assert segments.tolist() == [0] * border + [second] * (end - border) + [0] * (12 - end)


def test_single_texts_have_no_second_segment(tmp_path):
    store = open_or_build(Source(["ab", "c"]), Letters(), 8, folder=tmp_path)
    assert store.column_names == () and store.segment_starts([0]) is None
    made = model_inputs(store, np.array([0, 1]), 3, ("segment_ids",), 0)
    assert made["segment_ids"].tolist() == [[0, 0, 0]] * 2


def scores(batch):
    return {"score": pa.array(batch.targets, pa.float32())}


def spans(batch):
    return {"span": pa.array([[0, 1]] * len(batch.texts), pa.list_(pa.int32()))}


def test_a_task_says_which_columns_are_kept(tmp_path):
    source = Source(["a", "b", "c", "d"], ["x"] * 4, [0.5, 1.0, -2.0, 4.0])
    made = [
        open_or_build(source, Letters(), 8, folder=tmp_path, **options)
        for options in (
            {"columns": scores},
            {"columns": spans},
            {"columns": scores, "identity": {"scale": 2}},
            {"columns": scores, "truncation": "only_second"},
            {},
        )
    ]
    assert len({store.fingerprint for store in made}) == 5
    assert made[0].numbers("score").tolist() == [0.5, 1.0, -2.0, 4.0]
    assert [store.column_names for store in made[:2]] == [
        ("score", "segment_start"),
        ("span", "segment_start"),
    ]
    assert open_or_build(source, Letters(), 8, folder=tmp_path, columns=scores).reused
    with pytest.raises(TypeError, match="columns must be a function"):
        open_or_build(source, Letters(), 8, folder=tmp_path, columns=functools.partial(scores))


def test_pairs_are_cut_as_it_was_asked(tmp_path):
    Letters.truncations.clear()
    source = Source(["a", "b"], ["x", "y"])
    open_or_build(source, Letters(), 8, folder=tmp_path)
    open_or_build(source, Letters(), 8, folder=tmp_path, truncation="only_second")
    assert Letters.truncations == ["longest_first", "only_second"]


def test_a_store_without_columns_keeps_its_fingerprint(tmp_path):
    # An unfinished training of a language model tells its data by it.
    found = open_or_write(["a", 1], lambda: iter([batch_of(1, None)]), ["f"], folder=tmp_path)
    expected = hashlib.sha256(json.dumps([1, ["a", 1]]).encode()).hexdigest()
    assert found.fingerprint == expected
