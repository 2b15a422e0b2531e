"""From tokens and a batch plan to the tf.data pipeline that a model reads."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from kerasllm.data.batch_plan import BatchPlan, EpochPlans
from kerasllm.data.rows import ArraySpec, Rows, Tokens, model_inputs

# Batches to prefetch, so that training does not wait for a slow one or a slow disk.
_AHEAD = 8


def training_dataset(
    examples: Rows,
    plan: EpochPlans,
    *,
    epochs: int,
    inputs: Sequence[str],
    pad_id: int,
    first_step: int = 0,
    seed: int = 0,
    accumulate: int = 1,
    strategy: tf.distribute.Strategy | None = None,
):
    """Returns the batches of all epochs, one after the other.

    It is one stream because the plan differs from epoch to epoch: give `model.fit` the number of
    steps of an epoch as `steps_per_epoch`. Each batch has the full batch size: the short one at
    the end of an epoch is padded with rows of weight 0, so that a batch has as many shapes as
    there are buckets and no more.

    Under a strategy of several replicas each worker makes the rows of its own replicas and no
    others. A batch size that the replicas cannot share equally is padded in the same way.

    Args:
        examples: The rows, with their targets and their weights in the loss.
        plan: Gives the plan of an epoch by its number.
        epochs: How many epochs to yield.
        inputs: Names of the model's inputs, of `token_ids`, `padding_mask`, `segment_ids`.
        pad_id: The id of the padding token.
        first_step: The number of the first batch, counted over all epochs. Defaults to `0`.
        seed: The seed of what batches draw at random; see `Rows.batch`. Defaults to `0`.
        accumulate: Micro-batches that a replica's rows are cut into. Defaults to `1`.
        strategy: Whose replicas share a batch. Defaults to `None`: the strategy in scope.

    Returns:
        A dataset of `(x, y, sample_weight)`: `x` maps each input to int32 `[rows, length]`; see
        `Rows`. With one replica it is a `tf.data.Dataset`; with several it is distributed, and
        continues after the last epoch.
    """
    strategy = strategy or tf.distribute.get_strategy()
    replicas = strategy.num_replicas_in_sync
    rows = replica_rows(plan.batch_size, replicas, accumulate)
    current = functools.lru_cache(maxsize=1)(plan)

    def batch(step: int, replica: int) -> tuple:
        epoch, step_in_epoch = divmod(step, plan.steps)
        batch_rows = current(epoch).rows(step_in_epoch)
        # A repeated row, not an empty one: attention over nothing is not defined.
        own = np.arange(replica * rows, (replica + 1) * rows)
        padded = np.resize(batch_rows, rows * replicas)[own]
        width = current(epoch).width(step_in_epoch)
        x, y, weights = examples.batch(padded, width, inputs, pad_id, step=step, seed=seed)
        padding = own >= len(batch_rows)
        if padding.any():
            kept = np.float32(~padding)
            # Of several outputs each has its own.
            weights = tf.nest.map_structure(
                lambda each: each * kept.reshape(-1, *[1] * (each.ndim - 1)), weights
            )
        return x, y, weights

    signature = _tensor_specs(examples.signature(rows, _known_width(plan.boundaries), inputs))
    return _stream(batch, signature, range(first_step, epochs * plan.steps), strategy, endless=True)


def prediction_dataset(
    tokens: Tokens,
    plan: BatchPlan,
    *,
    inputs: Sequence[str],
    pad_id: int,
    strategy: tf.distribute.Strategy | None = None,
    make: Callable[..., dict[str, np.ndarray]] | None = None,
    signature: Mapping[str, ArraySpec] | None = None,
):
    """Returns the inputs of every batch of a plan, in the order of `prediction_rows`.

    Args:
        tokens: The rows.
        plan: The batches.
        inputs: Names of the model's inputs.
        pad_id: The id of the padding token.
        strategy: Whose replicas share a batch. Defaults to `None`: the strategy in scope.
        make: Makes the inputs of some rows, from what `model_inputs` takes; of rows with two
            lengths, `length` is a pair. Defaults to `None`: `model_inputs`.
        signature: The specs of what `make` returns. Defaults to `None`: int32 `[rows, length]`
            each.

    Returns:
        A dataset that maps each input to int32 `[rows, length]`, or as `signature` says;
        distributed, where there are several replicas.
    """
    strategy = strategy or tf.distribute.get_strategy()
    replicas = strategy.num_replicas_in_sync
    make = make or model_inputs

    def batch(step: int, replica: int) -> dict[str, np.ndarray]:
        own = np.split(_padded(plan, step, replicas), replicas)[replica]
        return make(tokens, own, plan.width(step), inputs, pad_id)

    if signature is None:
        several = replicas > 1
        rows = replica_rows(plan.batch_size, replicas) if several else None
        width = _known_width(np.array(plan.shapes)) if several and plan.widths.ndim == 1 else None
        signature = dict.fromkeys(inputs, ArraySpec((rows, width), np.int32))
    signature = _tensor_specs(signature)
    return _stream(batch, signature, range(len(plan)), strategy)


def prediction_rows(plan: BatchPlan, strategy: tf.distribute.Strategy | None = None) -> np.ndarray:
    """Returns the row that each output of `prediction_dataset` belongs to, int64.

    Under several replicas a batch is padded with rows of its own, which then occur more than
    once, each time with the same output.
    """
    replicas = (strategy or tf.distribute.get_strategy()).num_replicas_in_sync
    return np.concatenate([_padded(plan, step, replicas) for step in range(len(plan))])


def replica_rows(batch_size: int, replicas: int, accumulate: int = 1) -> int:
    """Returns the rows of one replica's part of a batch, in whole micro-batches."""
    return -(-batch_size // (replicas * accumulate)) * accumulate


class HandedOut:
    """Batches that this process makes for all replicas and hands to each its own.

    For replicas on hosts that this process drives: they cannot request the next element from it, as
    a dataset that calls Python does. Nothing is made ahead.
    """

    def __init__(
        self,
        batch: Callable[[int, int], Any],
        signature: Any,
        steps: range,
        strategy: tf.distribute.Strategy,
        endless: bool,
    ):
        self.element_spec = signature
        self.cardinality = tf.data.INFINITE_CARDINALITY if endless else len(steps)
        self._batch = batch
        self._steps = steps
        self._strategy = strategy

    def __iter__(self) -> Iterator:
        endless = self.cardinality == tf.data.INFINITE_CARDINALITY
        for step in itertools.count(self._steps.start) if endless else self._steps:

            def of_replica(context: tf.distribute.experimental.ValueContext, step=step):
                own = self._batch(step, context.replica_id_in_sync_group)
                return tf.nest.map_structure(tf.convert_to_tensor, own)

            yield self._strategy.experimental_distribute_values_from_function(of_replica)


def drives_other_hosts(strategy: tf.distribute.Strategy) -> bool:
    """Tells whether replicas are in other processes than this one, as those of a TPU pod."""
    if not isinstance(strategy, tf.distribute.TPUStrategy):
        return False
    jobs = {tf.DeviceSpec.from_string(d).job for d in strategy.extended.worker_devices}
    return bool(jobs - {None, "localhost"})


def needs_one_shape(strategy: tf.distribute.Strategy) -> bool:
    """Tells whether all batches must have the same, known shape, as a TPU wants it."""
    return isinstance(strategy, tf.distribute.TPUStrategy)


def _known_width(widths: np.ndarray) -> int | tuple[int | None, int | None] | None:
    """Returns the one width that all batches have, `None` where they differ; in pairs, of each."""

    def of(side: np.ndarray) -> int | None:
        return int(side[0]) if len(np.unique(side)) == 1 else None

    return of(widths) if widths.ndim == 1 else (of(widths[:, 0]), of(widths[:, 1]))


def _tensor_specs(specs: Any) -> Any:
    """Returns the TensorFlow specs of NumPy's."""
    return tf.nest.map_structure(lambda spec: tf.TensorSpec(spec.shape, spec.dtype), specs)


def _padded(plan: BatchPlan, step: int, replicas: int) -> np.ndarray:
    rows = plan.rows(step)
    if replicas == 1:
        return rows
    return np.resize(rows, replica_rows(plan.batch_size, replicas) * replicas)


def _stream(
    batch: Callable[[int, int], Any],
    signature: Any,
    steps: range,
    strategy: tf.distribute.Strategy,
    endless: bool = False,
):
    """Returns a dataset of the given steps that makes batches ahead of their use.

    Args:
        batch: Returns what a replica gets at a step, by both their numbers.
        signature: The specs of a batch.
        steps: The numbers of the steps.
        strategy: Whose replicas get a batch each.
        endless: Whether replicas may ask for more than all steps: TensorFlow then need not ask
            all workers at each step whether they have one. Defaults to `False`.
    """

    def dataset(replicas: range, endless: bool) -> tf.data.Dataset:
        def parts() -> Iterator:
            numbers = itertools.count(steps.start) if endless else steps
            for step in numbers:
                for replica in replicas:
                    yield batch(step, replica)

        count = tf.data.INFINITE_CARDINALITY if endless else len(steps) * len(replicas)
        stream = tf.data.Dataset.from_generator(parts, output_signature=signature)
        stream = stream.apply(tf.data.experimental.assert_cardinality(count)).prefetch(_AHEAD)
        return without_tuner(stream)

    replicas = strategy.num_replicas_in_sync
    if replicas == 1:
        return dataset(range(1), endless=False)
    if drives_other_hosts(strategy):
        return HandedOut(batch, signature, steps, strategy, endless)

    def of_worker(context: tf.distribute.InputContext) -> tf.data.Dataset:
        local = replicas // context.num_input_pipelines
        first = context.input_pipeline_id * local
        return dataset(range(first, first + local), endless)

    return strategy.distribute_datasets_from_function(of_worker)


def without_tuner(dataset: tf.data.Dataset) -> tf.data.Dataset:
    """Returns a dataset that TensorFlow does not tune, unless its options say that it shall.

    An iterator that ends waits for the tuner to wake up, which sleeps twice as long each time: at
    the end of a training of a minute as long as that of a training of two. What `AUTOTUNE` stands
    for is all cores then, from the first element on.
    """
    options = tf.data.Options()
    options.autotune.enabled = bool(dataset.options().autotune.enabled)
    return dataset.with_options(options)
