"""Which tokens of rows are hidden: a function of what is drawn for a row, and of its tokens."""

from types import SimpleNamespace

import numpy as np
import pytest

from kerasllm.data.masking import Masking, mask_rows
from kerasllm.data.rows import row_generator

# Ids from 5 to 99 begin a word, from 100 to 199 they continue one.
_SIZE, _MASK = 200, 4


def _vocabulary():
    ids = np.arange(_SIZE)
    special = ids < 5
    return SimpleNamespace(
        special=special,
        continues=ids >= 100,
        words=np.flatnonzero(~special).astype(np.int32),
        mask_id=_MASK,
    )


def _rows(count: int, longest: int, seed: int = 0):
    random = np.random.default_rng(seed)
    lengths = random.integers(8, longest + 1, count)
    ids = np.zeros((count, longest), np.int32)
    for row, length in zip(ids, lengths, strict=True):
        row[:length] = np.where(
            random.random(length) < 0.4,
            random.integers(100, 200, length),
            random.integers(5, 100, length),
        )
        row[0], row[1], row[length - 1] = 2, 7, 3
    return ids, lengths


def _masked(ids, lengths, masking, step=0):
    generators = [row_generator(0, step, row) for row in range(len(ids))]
    return mask_rows(ids, lengths, generators, _vocabulary(), masking)


@pytest.mark.parametrize("units", ["tokens", "whole_words", "spans"])
def test_the_share_of_tokens_is_hidden_and_replaced_as_told(units):
    ids, lengths = _rows(400, 64)
    found = _masked(ids, lengths, Masking(units))
    wanted = ((lengths - 2) * 0.15 + 0.5).astype(int)
    chosen = found.counted.sum(axis=1)
    assert (chosen <= wanted).all() and chosen.sum() > 0.97 * wanted.sum()
    assert (chosen == wanted).all() or units != "tokens"
    rows = np.arange(len(ids))[:, None]
    at = ids[rows, found.positions][found.counted]
    np.testing.assert_array_equal(at, found.targets[found.counted])
    assert (at >= 5).all()
    new = found.ids[rows, found.positions][found.counted]
    assert np.mean(new == _MASK) == pytest.approx(0.8, abs=0.04)
    assert np.mean(new == at) == pytest.approx(0.1, abs=0.03)
    # Nothing else is touched.
    same = found.ids == ids
    same[
        np.broadcast_to(rows, found.positions.shape)[found.counted], found.positions[found.counted]
    ] = True
    assert same.all()


def test_whole_words_are_hidden_with_all_their_tokens():
    ids, lengths = _rows(100, 64)
    found = _masked(ids, lengths, Masking("whole_words"))
    hidden = _hidden(ids, found)
    continues = (ids >= 100) & (np.arange(64) < lengths[:, None] - 1)
    # A token that continues a word is hidden with the one before it, or neither is.
    before = np.roll(hidden, 1, axis=1)
    assert (hidden == before)[continues].all()


def test_spans_are_of_neighbours_and_of_whole_words():
    ids, lengths = _rows(300, 128)
    ids[ids >= 100] -= 95
    whole, single = (
        _hidden(ids, _masked(ids, lengths, Masking(units))) for units in ("spans", "tokens")
    )

    def mean_run(hidden):
        begins = hidden & ~np.roll(hidden, 1, axis=1)
        return hidden.sum() / begins.sum()

    # The mean of the lengths of SpanBERT is 3.8; the last span of a row is cut.
    assert 2.5 < mean_run(whole) < 5 and mean_run(single) < 1.4


def _hidden(ids, found):
    hidden = np.zeros(ids.shape, bool)
    rows = np.broadcast_to(np.arange(len(ids))[:, None], found.positions.shape)
    hidden[rows[found.counted], found.positions[found.counted]] = True
    return hidden


@pytest.mark.parametrize("units", ["tokens", "whole_words", "spans"])
def test_masks_depend_on_seed_step_and_row_alone(units):
    ids, lengths = _rows(20, 40)
    masking = Masking(units)
    one = _masked(ids, lengths, masking, step=3)
    np.testing.assert_array_equal(one.ids, _masked(ids, lengths, masking, step=3).ids)
    assert (one.ids != _masked(ids, lengths, masking, step=4).ids).any()
    # Neither on the padding, nor on the rows beside it.
    wider = np.pad(ids, [(0, 0), (0, 24)])
    padded = _masked(wider, lengths, masking, step=3)
    np.testing.assert_array_equal(padded.ids[:, :40], one.ids)
    generators = [row_generator(0, 3, 7)]
    alone = mask_rows(ids[7:8], lengths[7:8], generators, _vocabulary(), masking)
    np.testing.assert_array_equal(alone.ids[0], one.ids[7])


@pytest.mark.parametrize("units", ["tokens", "whole_words", "spans"])
def test_odd_rows_are_no_problem(units):
    # Nothing but special tokens; one word of many tokens; one token.
    ids = np.array([[2, 1, 3, 0, 0], [2, 7, 120, 130, 3], [2, 9, 3, 0, 0]], np.int32)
    found = _masked(ids, np.array([3, 5, 3]), Masking(units))
    assert found.counted.sum(axis=1).tolist() == [0, 1, 1]
    assert found.targets[2, 0] == 9
