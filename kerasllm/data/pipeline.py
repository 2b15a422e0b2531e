"""From tokens and a batch plan to the tf.data pipeline that a model reads."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

import numpy as np
import tensorflow as tf

from kerasllm.data.batch_plan import BatchPlan, pad_rows
from kerasllm.data.examples import Examples


class Tokens(Protocol):
    """Rows of token ids: a token store, a part of one, or rows in memory."""

    @property
    def lengths(self) -> np.ndarray:
        """int32 `[rows]`."""

    def gather(self, rows: np.ndarray, length: int, pad_id: int) -> np.ndarray:
        """Returns int32 `[rows, length]`, padded."""


class TokensInMemory:
    """Token ids of texts that no store holds.

    Args:
        ids: int32, the ids of all texts, one after the other.
        offsets: int64 `[texts + 1]`, where each text begins and ends.
    """

    def __init__(self, ids: np.ndarray, offsets: np.ndarray):
        self._ids = ids
        self._offsets = offsets
        self.lengths = np.diff(offsets).astype(np.int32)

    def gather(self, rows: np.ndarray, length: int, pad_id: int) -> np.ndarray:
        """Returns the padded ids of some texts, int32 `[rows, length]`."""
        return pad_rows(self._ids, self._offsets[:-1][rows], self.lengths[rows], length, pad_id)


def training_dataset(
    examples: Examples,
    plan: Callable[[int], BatchPlan],
    *,
    epochs: int,
    inputs: Sequence[str],
    pad_id: int,
) -> tf.data.Dataset:
    """Returns the batches of all epochs, one after the other.

    It is one stream because the plan differs from epoch to epoch: give `model.fit` the number of
    steps of an epoch as `steps_per_epoch`. Each batch has the full batch size: the short one at
    the end of an epoch is filled up with rows of weight 0, so that a batch has as many shapes as
    there are buckets and no more.

    Args:
        examples: The rows, their classes and their weights in the loss.
        plan: Gives the plan of an epoch by its number.
        epochs: How many epochs to yield.
        inputs: Names of the model's inputs, of `token_ids`, `padding_mask`, `segment_ids`.
        pad_id: The id of the padding token.

    Returns:
        A dataset of `(x, y, sample_weight)`: `x` maps each input to int32 `[batch, length]`, `y`
        is int32 `[batch]`, `sample_weight` float32 `[batch]`.
    """
    batch_size = plan(0).batch_size

    def batches() -> Iterator[tuple]:
        for epoch in range(epochs):
            current = plan(epoch)
            for step in range(len(current)):
                rows = current.rows(step)
                # A repeated row, not an empty one: attention over nothing is not defined.
                filled = np.resize(rows, batch_size)
                weights = examples.weights[filled]
                weights[len(rows) :] = 0.0
                x = model_inputs(examples, filled, int(current.widths[step]), inputs, pad_id)
                yield x, examples.labels[filled], weights

    signature = (
        {name: tf.TensorSpec([batch_size, None], tf.int32) for name in inputs},
        tf.TensorSpec([batch_size], tf.int32),
        tf.TensorSpec([batch_size], tf.float32),
    )
    return _stream(batches, signature, epochs * len(plan(0)))


def prediction_dataset(
    tokens: Tokens, plan: BatchPlan, *, inputs: Sequence[str], pad_id: int
) -> tf.data.Dataset:
    """Returns the inputs of every batch of a plan, each once and without fill-up rows.

    Args:
        tokens: The rows.
        plan: The batches; `plan.order` says which row each output belongs to.
        inputs: Names of the model's inputs.
        pad_id: The id of the padding token.

    Returns:
        A dataset that maps each input to int32 `[rows, length]`.
    """

    def batches() -> Iterator[dict[str, np.ndarray]]:
        for step in range(len(plan)):
            yield model_inputs(tokens, plan.rows(step), int(plan.widths[step]), inputs, pad_id)

    signature = {name: tf.TensorSpec([None, None], tf.int32) for name in inputs}
    return _stream(batches, signature, len(plan))


def _stream(batches: Callable[[], Iterator], signature, count: int) -> tf.data.Dataset:
    """Returns a dataset that knows its number of batches and makes them ahead of their use."""
    dataset = tf.data.Dataset.from_generator(batches, output_signature=signature)
    return dataset.apply(tf.data.experimental.assert_cardinality(count)).prefetch(tf.data.AUTOTUNE)


def model_inputs(
    tokens: Tokens, rows: np.ndarray, length: int, inputs: Sequence[str], pad_id: int
) -> dict[str, np.ndarray]:
    """Returns the named inputs of some rows, each int32 `[rows, length]`.

    The padding mask is int32 and not bool, because it crosses replicas as a number.
    """
    arrays = {"token_ids": tokens.gather(rows, length, pad_id)}
    if "padding_mask" in inputs:
        positions = np.arange(length, dtype=np.int32)
        arrays["padding_mask"] = (positions < tokens.lengths[rows][:, None]).astype(np.int32)
    if "segment_ids" in inputs:
        arrays["segment_ids"] = np.zeros((len(rows), length), dtype=np.int32)
    return arrays
