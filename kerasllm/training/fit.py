"""The common `fit`: a Keras model with the same results on any number of replicas and
micro-batches.

What differs from Keras' own:

- The loss is a sum over items divided by the total weight of the global batch, so replicas,
  micro-batches and a smaller last batch give the gradient of one large batch.
- Forward and backward of a replica are one function, which XLA may compile; gradients are summed
  over replicas and applied outside it, and only where loss and gradients are finite.
- Losses, metrics and the optimizer are built when the model is compiled, in the scope of its
  strategy.
"""

from __future__ import annotations

import inspect
import itertools
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import keras
import keras_hub
import tensorflow as tf

from kerasllm.data.batch_plan import Width
from kerasllm.runtime.xla_cache import calls_at_once
from kerasllm.training.compiling import (
    LossMean,
    by_output,
    find_losses,
    find_metrics,
    find_optimizer,
)
from kerasllm.training.forward_backward import ForwardBackward
from kerasllm.training.losses import SmoothedSparseCategoricalCrossentropy
from kerasllm.training.outputs import Output, outputs_of, refuse_masks, targets_of, weights_of
from kerasllm.training.precision import only_cpus, resolve_xla
from kerasllm.training.replicas import (
    apply,
    check_optimizer,
    on_all_replicas_if,
    sum_over_replicas,
)
from kerasllm.training.schedules import WarmUp, sets_learning_rate
from kerasllm.training.slices import cut

if keras.config.backend() == "jax":
    from kerasllm.training.sharded.functions import ShardedFunctions as StepFunctions
else:
    from kerasllm.training.functions import StepFunctions


@keras.saving.register_keras_serializable(package="kerasllm")
class FineTunedModel(StepFunctions):
    """A Keras model for training with `compile` and `fit` under any synchronous strategy.

    Build and compile it in the scope of the strategy, optimizer and metrics included.

    Args:
        task: A Keras model, such as a KerasHub task, or one of your own with one or several
            outputs. Its outputs become float32, regardless of the precision of the model.
        **kwargs: See `keras.Model`.

    Attributes:
        trace_seconds: The time to trace the training step, since `compile`.
        learning_rate: The peak learning rate of an optimizer that `compile` is given by name;
            `None`: Keras' own default, which is too high for pretrained weights.

    Example:

    ```python
    with kerasllm.distribution.strategy("mirrored").scope():
        model = FineTunedModel(keras.Model(inputs, {"topic": topic, "tone": tone}))
        model.compile("adam", loss={"topic": "sparse_categorical_crossentropy", "tone": "mse"})
    model.fit(x, {"topic": topics, "tone": tones}, epochs=3)
    ```
    """

    learning_rate: float | None = None

    def __init__(self, task: keras.Model, **kwargs):
        if not task.built:
            raise ValueError(
                "The model has no weights yet: give it an `Input`, or call it on a batch. "
                f"Received: {task.name}, which is not built"
            )
        kwargs.setdefault("name", task.name)
        kwargs.setdefault("dtype", task.dtype_policy)
        super().__init__(**kwargs)
        self.task = task
        self.accumulate = 1
        self.xla = False
        self._fused = None
        self.slices = 1
        self.item_loss = None
        self.item_metrics = []
        self.warms_up = False
        self.compiled_outputs: list[Output] = []
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

    @property
    def layers(self) -> list[keras.Layer]:
        """The layers of the task."""
        return self.task.layers

    def get_layer(self, name: str | None = None, index: int | None = None) -> keras.Layer:
        """Returns a layer of the task, by its name or its place."""
        return self.task.get_layer(name, index)

    @property
    def input(self):
        """The inputs of the task, symbolic."""
        return self.task.input

    @property
    def output(self):
        """The outputs of the task, symbolic."""
        return self.task.output

    def call(self, inputs, training=None):
        outputs = self.task(inputs, training=training)
        return tf.nest.map_structure(lambda each: keras.ops.cast(each, "float32"), outputs)

    def compile(
        self,
        optimizer: keras.optimizers.Optimizer | str = "auto",
        loss: Any = None,
        loss_weights: Any = None,
        metrics: Any = None,
        weighted_metrics: Any = None,
        run_eagerly: bool = False,
        steps_per_execution: int = 1,
        jit_compile: bool | str | None = None,
        auto_scale_loss: bool = True,
        *,
        accumulate: int = 1,
        xla: bool | str = "auto",
        fused: bool | None = None,
        slices: int | None = None,
    ):
        """Configures the training; if an argument is refused, the model is unchanged.

        Args:
            optimizer: A Keras optimizer, which is not changed; or its name. `"auto"` is AdamW. If
                `learning_rate` of the model is set, an optimizer given by name warms up to that
                rate over the first tenth of each `fit`, and then decays linearly to 0. Defaults to
                `"auto"`.
            loss: A Keras loss, its name or a function `(y_true, y_pred)`; of several outputs a
                list, or a dictionary by their names. Its reduction does not matter: it is summed,
                and divided by the total weight of the batch. Defaults to `None`: the cross-entropy
                of integer labels, from logits.
            loss_weights: A factor on the loss of each output, as a list or a dictionary. Defaults
                to `None`: all 1.
            metrics: Keras metrics, their names or functions `(y_true, y_pred)`; of several outputs
                a list of lists, or a dictionary. Rows of weight 0 do not count, all others alike.
                Defaults to `None`: accuracy, where the loss is the default.
            weighted_metrics: As `metrics`, with rows counted by their weights. Defaults to `None`.
            run_eagerly: Whether steps run as plain Python, for a debugger. Defaults to `False`.
            steps_per_execution: Steps per call of the compiled training loop. Defaults to `1`.
            jit_compile: As `xla`, in Keras' words. Defaults to `None`: as `xla`.
            auto_scale_loss: Whether to use loss scaling for float16. Defaults to
                `True`.
            accumulate: Micro-batches per replica, to save memory; must divide the number of its
                rows. Defaults to `1`.
            xla: Whether XLA compiles forward and backward. Defaults to `"auto"`: where that is
                known to be faster, on accelerators.
            fused: Whether, where the devices are CPUs and `xla` is off, XLA fuses the element-wise
                work of families that it is known for; see `fuse`. Defaults to `None`: where `fit`
                is long enough for it to pay.
            slices: Slices that a micro-batch is cut into, which are computed at the same time; see
                `kerasllm.runtime.threads`. Dropout is drawn for each. Under XLA, and with several
                replicas, there is one. Defaults to `None`: one, or as many as are fastest where
                `fit` plans the batches.

        Raises:
            ValueError: If an argument is invalid, or the task, optimizer or a
                metric was created outside the scope of the model's strategy.
        """
        _refuse_own_steps(type(self))
        whole = {"accumulate": accumulate, "steps_per_execution": steps_per_execution}
        for name, value in whole.items():
            if not isinstance(value, int) or value < 1:
                raise ValueError(
                    f"`{name}` must be a whole number from 1 on. Received: {name}={value!r}"
                )
        for name, value in (("jit_compile", jit_compile), ("xla", xla)):
            if value not in (None, True, False, "auto"):
                raise ValueError(
                    f"`{name}` must be True, False or 'auto'. Received: {name}={value!r}"
                )
        alone = self.distribute_strategy.num_replicas_in_sync == 1
        xla = resolve_xla(xla if jit_compile is None else jit_compile)
        if run_eagerly and not alone:
            raise ValueError(
                "`run_eagerly=True` is for one device: remove the strategy to debug a step."
            )
        with self.distribute_strategy.scope():
            outputs, item_metrics = self._find_outputs(
                loss, loss_weights, metrics, weighted_metrics
            )
            given, by_name = optimizer, isinstance(optimizer, str)
            optimizer = find_optimizer(optimizer, self.trainable_variables, self.learning_rate)
            self._check_scope("task", self.task)
            self._check_scope("optimizer", optimizer)
            for metric in item_metrics:
                self._check_scope(f"metric {metric.name}", metric)
            if not optimizer.built:
                optimizer.build(self.trainable_variables)
            check_optimizer(optimizer)
            # Keras' own switch for XLA would compile the optimizer's update as well; its own
            # losses and metrics would be built from a first batch, where strategies fail.
            super().compile(
                optimizer=optimizer,
                jit_compile=False,
                run_eagerly=run_eagerly,
                steps_per_execution=steps_per_execution,
                auto_scale_loss=auto_scale_loss,
            )
            self.loss_tracker = keras.metrics.Mean(name="loss")
            if not self.optimizer.built:
                self.optimizer.build(self.trainable_variables)
        self._compiled_with = {
            "optimizer": given if by_name else None,
            "loss": loss,
            "loss_weights": loss_weights,
            "metrics": metrics,
            "weighted_metrics": weighted_metrics,
            "accumulate": accumulate,
            "fused": fused,
        }
        self.compiled_outputs, self.item_metrics = outputs, item_metrics
        self.item_loss = outputs[0].summed if len(outputs) == 1 else None
        self.warms_up = by_name and self.learning_rate is not None
        self.accumulate = accumulate
        self.xla = xla
        self._chosen = {"fused": fused, "slices": slices}
        self._fused = self.fuse() if fused is not False and not xla and only_cpus() else None
        self.slices = (slices or 1) if alone and not xla else 1
        self._computations = {}
        self.trace_seconds = 0.0

    def get_config(self):
        task = keras.saving.serialize_keras_object(self.task)
        task.pop("compile_config", None)
        if isinstance(self.task, keras_hub.models.Task):
            # It is this model that trains: a task of KerasHub compiles itself, unless it is told.
            task["config"]["compile"] = False
        return {"name": self.name, "task": task}

    @classmethod
    def from_config(cls, config, custom_objects=None):
        config = dict(config)
        task = keras.saving.deserialize_keras_object(
            config.pop("task"), custom_objects=custom_objects
        )
        return cls(task, **config)

    def get_compile_config(self):
        if not self.compiled:
            return {}
        # What is not there is as it would be in any process.
        given = {name: value for name, value in self._compiled_with.items() if value is not None}
        given.setdefault("optimizer", self.optimizer)
        if isinstance(self.optimizer, keras.optimizers.LossScaleOptimizer):
            given["auto_scale_loss"] = False
        return keras.saving.serialize_keras_object(given)

    def compile_from_config(self, config):
        if config:
            self.compile(**keras.saving.deserialize_keras_object(config))

    def export(self, filepath, *args, **kwargs):
        """Writes a SavedModel of the inputs and outputs, as `keras.Model.export`."""
        self.task.export(filepath, *args, **kwargs)

    def default_loss(self) -> keras.losses.Loss:
        """Returns the loss where `compile` is given none."""
        return keras.losses.SparseCategoricalCrossentropy(from_logits=True, name="crossentropy")

    def default_metrics(self, loss: keras.losses.Loss) -> list[keras.metrics.Metric]:
        """Returns the metrics where `compile` is given none, nor a loss of another kind."""
        return [keras.metrics.SparseCategoricalAccuracy(name="accuracy")]

    def has_default_metrics(self, loss: Any) -> bool:
        """Tells whether a loss that `compile` was given is measured as the default one is."""
        return isinstance(loss, SmoothedSparseCategoricalCrossentropy)

    def find_loss(self, loss: Any) -> Any:
        """Returns the loss that `compile` was given, as the outputs of the model ask for it."""
        return loss

    def find_metrics(self, metrics: Any) -> Any:
        """Returns the metrics that `compile` was given, as the outputs of the model ask for it."""
        return metrics

    def metric_inputs(self, metric: keras.metrics.Metric, y, outputs) -> tuple:
        """Returns the targets and the predictions that a metric compares."""
        return y, outputs

    def prepare_inputs(self, x):
        """Returns the inputs of a batch as the model takes them."""
        return x

    def prepare_targets(self, y):
        """Returns the targets of a batch as the loss takes them."""
        return y

    def _find_outputs(self, loss, loss_weights, metrics, weighted_metrics) -> tuple[list, list]:
        """Returns losses and metrics of each output, and all metrics in Keras' order."""
        names = self._output_names()
        losses = find_losses(self.find_loss(self.default_loss() if loss is None else loss), names)
        if metrics is None and len(names) == 1 and (loss is None or self.has_default_metrics(loss)):
            metrics = self.default_metrics(losses[0])
        factors = [
            1.0 if each is None else float(each)
            for each in by_output(loss_weights, names, "loss_weights")
        ]
        found = outputs_of(self.task)
        widths = [None] if found is None else [each.shape[-1] for each in tf.nest.flatten(found)]
        plain, weighted = (
            find_metrics(self.find_metrics(each), losses, names, widths)
            for each in (metrics, weighted_metrics)
        )
        outputs, several = [], len(names) > 1
        trackers, found = [], []
        for place, (name, each) in enumerate(zip(names, losses, strict=True)):
            tracker = LossMean(each, f"{name}_loss") if several and each is not None else None
            trackers += [tracker] if tracker else []
            taken = {metric.name for metric in plain[place]}
            for metric in weighted[place]:
                if metric.name in taken:
                    metric.name = f"weighted_{metric.name}"
            own = [*plain[place], *weighted[place]]
            if several:
                for metric in own:
                    # Not twice, where a metric is compiled again.
                    metric.name = f"{name}_{metric.name.removeprefix(f'{name}_')}"
            found += own
            outputs.append(Output(each, factors[place], plain[place], weighted[place], tracker))
        return outputs, [*trackers, *found]

    def _output_names(self) -> list[str]:
        """Returns the names of the outputs, in the order in which they are flattened."""
        found = outputs_of(self.task)
        if found is None or isinstance(self.task, keras.Sequential):
            return ["output"]
        return sorted(found) if isinstance(found, dict) else list(self.task.output_names)

    def fuse(self) -> Callable | None:
        """Returns what computes the outputs in training faster on a CPU; here `None`: nothing."""
        return None

    def compilations(self, rows: int, length: Width) -> list[Callable[[], None]]:
        """Returns what each compiles a program that a step needs; any threads may call them.

        Args:
            rows: Rows of a replica's part of a batch.
            length: What they are padded to.
        """
        compilations = getattr(self._fused, "compilations", None)
        if compilations is None:
            return []
        rows //= self.accumulate
        edges = [rows * number // self.slices for number in range(self.slices + 1)]
        of_slices = {end - start for start, end in itertools.pairwise(edges)}
        return [each for size in sorted(of_slices) for each in compilations(size, length)]

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
            y: Targets, `[rows, ...]`; of several outputs a list of them.
            share: float32, the part of the batch's loss that each item makes up; of several
                outputs a list.
            training: Whether dropout is on. Defaults to `True`.

        Returns:
            The loss, a scalar: the sum over the items, each counted by its share; and the
            outputs, here the logits.
        """
        outputs = self._fused(x) if training and self._fused else self(x, training=training)
        weights = share if isinstance(share, list) else [share]
        if len(tf.nest.flatten(outputs)) != len(weights):
            raise ValueError(
                "A subclassed model must have one output here: make it a functional one, as with "
                "`keras.Model(inputs, outputs)`, for several."
            )
        refuse_masks(outputs, weights)
        if len(self.compiled_outputs) == 1:
            [alone] = tf.nest.flatten(outputs)
            return self.compiled_outputs[0].loss_of(y, alone, share), outputs
        parts = zip(self.compiled_outputs, y, tf.nest.flatten(outputs), share, strict=True)
        return sum(each.loss_of(*part) for each, *part in parts if each.loss), outputs

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
        x, y, weight, total, share = self._prepare(data)
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
        weight = tf.nest.map_structure(lambda each: tf.where(sound, each, 0.0), weight)
        local_loss = tf.where(sound, local_loss, 0.0)
        logs = self._update_metrics(y, outputs, weight, local_loss, total)
        each = {"step_loss": loss, "gradient_norm": norm, "applied": applied, "requests": requests}
        return logs, each

    def test_step(self, data):
        x, y, weight, total, share = self._prepare(data)
        loss, outputs = self.loss_and_outputs(x, y, share, training=False)
        return self._update_metrics(y, outputs, weight, loss, total)

    def predict_step(self, data):
        x, _, _ = keras.utils.unpack_x_y_sample_weight(data)
        parts = [self(each, training=False) for each in cut(x, self.slices)]
        return tf.nest.map_structure(lambda *each: keras.ops.concatenate(each, 0), *parts)

    def _prepare(self, data):
        """Returns inputs, targets, weights, their totals over all replicas, and shares of them.

        Of several outputs targets, weights, totals and shares are lists.
        """
        x, y, weight = keras.utils.unpack_x_y_sample_weight(data)
        x = self.prepare_inputs(x)
        if y is None:
            raise ValueError("A batch must have targets: give `(x, y)` or `(x, y, sample_weight)`.")
        names = self._output_names()
        if len(names) == 1:
            [y] = tf.nest.flatten(y) if isinstance(y, (dict, list, tuple)) else [y]
            y = self.prepare_targets(y)
            losses = [each.loss for each in self.compiled_outputs]
            [weight] = weights_of([y], weight, names, losses)
            total = sum_over_replicas(tf.reduce_sum(weight))
            return x, y, weight, total, tf.math.divide_no_nan(weight, total)
        y = targets_of(y, names, self.task.output)
        weight = weights_of(y, weight, names, [each.loss for each in self.compiled_outputs])
        total = sum_over_replicas([tf.reduce_sum(each) for each in weight])
        share = [tf.math.divide_no_nan(*each) for each in zip(weight, total, strict=True)]
        return x, y, weight, total, share

    def _callbacks(self, callbacks, verbose, **settings) -> keras.callbacks.CallbackList:
        if isinstance(callbacks, keras.callbacks.CallbackList):
            return callbacks
        if isinstance(callbacks, keras.callbacks.Callback):
            callbacks = [callbacks]
        trains = settings.get("add_history") and self.warms_up
        if trains and not any(map(sets_learning_rate, callbacks or ())):
            callbacks = [WarmUp(), *(callbacks or ())]
        return super()._callbacks(callbacks, verbose, **settings)

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
        if len(self.compiled_outputs) == 1:
            y, weight, total = [y], [weight], [total]
        local = tf.reduce_sum(weight[0])
        # Of the whole batch's loss this replica holds a part: so weighted, the parts sum up.
        self.loss_tracker.update_state(
            tf.math.divide_no_nan(loss * total[0], local), sample_weight=local
        )
        for each, *part in zip(
            self.compiled_outputs, y, tf.nest.flatten(outputs), weight, strict=True
        ):
            each.update_metrics(self.metric_inputs, *part)
        states = [[tf.convert_to_tensor(v.value) for v in m.variables] for m in self.metrics]
        return {
            metric.name: metric.stateless_result(state)
            for metric, state in zip(self.metrics, sum_over_replicas(states), strict=True)
        }


def _refuse_own_steps(kind: type) -> None:
    """Refuses classes with a step in Keras' own form, which takes a batch and nothing else."""
    for name, own in (("train_step", kind.train_step), ("test_step", kind.test_step)):
        ours = getattr(FineTunedModel, name)
        if own is not ours and len(inspect.signature(own).parameters) < len(
            inspect.signature(ours).parameters
        ):
            raise ValueError(
                f"A `{name}` override is for `keras.Model`: this model runs on replicas and "
                "micro-batches. Give `compile` a loss as a function, override "
                f"`loss_and_outputs`, or train `model.task`. Received: {kind.__name__}.{name}"
            )


def _global_norm(gradients: Sequence[tf.Tensor]) -> tf.Tensor:
    return tf.linalg.global_norm([tf.cast(gradient, tf.float32) for gradient in gradients])
