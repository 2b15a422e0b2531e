"""Rows of tokens: every prediction once, its target the next token, nothing of another text."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kerasllm.data.sequences import full_blocks, packed_rows, scoring_inputs, whole_rows, windows
from tests.training.tiny_decoder import MemoryStore

PAD = -1


def numbered(lengths):
    """Rows in which each token is another, so that a pair of tokens has one place."""
    ends = np.cumsum(lengths)
    return MemoryStore([range(end - length, end) for end, length in zip(ends, lengths)])


def predictions(sequences, inputs=("token_ids", "segment_ids")):
    """All pairs of a token and its target that count, and all pairs in one segment."""
    width = int(sequences.lengths.max())
    x, y, weights = sequences.batch(np.arange(len(sequences)), width, inputs, PAD)
    real = x["segment_ids"] > 0
    assert (x["token_ids"][~real] == PAD).all() and (weights[~real] == 0).all()
    return list(zip(x["token_ids"][weights > 0], y[weights > 0])), x, y


lengths = st.lists(st.integers(1, 40), min_size=1, max_size=30)


def expected(store):
    return sorted((int(a), int(b)) for row in store.rows for a, b in itertools.pairwise(row))


@settings(max_examples=60, deadline=None)
@given(lengths, st.integers(2, 50), st.integers(0, 3))
def test_full_blocks_hold_every_prediction_once_in_rows_of_one_length(sizes, length, seed):
    store = numbered(sizes)
    if max(sizes) < 2:
        return
    for sequences in (full_blocks(store, length), full_blocks(store, length, seed=seed)):
        pairs, _, _ = predictions(sequences)
        assert sorted(pairs) == expected(store)
        assert (sequences.lengths[:-1] == length).all() and sequences.lengths[-1] <= length


@settings(max_examples=60, deadline=None)
@given(lengths, st.integers(0, 30))
def test_packs_hold_whole_texts_apart_from_each_other(sizes, more):
    store = numbered(sizes)
    if max(sizes) < 2:
        return
    length = max(sizes) + more
    sequences = packed_rows(store, length)
    pairs, x, _y = predictions(sequences)
    assert sorted(pairs) == expected(store)
    assert (sequences.lengths <= length).all()
    first = np.concatenate([[0], np.cumsum(store.lengths)])
    text = np.searchsorted(first, x["token_ids"], side="right")
    for row, segments in zip(text, x["segment_ids"], strict=True):
        for segment in np.unique(segments[segments > 0]):
            assert len(set(row[segments == segment])) == 1
        assert len(set(zip(row[segments > 0], segments[segments > 0]))) == segments.max()


def test_packs_leave_little_room():
    rng = np.random.default_rng(0)
    store = numbered(rng.integers(5, 120, 500))
    sequences = packed_rows(store, 256)
    assert sequences.lengths.sum() / (len(sequences) * 256) > 0.99


@settings(max_examples=60, deadline=None)
@given(lengths, st.integers(1, 20), st.data())
def test_windows_count_every_prediction_once_with_context_before_it(sizes, length, data):
    store = numbered(sizes)
    if max(sizes) < 2:
        return
    stride = data.draw(st.integers(1, length))
    sequences = windows(store, length, stride)
    pairs, _, _ = predictions(sequences)
    assert sorted(pairs) == expected(store)
    # All but a text's first window count their last `stride` predictions at most.
    for row in range(len(sequences)):
        _, start, count = sequences.pieces[row]
        if start:
            assert count - sequences.context[row] <= stride
    assert sequences.trained_tokens == len(pairs)


def test_the_marks_are_those_of_the_targets():
    store = MemoryStore([[1, 2, 3, 4]], [np.array([0, 0, 1, 1], np.uint8)])
    x, y, weights = whole_rows(store).batch(np.array([0]), 5, ("token_ids",), 0)
    assert x["token_ids"].tolist() == [[1, 2, 3, 0, 0]]
    assert y.tolist() == [[2, 3, 4, 0, 0]]
    assert weights.tolist() == [[0, 1, 1, 0, 0]]
    assert whole_rows(store).trained_tokens == 2
    made = scoring_inputs(whole_rows(store), np.array([0]), 3, ("token_ids", "counted"), 0)
    assert made["counted"].tolist() == [[0, 1, 1]] and made["targets"].tolist() == [[2, 3, 4]]


def test_rows_can_be_taken():
    store = numbered([5, 9, 3])
    sequences = packed_rows(store, 12)
    taken = sequences.take(np.array([len(sequences) - 1, 0]))
    whole, some = (
        s.batch(np.arange(len(s)), 12, ("token_ids", "segment_ids"), PAD)
        for s in (sequences, taken)
    )
    assert (some[0]["token_ids"] == whole[0]["token_ids"][[-1, 0]]).all()
    assert (some[1] == whole[1][[-1, 0]]).all()


def test_a_text_that_no_row_holds_is_refused():
    with pytest.raises(ValueError, match="length=5"):
        packed_rows(numbered([9]), 5)
    with pytest.raises(ValueError, match="stride=0"):
        windows(numbered([9]), 5, 0)
