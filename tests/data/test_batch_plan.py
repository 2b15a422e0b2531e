"""A plan uses every row once, pads little, and depends on nothing but its arguments."""

import hashlib
import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kerasllm.data.batch_plan import (
    EpochPlans,
    bucket_boundaries,
    bucket_pairs,
    plan_batches,
)

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


def test_a_plan_stays_as_it_was_in_earlier_versions():
    # A run that is resumed must find its batches again.
    lengths = np.random.default_rng(0).integers(3, 50, 500)
    plan = EpochPlans(lengths, 16, 8, seed=1)(2)
    content = b"".join(array.astype("<i8").tobytes() for array in (plan.order, plan.widths))
    assert hashlib.sha256(content).hexdigest() == (
        "b46b5ee3e0183a95ab540d5b50cd57d0c8c277984ff453a13b7863a3f977c79f"
    )


two_lengths = st.lists(
    st.tuples(st.integers(1, 40), st.integers(1, 30)), min_size=1, max_size=150
).map(np.array)


@settings(max_examples=60, deadline=None)
@given(two_lengths, st.integers(1, 9), st.integers(1, 6), st.none() | st.integers(0, 5))
def test_batches_of_two_widths_hold_their_rows_in_few_shapes(lengths, batch_size, count, seed):
    plans = EpochPlans(lengths, batch_size, count, seed=seed)
    assert plans.shapes[-1] == tuple(lengths.max(axis=0))
    plan = plans(1)
    assert sorted(plan.order) == list(range(len(lengths)))
    assert len(plan) == plans.steps and plan.widths.shape == (plans.steps, 2)
    assert plan.widths.dtype == np.int32
    assert len(plan.shapes) <= len(plans.shapes) <= count
    assert set(plan.shapes) <= set(plans.shapes) and plan.shapes == sorted(plan.shapes)
    processed = 0
    for step in range(len(plan)):
        rows = plan.rows(step)
        assert (lengths[rows].max(axis=0) <= plan.widths[step]).all()
        assert plan.real_tokens[step] == lengths[rows].sum()
        assert plan.width(step) == tuple(plan.widths[step])
        processed += len(rows) * sum(plan.width(step))
    assert plan.processed_tokens == processed
    assert plan.padding == pytest.approx(1 - lengths.sum() / processed)


def padded(lengths, pairs):
    """Returns the tokens of rows that each take the smallest pair that holds them."""
    holds = (lengths[:, None] <= np.array(pairs)).all(axis=2)
    return np.where(holds, np.sum(pairs, axis=1), np.iinfo(np.int64).max).min(axis=1).sum()


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.tuples(st.integers(1, 5), st.integers(1, 4)), min_size=1, max_size=20).map(np.array)
)
def test_two_pairs_pad_as_little_as_the_best_two(lengths):
    longest = tuple(lengths.max(axis=0))
    best = min(
        padded(lengths, [pair, longest])
        for pair in itertools.product(range(1, longest[0] + 1), range(1, longest[1] + 1))
    )
    assert padded(lengths, bucket_pairs(lengths, 2)) == best


def test_more_pairs_leave_little_padding_where_source_and_target_go_together():
    random = np.random.default_rng(0)
    source = random.integers(5, 400, 4000)
    target = np.maximum((source * random.normal(0.5, 0.05, 4000)).astype(int), 1)
    lengths = np.stack([source, target], axis=1)
    padding = [EpochPlans(lengths, 16, count, seed=0)(0).padding for count in (1, 4, 8, 16)]
    assert padding == sorted(padding, reverse=True)
    assert padding[0] > 0.45 and padding[-1] < 0.1


def test_pairs_of_many_lengths_hold_the_longest():
    lengths = np.stack([np.arange(1, 3001), np.arange(3000, 0, -1)], axis=1)
    pairs = bucket_pairs(lengths, 4)
    assert len(pairs) == 4 and (pairs[-1] >= 3000).all() and (pairs[-1] <= 3000 + 12).all()


def test_a_pair_longer_than_the_last_is_refused():
    with pytest.raises(ValueError, match="row of .3 9. tokens"):
        plan_batches(np.array([[3, 9]]), 2, np.array([[4, 4]]))
    assert EpochPlans(np.array([[3, 9]]), 2, 4, pad_to=9).shapes == [(9, 9)]


@pytest.mark.parametrize("shape", [(0,), (0, 2)])
def test_no_rows_make_an_empty_plan(shape):
    plans = EpochPlans(np.empty(shape, int), 2, 4, seed=0)
    plan = plans(0)
    assert (plans.steps, len(plan), plan.shapes) == (0, 0, [])
    assert (plan.processed_tokens, plan.padding) == (0, 0.0)
