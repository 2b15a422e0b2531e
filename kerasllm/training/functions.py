"""The steps of a model as functions that TensorFlow traces once for each shape of batches."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import nullcontext

import tensorflow as tf

from kerasllm.runtime.grappler import without_grappler
from kerasllm.training.loops import LoopsModel, eagerly, is_tensorflows, next_of, source_of


class StepFunctions(LoopsModel):
    """A model with `train_step`, `test_step` and `predict_step` of one replica, for all of them.

    Attributes:
        trace_seconds: How long it took to trace the training's step, since `compile`.
    """

    trace_seconds = 0.0
    fused = False
    requests: list[float]

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

            def run(iterator):
                with eagerly(self.run_eagerly):
                    return test_function(source_of(iterator))

            self.test_function = run
        return self.test_function

    def make_predict_function(self, force: bool = False):
        if self.predict_function is None or force:

            @tf.function(autograph=False)
            def predict_function(source):
                outputs = self.distribute_strategy.run(self.predict_step, args=(next_of(source),))
                gather = self.distribute_strategy.gather
                return tf.nest.map_structure(lambda each: gather(each, axis=0), outputs)

            def run(iterator):
                with eagerly(self.run_eagerly):
                    return predict_function(source_of(iterator))

            self.predict_function = run
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
            with (
                without_grappler() if self.fused else nullcontext(),
                eagerly(self.run_eagerly),
            ):
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

    def _check_scope(self, name: str, owner) -> None:
        """Refuses what was made outside: each replica's copy of it would go its own way."""
        strategy = self.distribute_strategy
        for variable in owner.variables:
            if not strategy.extended.variable_created_in_scope(variable.value):
                raise ValueError(
                    f"The {name} must be created in the scope of the model's strategy, `with "
                    f"strategy.scope():`. Received: a model of {strategy}, and a "
                    f"variable {variable.path} created outside its scope"
                )

    def _first(self, value):
        """Returns one replica's value, of those that are the same on all."""
        return self.distribute_strategy.experimental_local_results(value)[0]
