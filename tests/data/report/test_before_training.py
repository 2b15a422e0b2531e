"""The short check before a training: what is the same to the model is found by its tokens."""

import dataclasses

import numpy as np
import pyarrow as pa
import pytest

from kerasllm.data.examples import Examples
from kerasllm.data.report import before_training
from kerasllm.data.report.before_training import check_rows, row_hashes
from kerasllm.data.sequences import whole_rows
from kerasllm.data.token_store import open_or_write, row_batch


@pytest.fixture
def store_of(tmp_path):
    """Makes a token store of rows of token ids."""

    def make(name, rows):
        offsets = np.cumsum([0, *map(len, rows)])
        ids = np.concatenate([np.array(row, np.int32) for row in rows])
        batch = row_batch(
            ids,
            offsets,
            0,
            np.arange(2, len(rows) + 2),
            columns={"label": pa.array(["a"] * len(rows))},
        )
        return open_or_write(name, lambda: iter([batch]), [name], folder=tmp_path)

    return make


def rows_like(count, length=12, seed=0):
    return np.random.default_rng(seed).integers(1, 500, (count, length)).tolist()


def test_leaks_duplicates_and_conflicts(store_of):
    train = [*rows_like(100), *rows_like(2), [7, 8, 9]]
    labels = np.zeros(103, np.uint8)
    labels[101] = 1
    test = [*rows_like(40, seed=1), rows_like(6)[5], [7, 8, 9]]
    parts = {
        "train": Examples.of(store_of("train.csv", train), labels),
        "test": Examples.of(store_of("test.csv", test), np.zeros(42, np.uint8)),
    }
    found = check_rows(parts)
    (leak,) = found.leaks
    assert dataclasses.astuple(leak) == ("test", 1, 1 / 42, ("test.csv:42",))
    assert found.refused == [leak]
    assert (found.duplicates, found.conflicts) == (2, 2)
    assert found.lines() == [
        "warning: 1 test row is in train too (2.4%)",
        "2 training rows repeat an earlier one; 2 share their text with a row of another label",
    ]


def test_a_few_leaks_are_chance(store_of):
    test = [*rows_like(200, seed=1), rows_like(1)[0]]
    parts = {
        "train": whole_rows(store_of("train", rows_like(50)), np.arange(50)),
        "test": whole_rows(store_of("test", test), np.arange(201)),
    }
    found = check_rows(parts)
    assert found.leaks[0].rows == 1 and not found.refused


def test_order_counts_and_short_cut_rows_do_not(store_of):
    row = list(range(1, 13))
    store = store_of("rows", [row, row[::-1], row, row[:3], row[:3]])
    hashes = row_hashes(store)
    assert hashes[0] == hashes[2] != hashes[1] and hashes[3] == 0
    assert not row_hashes(store, max_length=12).any()
    long = store_of("long", rows_like(3, length=40) + rows_like(1, length=40))
    assert len(set(row_hashes(long, max_length=40).tolist())) == 3


def test_too_many_rows_are_not_compared(store_of, monkeypatch):
    monkeypatch.setattr(before_training, "_MOST_ROWS", 40)
    train = whole_rows(store_of("train", rows_like(41)), np.arange(41))
    (line,) = check_rows({"train": train, "test": train}).lines()
    assert line == "rows are not compared with each other: there are over 40"


def test_parts_without_a_store_are_left_alone():
    assert check_rows({"train": object(), "test": object()}).lines() == []
    assert check_rows({}).lines() == []
