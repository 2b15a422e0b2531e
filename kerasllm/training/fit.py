"""The one `fit`: a Keras model whose training gives the same numbers however it is spread and cut.

What differs from Keras' own:

- The loss is a sum over items divided by the total weight of the global batch, so replicas and
  micro-batches, and a short end, have the gradient of one large batch.
- Forward and backward of a replica are one function, which XLA may compile; gradients are summed
  over replicas and applied outside it, and only where loss and gradients are finite.
- Losses, metrics and the optimizer are built when the model is compiled, in the scope of its
  strategy.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext

import keras
import tensorflow as tf

from kerasllm.runtime.grappler import without_grappler
from kerasllm.runtime.xla_cache import calls_at_once
from kerasllm.training.forward_backward import ForwardBackward
from kerasllm.training.loops import LoopsModel, is_tensorflows, next_of, source_of
from kerasllm.training.precision import only_cpus
from kerasllm.training.replicas import (
    apply,
    check_optimizer,
    on_all_replicas_if,
    sum_over_replicas,
)
from kerasllm.training.slices import cut


class FineTunedModel(LoopsModel):
    """A KerasHub task that is trained with `compile` and `fit` under any synchronous strategy.

    Build and compile it in the scope of the strategy, optimizer and metrics included.

    Args:
        task: A KerasHub task, such as a `TextClassifier`. Its outputs become float32, whatever
            the precision it computes in.
        **kwargs: See `keras.Model`.

    Attributes:
        trace_seconds: How long it took to trace the training's step, since `compile`.

    Example:

    ```python
    with kerasllm.distribution.strategy("mirrored").scope():
        model = FineTunedModel(keras_hub.models.BertTextClassifier(backbone, num_classes=2))
        model.compile(keras.optimizers.AdamW(5e-5), accumulate=2)
    model.fit(dataset, epochs=1)
    ```
    """

    def __init__(self, task: keras.Model, **kwargs):
        super().__init__(name=task.name, dtype=task.dtype_policy, **kwargs)
        self.task = task
        self.accumulate = 1
        self.xla = False
        self._fused = None
        self.slices = 1
        self.item_loss = None
        self.item_metrics = []
        self.requests = [0.0, 0.0]
        self.trace_seconds = 0.0
        # The task is built; without this Keras would build the model from a first batch.
        self.built = True

    @property
    def input_names(self) -> tuple[str, ...]:
        """Names of the inputs, of `token_ids`, `padding_mask` and `segment_ids`."""
        return tuple(self.task.input)

    @property
    def fused(self) -> bool:
        """Whether XLA fuses element-wise work in training; see `compile`."""
        return self._fused is not None

    @property
    def metrics(self) -> list[keras.metrics.Metric]:
        """The running mean of the loss, then the metrics that `compile` was given."""
        return [self.loss_tracker, *self.item_metrics] if self.compiled else []

    def call(self, inputs, training=None):
        return keras.ops.cast(self.task(inputs, training=training), "float32")

    def compile(
        self,
        optimizer: keras.optimizers.Optimizer,
        loss: keras.losses.Loss | None = None,
        metrics: Sequence[keras.metrics.Metric] | None = None,
        *,
        accumulate: int = 1,
        xla: bool = False,
        fused: bool = True,
        slices: int = 1,
        steps_per_execution: int = 1,
        **kwargs,
    ):
        """Sets how the model is trained.

        Args:
            optimizer: A Keras optimizer. It stays as it is, and can be used elsewhere.
            loss: A Keras loss on logits; its reduction does not matter: it is summed, and divided
                by the total weight of the batch. Defaults to `None`: the cross-entropy of integer
                labels.
            metrics: Keras metrics. Defaults to `None`: accuracy.
            accumulate: Micro-batches that a replica's rows are cut into, to use less memory; must
                divide their number. Defaults to `1`.
            xla: Whether XLA compiles forward and backward. Defaults to `False`.
            fused: Whether, where the devices are CPUs and `xla` is off, XLA fuses the element-wise
                work of families that it is known for; see `fuse`. Defaults to `True`.
            slices: Slices that a micro-batch is cut into, which are computed at the same time; see
                `kerasllm.runtime.threads`. Dropout is drawn for each. Under XLA, and with several
                replicas, there is one. Defaults to `1`.
            steps_per_execution: Steps that run before Python sees a result. Defaults to `1`.
            **kwargs: See `keras.Model.compile`.

        Raises:
            ValueError: If the loss is not a Keras loss, or the task, optimizer or a metric was made
                outside the scope of the model's strategy.
        """
        if loss is not None and not isinstance(loss, keras.losses.Loss):
            raise ValueError(f"`loss` must be a `keras.losses.Loss`. Received: loss={loss!r}")
        self._check_scope("task", self.task)
        self._check_scope("optimizer", optimizer)
        for metric in metrics or ():
            self._check_scope(f"metric {metric.name}", metric)
        with self.distribute_strategy.scope():
            # Keras' own switch for XLA would compile the optimizer's update as well; its own
            # losses and metrics would be built from a first batch, where strategies fail.
            super().compile(
                optimizer=optimizer,
                jit_compile=False,
                steps_per_execution=steps_per_execution,
                **kwargs,
            )
            self.loss_tracker = keras.metrics.Mean(name="loss")
            if metrics is None:
                metrics = [keras.metrics.SparseCategoricalAccuracy(name="accuracy")]
            self.item_metrics = list(metrics)
            if not self.optimizer.built:
                self.optimizer.build(self.trainable_variables)
        if loss is None:
            loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True, name="crossentropy")
        # A plain copy: that of Keras needs a loss class that is registered.
        self.item_loss = object.__new__(type(loss))
        vars(self.item_loss).update(vars(loss))
        self.item_loss.reduction = "sum"
        check_optimizer(self.optimizer)
        self.accumulate = accumulate
        self.xla = xla
        self._fused = self.fuse() if fused and not xla and only_cpus() else None
        alone = self.distribute_strategy.num_replicas_in_sync == 1
        self.slices = slices if alone and not xla else 1
        self._computations = {}
        self.trace_seconds = 0.0

    def fuse(self) -> Callable | None:
        """Returns what computes the outputs in training faster on a CPU; here `None`: nothing."""
        return None

    def shared_by_slices(self) -> list[tf.Tensor]:
        """Returns what is computed of the weights once a step, for all slices of its batch."""
        return self._fused.matrices() if self._fused else []

    def sharing(self, tensors: list[tf.Tensor]) -> AbstractContextManager:
        """Returns a context in which the outputs are computed with what `shared_by_slices` gave."""
        return self._fused.given(tensors) if self._fused else nullcontext()

    def loss_and_outputs(self, x, y, share, training: bool = True):
        """Computes what is minimised, and what the metrics measure.

        Args:
            x: Inputs, a structure of tensors `[rows, ...]`.
            y: Targets, `[rows, ...]`.
            share: float32, the part of the batch's loss that each item makes up.
            training: Whether dropout is on. Defaults to `True`.

        Returns:
            The loss, a scalar: the sum over the items, each counted by its share; and the
            outputs, here the logits.
        """
        logits = self._fused(x) if training and self._fused else self(x, training=training)
        return self.item_loss(y, logits, sample_weight=share), logits

    def train_step(self, data, step, requests):
        """Trains on one replica's part of a batch.

        Args:
            data: `(x, y)` or `(x, y, sample_weight)`.
            step: int64 scalar, the number of the step in the whole training.
            requests: float32 vector: what this worker asks all workers for.

        Returns:
            The running metrics, and the values of this step alone: `step_loss`, `gradient_norm`,
            `applied` (whether the weights were updated), and the `requests` of all.
        """
        x, y, weight = _unpack(data)
        total = sum_over_replicas(tf.reduce_sum(weight))
        share = tf.math.divide_no_nan(weight, total)
        loss, outputs, gradients = self._forward_backward()(x, y, share, step)
        present = [index for index, gradient in enumerate(gradients) if gradient is not None]
        local_loss = loss
        summed, loss, requests = sum_over_replicas(
            ([gradients[index] for index in present], loss, requests)
        )
        norm = _global_norm(summed) / self.optimizer.scale_loss(1.0)
        for index, gradient in zip(present, summed, strict=True):
            gradients[index] = gradient
        # A loss-scaling optimizer leaves out steps whose gradients overflow, and learns by it.
        scales = isinstance(self.optimizer, keras.optimizers.LossScaleOptimizer)
        sound = tf.math.is_finite(loss)
        applied = sound & tf.math.is_finite(norm)
        on_all_replicas_if(sound if scales else applied, self._apply, gradients, norm)
        # A step that is left out leaves no trace in the running metrics either.
        weight = tf.where(sound, weight, 0.0)
        local_loss = tf.where(sound, local_loss, 0.0)
        logs = self._update_metrics(y, outputs, weight, local_loss, total)
        each = {"step_loss": loss, "gradient_norm": norm, "applied": applied, "requests": requests}
        return logs, each

    def test_step(self, data):
        x, y, weight = _unpack(data)
        total = sum_over_replicas(tf.reduce_sum(weight))
        share = tf.math.divide_no_nan(weight, total)
        loss, outputs = self.loss_and_outputs(x, y, share, training=False)
        return self._update_metrics(y, outputs, weight, loss, total)

    def predict_step(self, data):
        x, _, _ = keras.utils.unpack_x_y_sample_weight(data)
        return tf.concat([self(each, training=False) for each in cut(x, self.slices)], 0)

    def _check_scope(self, name: str, owner) -> None:
        """Refuses what was made outside: each replica's copy of it would go its own way."""
        strategy = self.distribute_strategy
        for variable in owner.variables:
            if not strategy.extended.variable_created_in_scope(variable.value):
                raise ValueError(
                    f"The {name} must be made in the scope of the strategy that the model was "
                    f"made in, `with strategy.scope():`. Received: a model of {strategy}, and a "
                    f"variable {variable.path} made outside its scope"
                )

    def _forward_backward(self) -> ForwardBackward:
        """Returns this replica's own, the same wherever its step is traced, for XLA to compile."""
        replica = tf.distribute.get_replica_context().replica_id_in_sync_group
        number = tf.get_static_value(replica)
        # Not known on a TPU, where one trace serves all replicas.
        key = None if number is None else int(number)
        if key not in self._computations:
            at_once = self.slices == 1 or calls_at_once()
            self._computations[key] = ForwardBackward(
                self, self.xla, self.accumulate, self.slices, at_once=at_once
            )
        return self._computations[key]

    def _apply(self, gradients, norm) -> None:
        apply(self.optimizer, gradients, self.trainable_variables, norm)

    def _update_metrics(self, y, outputs, weight, loss, total) -> dict[str, tf.Tensor]:
        """Adds one replica's part of a batch; returns the totals of all parts."""
        local = tf.reduce_sum(weight)
        # Of the whole batch's loss this replica holds a part: so weighted, the parts sum up.
        self.loss_tracker.update_state(
            tf.math.divide_no_nan(loss * total, local), sample_weight=local
        )
        for metric in self.item_metrics:
            metric.update_state(y, outputs, sample_weight=weight)
        states = [[tf.convert_to_tensor(v.value) for v in m.variables] for m in self.metrics]
        return {
            metric.name: metric.stateless_result(state)
            for metric, state in zip(self.metrics, sum_over_replicas(states), strict=True)
        }

    def make_train_function(self, force: bool = False):
        if self.train_function is None or force:
            self.train_function = self._train_function()
        return self.train_function

    def make_test_function(self, force: bool = False):
        if self.test_function is None or force:

            @tf.function(autograph=False)
            def test_function(source):
                logs = self.distribute_strategy.run(self.test_step, args=(next_of(source),))
                return tf.nest.map_structure(self._first, logs)

            self.test_function = lambda iterator: test_function(source_of(iterator))
        return self.test_function

    def make_predict_function(self, force: bool = False):
        if self.predict_function is None or force:

            @tf.function(autograph=False)
            def predict_function(source):
                outputs = self.distribute_strategy.run(self.predict_step, args=(next_of(source),))
                return self.distribute_strategy.gather(outputs, axis=0)

            self.predict_function = lambda iterator: predict_function(source_of(iterator))
        return self.predict_function

    def _train_function(self) -> Callable:
        def one_step(*arguments):
            # Python comes here when TensorFlow traces, and only then.
            began = time.perf_counter()
            outputs = traced(*arguments)
            self.trace_seconds += time.perf_counter() - began
            return outputs

        def traced(source, step, requests):
            started = tf.timestamp()
            with tf.control_dependencies([started]):
                data = next_of(source)
            local = self.distribute_strategy.experimental_local_results
            parts = [local(part) for part in tf.nest.flatten(data)]
            with tf.control_dependencies(tf.nest.flatten(parts)):
                waited = tf.timestamp() - started
            outputs = self.distribute_strategy.run(self.train_step, args=(data, step, requests))
            logs, each = tf.nest.map_structure(self._first, outputs)
            return logs, {**each, "input_seconds": waited}

        @tf.function(autograph=False)
        def one(source, step, requests):
            logs, each = one_step(source, step, requests)
            return logs, {name: value[tf.newaxis] for name, value in each.items()}

        @tf.function(autograph=False)
        def several(iterator, step, requests, count):
            logs, each = one_step(iterator, step, requests)
            arrays = {
                name: tf.TensorArray(value.dtype, count, element_shape=value.shape).write(0, value)
                for name, value in each.items()
            }

            def body(index, _, arrays):
                logs, each = one_step(iterator, step + tf.cast(index, step.dtype), requests)
                arrays = {name: arrays[name].write(index, value) for name, value in each.items()}
                return index + 1, logs, arrays

            _, logs, arrays = tf.while_loop(
                lambda index, *_: index < count, body, (1, logs, arrays), parallel_iterations=1
            )
            return logs, {name: array.stack() for name, array in arrays.items()}

        def train_function(iterator, step: int, count: int):
            with without_grappler() if self.fused else nullcontext():
                return run(iterator, step, count)

        def run(iterator, step, count):
            requests = tf.constant(self.requests)
            if self.steps_per_execution > 1 and is_tensorflows(iterator):
                return several(iterator, tf.constant(step, tf.int64), requests, tf.constant(count))
            results = [
                one(source_of(iterator), tf.constant(step + index, tf.int64), requests)
                for index in range(count)
            ]
            logs, each = results[-1]
            if count > 1:
                parts = [each for _, each in results]
                each = {name: tf.concat([part[name] for part in parts], 0) for name in each}
            return logs, each

        return train_function

    def _first(self, value):
        """Returns one replica's value, of those that are the same on all."""
        return self.distribute_strategy.experimental_local_results(value)[0]


def _unpack(data):
    x, y, weight = keras.utils.unpack_x_y_sample_weight(data)
    if weight is None:
        weight = tf.ones(tf.shape(y)[:1])
    return x, y, tf.cast(weight, tf.float32)


def _global_norm(gradients: Sequence[tf.Tensor]) -> tf.Tensor:
    return tf.linalg.global_norm([tf.cast(gradient, tf.float32) for gradient in gradients])
