"""The steps of a model in shards, in the place of those that TensorFlow traces."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import jax
import keras
import numpy as np
import tensorflow as tf

from kerasllm.distribution.layouts import DATA
from kerasllm.training.loops import LoopsModel
from kerasllm.training.sharded.step import State, TrainStep, add_up, forward, mesh_in_use


class ShardedFunctions(LoopsModel):
    """A model whose steps JAX computes on all devices of a mesh; see `StepFunctions`.

    A batch is prepared on the host, whole, by the code that prepares it for TensorFlow, and put on
    the devices in parts. After each step the variables hold its arrays: callbacks, metrics and
    checkpoints see a model like any other.

    Attributes:
        trace_seconds: `0.0`: JAX traces and compiles at once, in the first step of a shape.
    """

    trace_seconds = 0.0
    fused = False
    requests: list[float]

    @property
    def distribute_strategy(self) -> tf.distribute.Strategy:
        """TensorFlow's default strategy: its data pipeline makes whole batches."""
        return tf.distribute.get_strategy()

    def _check_scope(self, name: str, owner) -> None:
        """Variables have their layouts from the moment that they are made."""

    def make_train_function(self, force: bool = False):
        if self.train_function is None or force:
            self.train_function = Training(self)
        return self.train_function

    def make_test_function(self, force: bool = False):
        if self.test_function is None or force:
            state, placed = State(self), _Placement()

            def step(values, batch):
                trainable, sums, fixed = values
                x, y, weight, total, share = batch
                loss, outputs = forward(
                    self,
                    state,
                    (trainable, fixed),
                    lambda: self.loss_and_outputs(x, y, share, training=False),
                )
                return add_up(self, state, sums, (y, outputs, weight), loss, total)

            compiled = jax.jit(step)

            def run(iterator):
                trainable, _, sums, fixed = state.values()
                batch = placed.batch(self.prepared(next(iterator), placed.rows))
                sums, logs = compiled((trainable, sums, fixed), batch)
                _assign(state.sums, sums)
                return {name: np.asarray(value) for name, value in logs.items()}

            self.test_function = run
        return self.test_function

    def make_predict_function(self, force: bool = False):
        if self.predict_function is None or force:
            state, placed = State(self), _Placement()
            replicated = placed.sharding()

            def step(values, x):
                return forward(self, state, values, lambda: self.predict_step(x))

            compiled = jax.jit(step, out_shardings=replicated)

            def run(iterator):
                x, _, _ = keras.utils.unpack_x_y_sample_weight(next(iterator))
                x = tf.nest.map_structure(np.asarray, x)
                count = len(tf.nest.flatten(x)[0])
                # A batch of fewer rows would be compiled again.
                rows = placed.most(count)
                x = tf.nest.map_structure(lambda each: _resized(each, rows), x)
                trainable, _, _, fixed = state.values()
                outputs = compiled((trainable, fixed), placed.batch(x))
                return jax.tree.map(lambda each: tf.constant(np.asarray(each)[:count]), outputs)

            self.predict_function = run
        return self.predict_function

    def prepared(self, data, multiple: int) -> tuple:
        """Returns a batch as NumPy arrays, with rows of weight 0 up to a multiple of a number.

        Args:
            data: `(x, y)` or `(x, y, sample_weight)`.
            multiple: What the number of rows must be a multiple of.

        Returns:
            Inputs, targets, weights, their totals, and the shares of the items in the loss.
        """
        x, y, weight = keras.utils.unpack_x_y_sample_weight(data)
        count = len(tf.nest.flatten(x)[0])
        weight = np.ones(count, np.float32) if weight is None else weight
        x, y, weight = tf.nest.map_structure(np.asarray, (x, y, weight))
        rows = -(-count // multiple) * multiple
        if rows > count:
            x, y, weight = tf.nest.map_structure(lambda each: _resized(each, rows), (x, y, weight))
            weight = tf.nest.map_structure(lambda each: _zeroed(each, count), weight)
        # In TensorFlow, as for its own steps: what is compared and counted is the same.
        y, weight = tf.nest.map_structure(tf.constant, (y, weight))
        return tf.nest.map_structure(np.asarray, self._prepare((x, y, weight)))


class Training:
    """The steps of a training: what `make_train_function` makes.

    Args:
        model: A compiled model.
    """

    def __init__(self, model: ShardedFunctions):
        self._model = model
        self._state = state = State(model)
        self._placed = _Placement()
        one = self._placed.sharding()
        # On a CPU, NumPy may hold the memory that the old values would give to the new ones.
        donated = () if jax.default_backend() == "cpu" else (0,)
        self._compiled = jax.jit(
            _with_fixed(TrainStep(model, state)),
            donate_argnums=donated,
            out_shardings=(*state.shardings()[:3], one, one),
        )

    def __call__(self, iterator, step: int, count: int) -> tuple[dict, dict]:
        """Trains on the next batches; returns the running metrics, and values of each step.

        Args:
            iterator: Gives the batches.
            step: The number of the first step.
            count: How many steps.
        """
        found = []
        for number in range(step, step + count):
            began = time.perf_counter()
            data = next(iterator)
            waited = time.perf_counter() - began
            *values, logs, each = self._compiled(*self._arguments(data, number))
            state = self._state
            for group, arrays in zip(
                (state.trainable, state.optimizer, state.sums), values, strict=True
            ):
                _assign(group, arrays)
            each = {name: np.asarray(value) for name, value in each.items()}
            found.append({**each, "input_seconds": np.float64(waited)})
        stacked = {name: tf.constant(np.stack([each[name] for each in found])) for name in found[0]}
        return {name: np.asarray(value) for name, value in logs.items()}, stacked

    def room(self, data) -> int:
        """Returns the bytes that a step needs on each device beside the variables.

        Args:
            data: A batch.
        """
        compiled = self._compiled.lower(*self._arguments(data, 0)).compile()
        return int(compiled.memory_analysis().temp_size_in_bytes)

    def _arguments(self, data, number: int) -> tuple:
        model, placed = self._model, self._placed
        batch = model.prepared(data, placed.rows * model.accumulate)
        batch = placed.batch(_cut(batch, model.accumulate), first=1)
        *values, fixed = self._state.values()
        requests = placed.requests(model.requests)
        return tuple(values), fixed, batch, requests, np.int32(number)


class _Placement:
    """Puts arrays of the host on the devices of the mesh that the model's variables lie on."""

    def __init__(self):
        self._mesh = mesh_in_use()
        self._most = 0

    @property
    def rows(self) -> int:
        """Parts that the rows of a batch are split into."""
        return self._mesh.shape[DATA]

    def most(self, count: int) -> int:
        """Returns how many rows a batch of prediction has, with its padding."""
        self._most = max(self._most, -(-count // self.rows) * self.rows)
        return self._most

    def sharding(self, *axes) -> jax.sharding.NamedSharding:
        return jax.sharding.NamedSharding(self._mesh, jax.sharding.PartitionSpec(*axes))

    def batch(self, arrays: Any, first: int = 0) -> Any:
        """Puts each array on the devices, in parts along its axis of rows; scalars on all.

        Args:
            arrays: A structure of NumPy arrays.
            first: The axis of rows. Defaults to `0`.
        """

        def put(array: np.ndarray):
            axes = (*[None] * first, DATA) if array.ndim > first else ()
            return self._put(array, self.sharding(*axes))

        return tf.nest.map_structure(put, arrays)

    def requests(self, own: list[float]):
        """Returns what this process asks for on its first device, and 0 on its others."""
        devices = list(self._mesh.devices.flat)
        rows = np.zeros((len(devices), len(own)), np.float32)
        first = next(place for place, each in enumerate(devices) if each in jax.local_devices())
        rows[first] = own
        return self._put(rows, self.sharding(self._mesh.axis_names))

    def _put(self, array: np.ndarray, sharding):
        return jax.make_array_from_callback(array.shape, sharding, lambda index: array[index])


def _with_fixed(step: TrainStep) -> Callable:
    """Returns a step whose values that do not change are an argument of their own: they stay."""

    def compute(values, fixed, batch, requests, number):
        return step((*values, fixed), batch, requests, number)

    return compute


def _assign(variables: list[keras.Variable], arrays: list) -> None:
    for variable, array in zip(variables, arrays, strict=True):
        variable.assign(array)


def _cut(batch: tuple, count: int) -> tuple:
    """Returns a batch whose rows are cut into micro-batches, `[micro-batches, rows, ...]`."""

    def cut(array: np.ndarray) -> np.ndarray:
        return array.reshape(count, -1, *array.shape[1:]) if array.ndim else array

    return tf.nest.map_structure(cut, batch)


def _resized(array: np.ndarray, rows: int) -> np.ndarray:
    """Returns an array with rows repeated at its end: attention over nothing is not defined."""
    return array if len(array) == rows else array[np.arange(rows) % len(array)]


def _zeroed(weight: np.ndarray, count: int) -> np.ndarray:
    weight = np.array(weight, np.float32)
    weight[count:] = 0.0
    return weight
