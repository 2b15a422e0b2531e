"""What is computed in batches of similar length comes back in the order of the rows."""

import threading

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kerasllm.data.length_batches import in_length_batches, map_by_length

lengths_lists = st.lists(st.integers(1, 30), max_size=40).map(lambda found: np.array(found, int))


@given(lengths_lists, st.integers(1, 9))
def test_batches_hold_each_row_once_in_the_order_of_the_lengths(lengths, batch_size):
    batches = list(in_length_batches(lengths, batch_size))
    rows = [int(row) for batch in batches for row in batch]
    assert rows == sorted(range(len(lengths)), key=lambda row: lengths[row])
    assert [len(batch) for batch in batches[:-1]] == [batch_size] * (len(batches) - 1)
    assert all(1 <= len(batch) <= batch_size for batch in batches)


@settings(max_examples=50, deadline=None)
@given(lengths_lists, st.integers(1, 9), st.integers(1, 3))
def test_outputs_are_in_the_order_of_the_rows(lengths, batch_size, workers):
    seen = []

    def compute(rows):
        seen.append(len(rows))
        assert lengths[rows].max() == lengths[rows[-1]]
        return np.stack([rows, lengths[rows]], axis=1).astype(np.float32)

    found = map_by_length(lengths, batch_size, compute, workers=workers)
    assert sum(seen) == len(lengths)
    if not len(lengths):
        assert found.shape == (0,)
        return
    assert (found.dtype, found.shape) == (np.float32, (len(lengths), 2))
    np.testing.assert_array_equal(found, np.stack([np.arange(len(lengths)), lengths], axis=1))


def test_workers_compute_at_the_same_time():
    both = threading.Barrier(2, timeout=30)

    def compute(rows):
        both.wait()
        return rows

    assert map_by_length(np.ones(2, int), 1, compute, workers=2).tolist() == [0, 1]


@pytest.mark.parametrize("workers", [1, 2])
def test_an_error_of_a_batch_is_raised(workers):
    def compute(rows):
        raise OSError("no more memory")

    with pytest.raises(OSError, match="no more memory"):
        map_by_length(np.arange(5), 2, compute, workers=workers)


def test_outputs_that_are_not_one_for_each_row_are_refused():
    with pytest.raises(ValueError, match="each of 2 rows was expected. Received: 1"):
        map_by_length(np.arange(4), 2, lambda rows: np.zeros(1))
