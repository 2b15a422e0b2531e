"""The stratified split: what it promises for any labels."""

import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kerasllm.data.split import split_label_sets, split_stratified


@given(
    labels=st.lists(st.sampled_from("abcdefgh"), max_size=120),
    fraction=st.floats(0, 0.999),
    seed=st.integers(0, 2**32),
)
def test_any_split_is_a_proportionate_partition(labels, fraction, seed):
    train, validation = split_stratified(labels, fraction, seed)
    assert train.dtype == validation.dtype == np.int64
    assert sorted([*train, *validation]) == list(range(len(labels)))
    assert (np.diff(train) > 0).all() and (np.diff(validation) > 0).all()
    named = np.array(labels, dtype=str)
    can_spare = False
    for name in set(labels):
        count, held_out = (named == name).sum(), (named[validation] == name).sum()
        assert held_out < count, "every class trains"
        assert abs(held_out - count * fraction) < 1 + 1e-6 or count == 1
        assert held_out == 0 or count > 1
        can_spare = can_spare or count > 1
    assert bool(len(validation)) == bool(can_spare and fraction > 0)
    again = split_stratified(labels, fraction, seed)
    assert (again[0] == train).all() and (again[1] == validation).all()


@given(counts=st.lists(st.integers(20, 200), min_size=1, max_size=6), seed=st.integers(0, 9))
def test_the_total_is_right_when_classes_are_large(counts, seed):
    labels = np.repeat(np.arange(len(counts)), counts)
    _, validation = split_stratified(labels, 0.1, seed)
    assert len(validation) == int(round(sum(counts) * 0.1, 9) + 0.5)


def test_the_largest_remainders_get_the_rest():
    labels = ["a"] * 17 + ["b"] * 14 + ["c"] * 9
    _, validation = split_stratified(labels, 0.1, 0)
    held_out = [labels[row] for row in validation]
    assert {name: held_out.count(name) for name in "abc"} == {"a": 2, "b": 1, "c": 1}


def test_the_seed_chooses_the_rows():
    labels = [0, 1] * 500
    splits = [tuple(split_stratified(labels, 0.2, seed)[1]) for seed in range(20)]
    assert len(set(splits)) == 20
    # Over many seeds each row is held out about as often as any other.
    often = np.bincount(np.concatenate([split_stratified(labels, 0.2, s)[1] for s in range(400)]))
    assert often.min() > 40 and often.max() < 125


def test_the_split_is_the_same_in_every_version():
    assert split_stratified(list("aabbbbccccab"), 0.3, 0)[1].tolist() == [0, 3, 5, 8]


def test_strings_and_numbers_split_alike():
    numbers = [0, 1, 1, 0, 1, 1, 1, 0] * 5
    strings = np.array(["no", "yes"])[numbers]
    assert (split_stratified(numbers, 0.25, 3)[1] == split_stratified(strings, 0.25, 3)[1]).all()


def test_small_cases():
    train, validation = split_stratified(["a", "b", "c"], 0.5, 0)
    assert train.tolist() == [0, 1, 2] and len(validation) == 0
    assert len(split_stratified(["a"] * 5, 0.1, 0)[1]) == 1, "at least one row, if there is one"
    assert len(split_stratified(["a"] * 5, 0.0, 0)[1]) == 0
    assert len(split_stratified([], 0.5, 0)[0]) == 0


@pytest.mark.parametrize("fraction", [-0.1, 1, 1.5, float("nan")])
def test_a_fraction_out_of_range(fraction):
    with pytest.raises(ValueError, match="at least 0 and below 1"):
        split_stratified([0, 1], fraction, 0)


def label_sets(rows, labels, each, seed):
    """Random sets of labels of unequal frequency, bool `[rows, labels]`."""
    chances = np.random.default_rng(seed).random((rows, labels)) ** (1 / np.arange(1, labels + 1))
    return np.argsort(np.argsort(chances, axis=1), axis=1) < each


@pytest.mark.parametrize(("rows", "labels", "each"), [(2000, 60, 4), (2000, 60, 6), (500, 20, 3)])
def test_rows_with_several_labels_are_held_out_in_proportion(rows, labels, each):
    # Nearly every set occurs once: as classes, next to none would be held out.
    given = label_sets(rows, labels, each, 0)
    _train, validation = split_label_sets(np.packbits(given, axis=1), 0.1, 0)
    assert len(validation) == rows / 10
    assert given[validation].sum() == pytest.approx(each * rows / 10, rel=0.01)
    expected, found = given.sum(0) / 10, given[validation].sum(0)
    assert (np.abs(found - expected) <= 1 + 0.05 * expected).all()


@given(
    sets=st.lists(st.sets(st.integers(0, 11), max_size=4), min_size=1, max_size=120),
    fraction=st.floats(0, 0.5),
    seed=st.integers(0, 2**32),
)
def test_any_split_of_label_sets_is_a_partition_in_which_every_label_trains(sets, fraction, seed):
    given = np.zeros((len(sets), 12), bool)
    for row, members in enumerate(sets):
        given[row, list(members)] = True
    bits = np.packbits(given, axis=1)
    train, validation = split_label_sets(bits, fraction, seed)
    assert train.dtype == validation.dtype == np.int64
    assert sorted([*train, *validation]) == list(range(len(sets)))
    assert (given[train].any(axis=0) == given.any(axis=0)).all() and len(train)
    again = split_label_sets(bits, fraction, seed)
    assert (again[0] == train).all() and (again[1] == validation).all()
    spare = given.sum(axis=0) > 1 + 6 * fraction * len(sets)
    total = int(round(len(sets) * fraction, 9) + 0.5)
    assert len(validation) <= max(total, 1)
    if spare.all() and len(sets) > 1 and fraction:
        assert len(validation) == max(total, 1)


def test_common_label_sets_are_held_out_in_proportion():
    given = np.repeat([[1, 0, 0], [1, 1, 0], [0, 0, 1], [0, 0, 0]], [400, 200, 100, 300], axis=0)
    bits = np.packbits(given, axis=1)
    _, validation = split_label_sets(bits, 0.1, 0)
    held_out = np.unique(bits[validation, 0], return_counts=True)[1]
    assert np.abs(held_out - [30, 10, 40, 20]).max() <= 2 and len(validation) == 100


def test_the_seed_chooses_the_label_sets():
    bits = np.packbits(label_sets(400, 30, 3, 0), axis=1)
    splits = {tuple(split_label_sets(bits, 0.2, seed)[1]) for seed in range(10)}
    assert len(splits) == 10


def test_many_label_sets_are_split_quickly():
    bits = np.packbits(label_sets(50_000, 60, 4, 0), axis=1)
    start = time.process_time()
    _, validation = split_label_sets(bits, 0.1, 0)
    assert len(validation) == 5000 and time.process_time() - start < 5


@pytest.mark.parametrize("fraction", [-0.1, 1, float("nan")])
def test_a_fraction_of_label_sets_out_of_range(fraction):
    with pytest.raises(ValueError, match="at least 0 and below 1"):
        split_label_sets(np.zeros((2, 1), np.uint8), fraction, 0)
