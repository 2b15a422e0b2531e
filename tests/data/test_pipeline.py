"""What replicas are given of a plan: together the batch of one device, however many they are."""

import itertools

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from kerasllm.data.batch_plan import EpochPlans
from kerasllm.data.examples import Examples
from kerasllm.data.pipeline import (
    prediction_dataset,
    prediction_rows,
    replica_rows,
    training_dataset,
    without_tuner,
)
from kerasllm.data.rows import ArraySpec, TokensInMemory, model_inputs, row_generator

INPUTS = ("token_ids", "padding_mask", "segment_ids")


class Replicas:
    """Stands for a strategy: distributing is to make the dataset of each worker."""

    def __init__(self, replicas: int, workers: int):
        self.num_replicas_in_sync = replicas
        self.workers = workers

    def distribute_datasets_from_function(self, function):
        return [
            function(tf.distribute.InputContext(self.workers, worker, self.num_replicas_in_sync))
            for worker in range(self.workers)
        ]

    def steps(self, datasets, count: int | None = None) -> list[list]:
        """Returns the parts of all replicas at each step, as arrays."""
        if self.num_replicas_in_sync == 1:
            return [[part] for part in itertools.islice(datasets.as_numpy_iterator(), count)]
        local = self.num_replicas_in_sync // self.workers
        of_workers = []
        for dataset in datasets:
            parts = dataset.as_numpy_iterator()
            parts = list(itertools.islice(parts, count and count * local))
            assert len(parts) % local == 0
            of_workers.append([parts[i : i + local] for i in range(0, len(parts), local)])
        return [list(itertools.chain(*parts)) for parts in zip(*of_workers, strict=True)]


@st.composite
def replicas(draw) -> Replicas:
    workers = draw(st.integers(1, 3))
    return Replicas(workers * draw(st.integers(1, 3)), workers)


@st.composite
def examples(draw) -> Examples:
    """Rows that can be told apart: row 4 has label 4, and its tokens are 5 5 5."""
    lengths = np.array(draw(st.lists(st.integers(1, 6), min_size=1, max_size=20)))
    rows = np.arange(len(lengths))
    ids = np.repeat(rows + 1, lengths).astype(np.int32)
    tokens = TokensInMemory(ids, np.concatenate([[0], np.cumsum(lengths)]))
    return Examples(tokens, rows, rows.astype(np.int32), (rows + 0.5).astype(np.float32))


def plans_of(data: Examples, batch_size: int, **options) -> EpochPlans:
    return EpochPlans(data.lengths, batch_size, 2, **options)


@settings(max_examples=20)
@given(examples(), replicas(), st.integers(1, 8), st.integers(1, 3))
def test_replicas_together_get_each_row_of_the_batch_once(data, scope, batch_size, accumulate):
    plans = plans_of(data, batch_size, seed=0)
    dataset = training_dataset(
        data, plans, epochs=2, inputs=INPUTS, pad_id=0, accumulate=accumulate, strategy=scope
    )
    steps = scope.steps(dataset, 2 * plans.steps)
    assert len(steps) == 2 * plans.steps
    for step, parts in enumerate(steps):
        plan, number = plans(step // plans.steps), step % plans.steps
        expected = plan.rows(number)
        seen = []
        for x, y, weight in parts:
            rows = replica_rows(batch_size, scope.num_replicas_in_sync, accumulate)
            assert len(y) == rows and rows % accumulate == 0
            assert {part.shape for part in x.values()} == {(rows, plan.widths[number])}
            # A padding row repeats a real one: its tokens are not empty.
            np.testing.assert_array_equal(x["padding_mask"].sum(1), data.lengths[y])
            np.testing.assert_array_equal(x["token_ids"], (y[:, None] + 1) * x["padding_mask"])
            assert not x["segment_ids"].any()
            assert set(y) <= set(expected)
            seen += [(row, mass) for row, mass in zip(y, weight, strict=True) if mass]
        assert sorted(seen) == sorted((row, data.weights[row]) for row in expected)


@settings(max_examples=10)
@given(examples(), replicas(), st.integers(1, 8), st.data())
def test_a_stream_from_any_step_is_the_rest_of_the_whole(data, scope, batch_size, draw):
    plans = plans_of(data, batch_size, seed=1)
    count = 2 * plans.steps
    first = draw.draw(st.integers(0, count))
    whole, rest = (
        scope.steps(
            training_dataset(
                data, plans, epochs=2, inputs=INPUTS, pad_id=0, first_step=begin, strategy=scope
            ),
            count - begin,
        )
        for begin in (0, first)
    )
    assert len(rest) == count - first
    for parts in zip(whole[first:], rest, strict=True):
        tf.nest.map_structure(np.testing.assert_array_equal, *parts)


@settings(max_examples=10)
@given(examples(), st.integers(1, 8), st.integers(1, 3))
def test_replicas_make_the_same_parts_whatever_workers_they_are_on(data, batch_size, local):
    plans = plans_of(data, batch_size, seed=2)
    one, three = (
        scope.steps(
            training_dataset(data, plans, epochs=1, inputs=INPUTS, pad_id=0, strategy=scope),
            plans.steps,
        )
        for scope in (Replicas(3 * local, 1), Replicas(3 * local, 3))
    )
    tf.nest.map_structure(np.testing.assert_array_equal, one, three)


class Masked:
    """Texts with each token masked by chance: rows that draw at random."""

    def __init__(self, tokens: TokensInMemory):
        self.tokens = tokens
        self.lengths = tokens.lengths

    def __len__(self):
        return len(self.lengths)

    def batch(self, rows, length, inputs, pad_id, *, step=0, seed=0):
        x = model_inputs(self.tokens, rows, length, inputs, pad_id)
        masked = [row_generator(seed, step, row).random(length) < 0.5 for row in rows]
        return {"token_ids": np.where(masked, -1, x["token_ids"])}, rows, np.ones(len(rows), "f4")

    def signature(self, rows, length, inputs):
        ids = ArraySpec((rows, length), np.int32)
        return {"token_ids": ids}, ArraySpec((rows,), np.int64), ArraySpec((rows,), np.float32)


def masked_rows(
    data: Examples, plans: EpochPlans, scope: Replicas, first: int = 0, seed: int = 0
) -> list[dict]:
    """Returns what each row of each step becomes, by the row's number."""
    stream = training_dataset(
        Masked(data.store),
        plans,
        epochs=2,
        inputs=("token_ids",),
        pad_id=0,
        first_step=first,
        seed=seed,
        strategy=scope,
    )
    return [
        {
            int(row): ids.tolist()
            for x, y, _ in parts
            for row, ids in zip(y, x["token_ids"], strict=True)
        }
        for parts in scope.steps(stream, 2 * plans.steps - first)
    ]


@settings(max_examples=15)
@given(examples(), replicas(), st.integers(1, 8), st.data())
def test_what_is_drawn_is_the_same_after_a_resume_and_on_any_replicas(
    data, scope, batch_size, draw
):
    plans = plans_of(data, batch_size, seed=3)
    whole = masked_rows(data, plans, Replicas(1, 1), seed=5)
    first = draw.draw(st.integers(0, 2 * plans.steps))
    assert masked_rows(data, plans, scope, first, seed=5) == whole[first:]


def test_each_step_and_seed_draws_a_new_mask():
    lengths = np.full(8, 30)
    tokens = TokensInMemory(np.ones(240, np.int32), np.arange(9) * 30)
    data = Examples(tokens, np.arange(8), np.arange(8))
    plans = EpochPlans(lengths, 8, 1, seed=0)
    one, other = (masked_rows(data, plans, Replicas(1, 1), seed=seed) for seed in (0, 1))
    for row in range(8):
        found = [tuple(step[row]) for step in (*one, *other)]
        assert len(set(found)) == len(found) == 4


class Translations:
    """Rows of a source and a target whose tokens are all the number of the row."""

    def __init__(self, lengths: np.ndarray):
        self.lengths = lengths

    def __len__(self):
        return len(self.lengths)

    def batch(self, rows, length, inputs, pad_id, *, step=0, seed=0):
        source, target = (
            np.where(np.arange(width) < self.lengths[rows, side, None], rows[:, None] + 1, pad_id)
            for side, width in enumerate(length)
        )
        x = {"source_ids": source.astype(np.int32), "target_ids": target.astype(np.int32)}
        return x, rows, np.ones(len(rows), np.float32)

    def signature(self, rows, length, inputs):
        source, target = (ArraySpec((rows, width), np.int32) for width in length)
        specs = {"source_ids": source, "target_ids": target}
        return specs, ArraySpec((rows,), np.int64), ArraySpec((rows,), np.float32)


two_lengths = st.lists(st.tuples(st.integers(1, 9), st.integers(1, 6)), min_size=1, max_size=20)


@settings(max_examples=15)
@given(two_lengths.map(np.array), replicas(), st.integers(1, 8), st.integers(1, 4))
def test_source_and_target_are_padded_to_a_width_each(lengths, scope, batch_size, buckets):
    rows, plans = Translations(lengths), EpochPlans(lengths, batch_size, buckets, seed=0)
    stream = training_dataset(rows, plans, epochs=1, inputs=(), pad_id=0, strategy=scope)
    steps = scope.steps(stream, plans.steps)
    for number, parts in enumerate(steps):
        for x, y, _ in parts:
            widths = x["source_ids"].shape[1], x["target_ids"].shape[1]
            assert widths == plans(0).width(number)
            for side, ids in enumerate(x.values()):
                np.testing.assert_array_equal((ids == y[:, None] + 1).sum(1), lengths[y, side])
    seen = {int(row) for parts in steps for _, y, w in parts for row in y[w > 0]}
    assert seen == set(range(len(lengths)))


def test_widths_that_all_batches_share_are_known_to_tensorflow():
    for pad_to, known in ((None, [2, None, 4]), ((8, 6), [2, 8, 6])):
        lengths = np.array([[3, 4], [8, 4], [3, 4], [8, 4]])
        plans = EpochPlans(lengths, 2, 2, seed=0, pad_to=pad_to)
        stream = training_dataset(Translations(lengths), plans, epochs=1, inputs=(), pad_id=0)
        x, _, _ = stream.element_spec
        assert [*x["source_ids"].shape, x["target_ids"].shape[1]] == known


def test_predictions_of_sources_and_targets_keep_to_their_plan():
    lengths = np.array([[3, 2], [8, 4], [3, 1]])
    plan = EpochPlans(lengths, 2, 2)()
    rows = Translations(lengths)
    stream = prediction_dataset(
        rows,
        plan,
        inputs=("source_ids", "target_ids"),
        pad_id=0,
        make=lambda tokens, *batch: tokens.batch(*batch)[0],
        signature={
            name: ArraySpec((None, None), np.int32) for name in ("source_ids", "target_ids")
        },
    )
    found = [(x["source_ids"].shape[1], x["target_ids"].shape[1]) for x in stream]
    assert found == [(3, 2), (8, 4)]
    assert prediction_rows(plan).tolist() == [0, 2, 1]


@settings(max_examples=20)
@given(examples(), replicas(), st.integers(1, 8))
def test_every_row_is_predicted_and_found_again(data, scope, batch_size):
    plan = plans_of(data, batch_size)()
    dataset = prediction_dataset(data, plan, inputs=INPUTS, pad_id=0, strategy=scope)
    steps = scope.steps(dataset)
    assert len(steps) == len(plan)
    outputs = np.concatenate([x["token_ids"][:, 0] for parts in steps for x in parts])
    rows = prediction_rows(plan, scope)
    np.testing.assert_array_equal(outputs, rows + 1)
    assert set(rows) == set(range(len(data)))
    if scope.num_replicas_in_sync == 1:
        assert len(rows) == len(data)
    else:
        assert len({x["token_ids"].shape[0] for parts in steps for x in parts}) == 1


@given(st.integers(1, 1000), st.integers(1, 64), st.integers(1, 16))
def test_replica_rows_hold_the_batch_and_no_more_than_they_must(batch_size, replicas, accumulate):
    rows = replica_rows(batch_size, replicas, accumulate)
    assert rows % accumulate == 0
    assert rows * replicas >= batch_size > (rows - accumulate) * replicas


def test_one_replica_gets_a_dataset_that_ends():
    data = Examples(
        TokensInMemory(np.arange(1, 7, dtype=np.int32), np.arange(0, 7, 2)),
        np.arange(3),
        np.zeros(3, np.int32),
    )
    plans = plans_of(data, 2, seed=0)
    options = {"epochs": 3, "inputs": ("token_ids",), "pad_id": 0}
    dataset = training_dataset(data, plans, first_step=1, **options)
    assert int(dataset.cardinality()) == len(list(dataset)) == 5
    # All rows have the same length: the shape is known before the first batch, as a TPU wants it.
    assert dataset.element_spec[0]["token_ids"].shape == [2, 2]
    (endless,) = training_dataset(data, plans, strategy=Replicas(2, 1), **options)
    assert int(endless.cardinality()) == tf.data.INFINITE_CARDINALITY


@pytest.mark.parametrize("inputs", [("token_ids",), ("token_ids", "padding_mask")])
def test_a_model_is_given_the_inputs_that_it_has(inputs):
    data = TokensInMemory(np.array([5, 6, 7], np.int32), np.array([0, 1, 3]))
    plan = EpochPlans(data.lengths, 2, 1)()
    (batch,) = prediction_dataset(data, plan, inputs=inputs, pad_id=9)
    assert tuple(batch) == inputs
    np.testing.assert_array_equal(batch["token_ids"], [[5, 9], [6, 7]])
    if len(inputs) > 1:
        np.testing.assert_array_equal(batch["padding_mask"], [[1, 0], [1, 1]])
        assert batch["padding_mask"].dtype == tf.int32


@pytest.mark.parametrize("chosen", [None, True, False])
def test_a_dataset_is_tuned_only_where_its_options_say_so(chosen):
    dataset = tf.data.Dataset.range(3).map(lambda x: x + 1, num_parallel_calls=tf.data.AUTOTUNE)
    options = tf.data.Options()
    options.deterministic = True
    if chosen is not None:
        options.autotune.enabled = chosen
    found = without_tuner(dataset.with_options(options))
    assert found.options().autotune.enabled is bool(chosen)
    assert found.options().deterministic is True
    assert [int(x) for x in found] == [1, 2, 3]
