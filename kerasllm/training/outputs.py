"""The outputs of a model: what each is compared with, how it counts, and what is measured."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import keras
import tensorflow as tf

from kerasllm.training.compiling import LossMean, by_output, reduced_by_sum, unreduced


@dataclass(frozen=True, eq=False)
class Output:
    """What one output of a model is compared with, and how."""

    loss: keras.losses.Loss | None
    factor: float
    metrics: list[keras.metrics.Metric]
    weighted_metrics: list[keras.metrics.Metric]
    tracker: LossMean | None = None

    @cached_property
    def summed(self) -> keras.losses.Loss:
        return reduced_by_sum(self.loss)

    @cached_property
    def _each(self) -> keras.losses.Loss:
        return unreduced(self.loss)

    def loss_of(self, y, output, share) -> tf.Tensor:
        """Returns the loss, a scalar: each row counts by its share, its items by their number."""
        values = self._each(y, output)
        share = tf.cast(share, values.dtype)
        extra = values.shape.rank - share.shape.rank
        if extra > 0:
            share = tf.reshape(share, tf.concat([tf.shape(share), [1] * extra], 0))
        total = tf.reduce_sum(values * share)
        if extra > 0:
            items = tf.reduce_prod(tf.shape(values)[-extra:])
            total /= tf.cast(items, total.dtype)
        return total if self.factor == 1.0 else total * self.factor

    def update_metrics(self, inputs: Callable, y, output, weight) -> None:
        counted = tf.cast(weight != 0, tf.float32)
        for metrics, weights in ((self.metrics, counted), (self.weighted_metrics, weight)):
            for metric in metrics:
                metric.update_state(*inputs(metric, y, output), sample_weight=weights)
        if self.tracker is not None:
            self.tracker.update_state(y, output, sample_weight=weight)


def targets_of(y, names: Sequence[str], outputs) -> list:
    """Returns the targets of each of several outputs; zeros, which no loss reads, where none is."""
    if isinstance(y, (list, tuple)) and isinstance(outputs, dict):
        raise ValueError(
            f"The outputs have names, {', '.join(names)}: give the targets as a dictionary."
        )
    found = by_output(y, names, "y") if isinstance(y, (dict, list, tuple)) else None
    if found is None or all(each is None for each in found):
        raise ValueError(
            f"The model has {len(names)} outputs: give targets for {', '.join(names)}."
        )
    rows = tf.shape(next(each for each in found if each is not None))[:1]
    return [tf.zeros(rows) if each is None else each for each in found]


def weights_of(y: Sequence[tf.Tensor], weight, names: Sequence[str]) -> list[tf.Tensor]:
    """Returns the weights of each output, 1 where none are given, float32."""
    return [
        tf.ones(tf.shape(targets)[:1]) if each is None else _weight_of(each, targets)
        for targets, each in zip(y, by_output(weight, names, "sample_weight"), strict=True)
    ]


def _weight_of(weight, targets) -> tf.Tensor:
    weight = tf.cast(weight, tf.float32)
    # A column of weights is one for each row.
    column = weight.shape.rank == 2 and weight.shape[-1] == 1 and targets.shape.rank == 1
    return weight[:, 0] if column else weight
