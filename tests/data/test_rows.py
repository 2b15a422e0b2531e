"""Rows need NumPy alone, and say beforehand what their batches are like."""

import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st

from kerasllm.data.examples import Examples
from kerasllm.data.rows import ArraySpec, TokensInMemory, model_inputs, row_generator
from kerasllm.data.sequences import packed_rows, whole_rows
from tests.training.tiny_decoder import random_pairs, random_store

_WITHOUT_TENSORFLOW = """
import sys
sys.modules["tensorflow"] = None
import kerasllm.data.examples, kerasllm.data.pairs, kerasllm.data.sequences, kerasllm.data.rows
import kerasllm.data.batch_plan, kerasllm.data.length_batches, kerasllm.data.token_store
"""


def test_no_rows_import_tensorflow():
    subprocess.run([sys.executable, "-c", _WITHOUT_TENSORFLOW], check=True)


def in_memory(lengths, starts=None, **options) -> TokensInMemory:
    ids = np.arange(1, sum(lengths) + 1, dtype=np.int32)
    return TokensInMemory(ids, np.cumsum([0, *lengths]), starts, **options)


def pairs():
    found = random_pairs(6, 4, 9)
    found.reference = np.arange(12, dtype=np.float32).reshape(6, 2)
    return found


KINDS = {
    "examples": (
        lambda: Examples(in_memory([3, 5, 2, 4]), np.arange(4), np.arange(4) % 3),
        ("token_ids", "padding_mask", "segment_ids"),
    ),
    "weighted examples": (
        lambda: Examples(in_memory([3, 5, 2]), np.arange(3), np.arange(3)).weighted(np.ones(3)),
        ("token_ids", "padding_mask"),
    ),
    "whole texts": (lambda: whole_rows(random_store(5, 3, 9)), ("token_ids",)),
    "packs": (lambda: packed_rows(random_store(9, 3, 9), 12), ("token_ids", "segment_ids")),
    "pairs": (pairs, ("token_ids", "targets", "counted")),
}


@pytest.mark.parametrize("kind", KINDS)
def test_batches_are_as_their_signature_says(kind):
    make, inputs = KINDS[kind]
    rows = make()
    length = int(rows.lengths.max()) + 1
    found = rows.batch(np.array([1, 0, 1]), length, inputs, 0, step=4, seed=2)
    specs = tf.nest.map_structure(lambda array: ArraySpec(array.shape, array.dtype), found)
    assert specs == rows.signature(3, length, inputs)
    assert set(found[0]) == set(inputs)


@pytest.mark.parametrize("kind", KINDS)
def test_rows_that_are_taken_make_the_same_batches(kind):
    make, inputs = KINDS[kind]
    rows = make()
    chosen = np.array([len(rows) - 1, 0])
    taken = rows.take(chosen)
    assert len(taken) == 2
    np.testing.assert_array_equal(taken.lengths, rows.lengths[chosen])
    length = int(rows.lengths.max())
    one, other = (
        part.batch(numbers, length, inputs, 0)
        for part, numbers in ((rows, chosen), (taken, np.arange(2)))
    )
    tf.nest.map_structure(np.testing.assert_array_equal, one, other)


@st.composite
def texts(draw):
    """Lengths of pairs of texts, and how many tokens of each come before the second text."""
    lengths = draw(st.lists(st.integers(1, 9), min_size=1, max_size=9))
    return lengths, np.array([draw(st.integers(0, length)) for length in lengths], np.int32)


@given(texts(), st.sampled_from([0, 1]), st.data())
def test_segments_begin_where_the_second_text_does(found, second, draw):
    lengths, starts = found
    tokens = in_memory(lengths, starts, second_segment=second)
    rows = np.array(draw.draw(st.lists(st.integers(0, len(lengths) - 1), min_size=1)))
    through_examples = Examples(tokens, rows, rows, second_segment=second)
    for some, numbers in ((tokens, rows), (through_examples, np.arange(len(rows)))):
        made = model_inputs(some, numbers, 10, ("segment_ids",), 0)["segment_ids"]
        assert made.dtype == np.int32
        for row, segments in zip(rows, made.tolist(), strict=True):
            of_second = lengths[row] - starts[row]
            expected = [0] * starts[row] + [second] * of_second + [0] * (10 - lengths[row])
            assert segments == expected


def test_examples_keep_their_second_segment():
    tokens = in_memory([4, 3], np.array([2, 1]))
    found = Examples(tokens, np.arange(2), np.array([0, 1]), second_segment=0)
    for some in (found.take(np.array([1])), found.weighted(np.ones(2))):
        assert some.second_segment == 0


places = st.tuples(st.integers(0, 2**64 - 1), st.integers(0, 2**40), st.integers(0, 2**40))


@given(places, places)
def test_random_numbers_depend_on_seed_step_and_row_alone(one, other):
    drawn, again, others = (row_generator(*place).random(8) for place in (one, one, other))
    np.testing.assert_array_equal(drawn, again)
    assert (drawn == others).all() == (one == other)


def test_random_numbers_of_neighbours_are_not_alike():
    drawn = np.array(
        [row_generator(s, t, r).random(50) for s in range(3) for t in range(5) for r in range(20)]
    )
    assert len(np.unique(drawn)) == drawn.size
    assert abs(drawn.mean() - 0.5) < 0.01 and np.abs(drawn.mean(axis=0) - 0.5).max() < 0.06


def test_a_spec_has_a_tuple_and_a_dtype():
    assert ArraySpec([2, None], "int32") == ArraySpec((2, None), np.int32)
    assert ArraySpec((2,), np.int32) != ArraySpec((2,), np.float32)
