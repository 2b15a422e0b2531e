"""The outputs of a model: what each is compared with, how it counts, and what is measured."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import keras
import tensorflow as tf
from keras import ops

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
        values = ops.cast(self._each(y, output), "float32")
        share = ops.cast(share, values.dtype)
        extra = len(values.shape) - len(share.shape)
        if extra > 0:
            share = ops.reshape(share, (*ops.shape(share), *[1] * extra))
        total = ops.sum(values * share)
        if extra > 0:
            total /= ops.cast(math.prod(ops.shape(values)[-extra:]), total.dtype)
        return total if self.factor == 1.0 else total * self.factor

    def update_metrics(self, inputs: Callable, y, output, weight) -> None:
        counted = ops.cast(weight != 0, "float32")
        for metrics, weights in ((self.metrics, counted), (self.weighted_metrics, weight)):
            for metric in metrics:
                metric.update_state(*inputs(metric, y, output), sample_weight=weights)
        if self.tracker is not None:
            self.tracker.update_state(y, output, sample_weight=weight)


def outputs_of(task: keras.Model) -> Any:
    """Returns the outputs of a model in their structure, symbolic; `None` where they are not known.

    That is so of a subclassed model, which must then have one.
    """
    if isinstance(task, keras.Sequential):
        return task.outputs[0]
    return task.output if getattr(task, "outputs", None) else None


def refuse_masks(outputs: Any, weights: Sequence[tf.Tensor]) -> None:
    """Refuses outputs of tokens with a mask, where the weights do not say which tokens count.

    Keras would divide the loss by the number of those that do; here that number has to be known
    over all replicas before the model is called.
    """
    for output, weight in zip(tf.nest.flatten(outputs), weights, strict=True):
        masked = getattr(output, "_keras_mask", None) is not None
        if masked and len(output.shape) > 2 and len(weight.shape) == 1:
            raise ValueError(
                "The outputs have a mask, as of an `Embedding(mask_zero=True)`: select the tokens "
                "that count with a `sample_weight` of 0 or 1 for each, `[rows, length]`."
            )


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


def weights_of(
    y: Sequence[tf.Tensor],
    weight,
    names: Sequence[str],
    losses: Sequence[keras.losses.Loss | None] = (),
) -> list[tf.Tensor]:
    """Returns the weights of each output, 1 where none are given, float32.

    Targets that a loss ignores, by its `ignore_class`, have weight 0.
    """
    found = [
        tf.ones(tf.shape(targets)[:1]) if each is None else _weight_of(each, targets)
        for targets, each in zip(y, by_output(weight, names, "sample_weight"), strict=True)
    ]
    for place, loss in enumerate(losses):
        ignored = getattr(loss, "ignore_class", None)
        if ignored is not None:
            counted = tf.cast(y[place] != tf.cast(ignored, y[place].dtype), tf.float32)
            extra = counted.shape.rank - found[place].shape.rank
            shape = tf.concat([tf.shape(found[place]), [1] * max(extra, 0)], 0)
            found[place] = tf.reshape(found[place], shape) * counted
    return found


def _weight_of(weight, targets) -> tf.Tensor:
    weight = tf.cast(weight, tf.float32)
    # A column of weights is one for each row.
    column = weight.shape.rank == 2 and weight.shape[-1] == 1 and targets.shape.rank == 1
    return weight[:, 0] if column else weight
