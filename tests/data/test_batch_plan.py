"""A plan uses every row once, pads little, and depends on nothing but its arguments."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kerasllm.data.batch_plan import EpochPlans, bucket_boundaries, plan_batches

lengths_lists = st.lists(st.integers(1, 60), min_size=1, max_size=200)


@given(lengths_lists, st.integers(1, 9), st.integers(1, 6), st.none() | st.integers(0, 5))
def test_every_row_stands_once_in_a_batch_that_holds_it(lengths, batch_size, count, seed):
    lengths = np.array(lengths)
    plan = plan_batches(lengths, batch_size, bucket_boundaries(lengths, count), seed=seed)
    assert sorted(plan.order) == list(range(len(lengths)))
    assert len(plan) == -(-len(lengths) // batch_size)
    sizes = [len(plan.rows(step)) for step in range(len(plan))]
    assert all(size == batch_size for size in sizes[:-1]) and 1 <= sizes[-1] <= batch_size
    for step in range(len(plan)):
        rows = plan.rows(step)
        assert lengths[rows].max() <= plan.widths[step]
        assert plan.real_tokens[step] == lengths[rows].sum()
    assert len(plan.shapes) <= count
    assert 0.0 <= plan.padding < 1.0


@given(lengths_lists, st.integers(0, 9), st.integers(0, 9))
def test_a_plan_is_a_pure_function_of_its_arguments(lengths, seed, epoch):
    boundaries = bucket_boundaries(np.array(lengths), 4)
    first, second = (
        plan_batches(np.array(lengths), 4, boundaries, seed=seed, epoch=epoch) for _ in range(2)
    )
    np.testing.assert_array_equal(first.order, second.order)
    np.testing.assert_array_equal(first.widths, second.widths)


@given(lengths_lists, st.integers(1, 9), st.integers(1, 6), st.none() | st.integers(0, 5))
def test_the_plans_of_all_epochs_keep_to_the_same_lengths_and_steps(lengths, size, buckets, seed):
    plans = EpochPlans(lengths, size, buckets, seed=seed)
    for epoch in (0, 1):
        plan = plans(epoch)
        assert len(plan) == plans.steps
        assert set(plan.shapes) <= set(plans.boundaries.tolist())
        expected = plan_batches(lengths, size, plans.boundaries, seed=seed, epoch=epoch)
        np.testing.assert_array_equal(plan.order, expected.order)


def test_epochs_and_seeds_differ():
    lengths = np.random.default_rng(0).integers(3, 50, 500)
    boundaries = bucket_boundaries(lengths, 8)
    orders = [
        plan_batches(lengths, 16, boundaries, seed=seed, epoch=epoch).order.tolist()
        for seed in (0, 1)
        for epoch in (0, 1)
    ]
    assert all(one != other for one, other in itertools.combinations(orders, 2))


def test_batches_do_not_come_in_the_order_of_their_length():
    lengths = np.random.default_rng(0).integers(3, 50, 3000)
    plan = plan_batches(lengths, 16, bucket_boundaries(lengths, 8), seed=0)
    steps = np.arange(len(plan))
    assert abs(np.corrcoef(steps, plan.widths)[0, 1]) < 0.2


@settings(max_examples=50)
@given(st.lists(st.integers(1, 12), min_size=1, max_size=30), st.integers(1, 4))
def test_boundaries_pad_as_little_as_the_best_of_all_choices(lengths, count):
    lengths = np.array(lengths)

    def padded(boundaries):
        boundaries = np.array(boundaries)
        return boundaries[np.searchsorted(boundaries, lengths)].sum()

    distinct = np.unique(lengths)
    best = min(
        padded(choice)
        for size in range(1, min(count, len(distinct)) + 1)
        for choice in itertools.combinations(distinct, size)
        if choice[-1] == lengths.max()
    )
    boundaries = bucket_boundaries(lengths, count)
    assert len(boundaries) <= count and boundaries[-1] == lengths.max()
    assert padded(boundaries) == best


def test_boundaries_of_many_distinct_lengths_stay_few_and_hold_the_longest():
    lengths = np.arange(1, 20_001)
    boundaries = bucket_boundaries(lengths, 8)
    assert len(boundaries) == 8 and boundaries[-1] >= 20_000
    assert np.all(np.diff(boundaries) > 0)


def test_a_row_longer_than_the_boundaries_is_refused():
    with pytest.raises(ValueError, match="a row of 9 tokens"):
        plan_batches(np.array([3, 9]), 2, np.array([4]))
