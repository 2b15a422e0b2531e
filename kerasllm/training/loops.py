"""`fit`, `evaluate` and `predict` under any tf.distribute strategy."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import MappingProxyType
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from kerasllm.data.pipeline import without_tuner
from kerasllm.training.batches import PlannedBatches
from kerasllm.training.inputs import as_dataset, check_rows, held_out, makes_batches
from kerasllm.training.replicas import of_first_replica


class LoopsModel(keras.Model):
    """A Keras model with loops of its own around its step functions.

    Keras' own loops build the model again from a batch whose replicas they average, and take no
    dataset that is distributed by function; neither works under every strategy. These also resume
    in the middle of an epoch.

    Attributes:
        steps_done: Steps of the training so far, those before a resume included.
        last_execution: The values of each step of the last execution, arrays `[steps]` by name.
    """

    steps_done: int = 0
    last_execution: Mapping[str, np.ndarray] = MappingProxyType({})

    def fit(
        self,
        x=None,
        y=None,
        batch_size: int | None = None,
        epochs: int = 1,
        verbose: str | int = "auto",
        callbacks=None,
        validation_split: float = 0.0,
        validation_data=None,
        shuffle: bool = True,
        class_weight: Mapping[int, float] | None = None,
        sample_weight=None,
        initial_epoch: int = 0,
        steps_per_epoch: int | None = None,
        validation_steps: int | None = None,
        validation_batch_size: int | None = None,
        validation_freq: int | Sequence[int] = 1,
        *,
        initial_step: int = 0,
        epoch_ended: bool = True,
    ) -> keras.callbacks.History:
        """Trains the model, as Keras' own `fit`.

        Args:
            x: Arrays; or batches `(x, y)` or `(x, y, sample_weight)`, of a `tf.data.Dataset`, a
                `keras.utils.PyDataset` or a generator. Under a strategy a dataset is cut into
                equal parts, unless it was distributed by function.
            y: Targets, where `x` is arrays. Defaults to `None`.
            batch_size: Rows of a global batch, where `x` is arrays. Defaults to `None`: 32.
            epochs: The number of the epoch to end before. Defaults to `1`.
            verbose: `0` shows nothing, `1` a progress bar, `2` a line an epoch. Defaults to
                `"auto"`: `1`.
            callbacks: A list of Keras callbacks. Defaults to `None`.
            validation_split: The part of the rows of arrays, their last ones, that is not trained
                on but evaluated after each epoch. Defaults to `0.0`.
            validation_data: What is evaluated after each epoch: `(x, y)`, `(x, y,
                sample_weight)`, or batches. Defaults to `None`.
            shuffle: Whether rows of arrays are shuffled. Defaults to `True`.
            class_weight: A factor on the weight of rows in the loss, by the number of their class.
                Defaults to `None`.
            sample_weight: Weights in the loss, where `x` is arrays. Defaults to `None`.
            initial_epoch: The number of the first epoch. Defaults to `0`.
            steps_per_epoch: Steps of an epoch; the dataset then continues across epochs.
                Defaults to `None`: the whole dataset, from its start in each epoch.
            validation_steps: Batches of `validation_data` to use. Defaults to `None`: all.
            validation_batch_size: As `batch_size`, in evaluation. Defaults to `None`: as
                `batch_size`.
            validation_freq: Epochs between two evaluations, or a list of the epochs, counted from
                1, after which to evaluate. Defaults to `1`.
            initial_step: Steps of the first epoch that were done before: the dataset begins after
                them, and the metrics hold their values. Defaults to `0`.
            epoch_ended: Where `initial_step` is all steps of the epoch, whether what callbacks do
                at its end was done as well. Defaults to `True`.

        Returns:
            The history: the metrics of each epoch by name.

        Raises:
            ValueError: If the model is not compiled, the arguments do not fit each other, or the
                dataset ends too soon.
        """
        self._refuse_unless_compiled("fit")
        if validation_split and validation_data is None:
            if makes_batches(x):
                raise ValueError(
                    "`validation_split` is for arrays: split the dataset with `take` and `skip`, "
                    "and pass a part of it as `validation_data`."
                )
            (x, *held_x), (y, *held_y), (sample_weight, *held_weight) = (
                held_out(part, validation_split) for part in check_rows(x, y, sample_weight)
            )
            validation_data = (*held_x, *held_y, *held_weight)
        dataset, steps = self._dataset(
            x,
            y,
            sample_weight,
            batch_size,
            steps_per_epoch,
            shuffle=shuffle,
            class_weight=class_weight,
        )
        # What is planned continues across epochs.
        continues = steps_per_epoch is not None or isinstance(x, PlannedBatches)
        if steps is None and self.steps_per_execution > 1:
            raise ValueError("`steps_per_execution` needs `steps_per_epoch` for this dataset.")
        if isinstance(validation_data, (tuple, list)):
            validation_data, _ = self._dataset(
                *keras.utils.unpack_x_y_sample_weight(tuple(validation_data)),
                validation_batch_size or batch_size,
                validation_steps,
                distribute=False,
            )
        callbacks = self._callbacks(
            callbacks, verbose, add_history=True, epochs=epochs, steps=steps
        )
        if initial_step and initial_step == steps and epoch_ended:
            initial_epoch, initial_step = initial_epoch + 1, 0
        self.stop_training = False
        self.steps_done = initial_epoch * (steps or 0) + initial_step
        callbacks.on_train_begin()
        if restored := restored_epoch(self):
            initial_epoch, initial_step = restored, 0
        self.steps_done = initial_epoch * (steps or 0) + initial_step
        if isinstance(x, PlannedBatches):
            dataset = x.from_step(self.steps_done)
        self.make_train_function()
        logs, epoch_logs, iterator = {}, {}, None
        for epoch in range(initial_epoch, epochs):
            if self.stop_training:
                break
            if epoch > initial_epoch or not initial_step:
                initial_step = 0
                self.reset_metrics()
            if iterator is None or not continues:
                iterator = iter(dataset)
            callbacks.on_epoch_begin(epoch)
            logs = {} if initial_step == 0 else logs
            any_sound = initial_step > 0
            for step, count in _executions(initial_step, steps, self.steps_per_execution):
                callbacks.on_train_batch_begin(step)
                try:
                    logs, each = self.train_function(iterator, self.steps_done, count)
                except (StopIteration, tf.errors.OutOfRangeError):
                    if steps is None and (logs or step > initial_step):
                        break
                    raise ValueError(_ended(step, steps, epoch)) from None
                self.steps_done += count
                self.last_execution = {name: value.numpy() for name, value in each.items()}
                # The running loss leaves such steps out, and callbacks look for them in it.
                sound = np.isfinite(self.last_execution["step_loss"])
                shown = logs if sound.all() else {**logs, "loss": float("nan")}
                any_sound = any_sound or sound.any()
                callbacks.on_train_batch_end(step + count - 1, shown)
                if self.stop_training:
                    break
            epoch_logs = _numbers(logs or self.get_metrics_result())
            if logs and not any_sound:
                epoch_logs["loss"] = float("nan")
            if validation_data is not None and _is_time(epoch, validation_freq):
                measured = self.evaluate(
                    validation_data,
                    batch_size=validation_batch_size or batch_size,
                    steps=validation_steps,
                    callbacks=callbacks,
                    return_dict=True,
                )
                epoch_logs.update({f"val_{name}": value for name, value in measured.items()})
            callbacks.on_epoch_end(epoch, epoch_logs)
        self.optimizer.finalize_variable_values(self.trainable_weights)
        callbacks.on_train_end(epoch_logs)
        return self.history

    def evaluate(
        self,
        x=None,
        y=None,
        batch_size: int | None = None,
        verbose: str | int = "auto",
        sample_weight=None,
        steps: int | None = None,
        callbacks=None,
        return_dict: bool = False,
    ) -> dict[str, float] | list[float] | float:
        """Returns the loss and the metrics on a dataset or arrays; see `fit`.

        Args:
            x: See `fit`, as are `y`, `batch_size`, `verbose`, `sample_weight` and `callbacks`.
            steps: Batches to use, needed of a dataset without end. Defaults to `None`: all.
            return_dict: Whether to name the numbers. Defaults to `False`: a list, or the loss
                alone, where there are no metrics.

        Raises:
            ValueError: If the dataset has no end and `steps` is not given, or ends too soon.
        """
        self._refuse_unless_compiled("evaluate")
        dataset, steps = self._dataset(x, y, sample_weight, batch_size, steps)
        callbacks = self._callbacks(callbacks, verbose, epochs=1, steps=steps)
        self.make_test_function()
        callbacks.on_test_begin()
        self.reset_metrics()
        logs = {}
        for step, logs in _outputs(
            self.test_function, dataset, steps, callbacks.on_test_batch_begin
        ):
            callbacks.on_test_batch_end(step, logs)
        if not logs:
            raise ValueError("There are no rows to evaluate on.")
        logs = _numbers(logs)
        callbacks.on_test_end(logs)
        return logs if return_dict else _in_order(logs)

    def predict(
        self,
        x,
        batch_size: int | None = None,
        verbose: str | int = "auto",
        steps: int | None = None,
        callbacks=None,
    ):
        """Returns the outputs for a dataset or arrays, on every worker those of all.

        Args:
            x: See `fit`, as are `batch_size`, `verbose` and `callbacks`.
            steps: Batches to use, needed of a dataset without end. Defaults to `None`: all.

        Returns:
            float32 `[rows, ...]`, of several outputs a structure of them; of each batch the rows
            of the first replica come first.
        """
        dataset, steps = self._dataset(x, None, None, batch_size, steps)
        callbacks = self._callbacks(callbacks, verbose, epochs=1, steps=steps)
        self.make_predict_function()
        callbacks.on_predict_begin()
        outputs = []
        for step, part in _outputs(
            self.predict_function, dataset, steps, callbacks.on_predict_batch_begin
        ):
            outputs.append(tf.nest.map_structure(lambda each: each.numpy(), part))
            callbacks.on_predict_batch_end(step, {"outputs": outputs[-1]})
        callbacks.on_predict_end()
        if not outputs:
            raise ValueError("There are no rows to predict for.")
        return tf.nest.map_structure(lambda *parts: np.concatenate(parts), *outputs)

    def train_on_batch(
        self, x, y=None, sample_weight=None, class_weight=None, return_dict: bool = False
    ):
        """Trains on one batch; returns the loss and the metrics since they were last reset.

        Args:
            x: The inputs, arrays.
            y: The targets. Defaults to `None`.
            sample_weight: Weights in the loss. Defaults to `None`.
            class_weight: See `fit`. Defaults to `None`.
            return_dict: See `evaluate`. Defaults to `False`.
        """
        self._refuse_unless_compiled("train_on_batch")
        iterator = self._one_batch(x, y, sample_weight, class_weight)
        self.make_train_function()
        logs, each = self.train_function(iterator, self.steps_done, 1)
        self.steps_done += 1
        self.last_execution = {name: value.numpy() for name, value in each.items()}
        return _numbers(logs) if return_dict else _in_order(_numbers(logs))

    def test_on_batch(self, x, y=None, sample_weight=None, return_dict: bool = False):
        """Evaluates one batch; see `train_on_batch`."""
        self._refuse_unless_compiled("test_on_batch")
        self.make_test_function()
        logs = _numbers(self.test_function(self._one_batch(x, y, sample_weight)))
        return logs if return_dict else _in_order(logs)

    def predict_on_batch(self, x):
        """Returns the outputs for one batch."""
        self.make_predict_function()
        outputs = self.predict_function(self._one_batch(x, None, None))
        return tf.nest.map_structure(lambda each: each.numpy(), outputs)

    def _one_batch(self, x, y, sample_weight, class_weight=None) -> Iterator:
        first = x if not isinstance(x, str) else [x]
        rows = len(tf.nest.flatten(check_rows(first)[0])[0])
        dataset, _ = self._dataset(first, y, sample_weight, rows, None, class_weight=class_weight)
        return iter(dataset)

    def _refuse_unless_compiled(self, name: str) -> None:
        if not self.compiled:
            raise ValueError(f"Call `compile()` before `{name}()`.")

    def _dataset(
        self,
        x,
        y,
        sample_weight,
        batch_size,
        steps: int | None,
        shuffle: bool = False,
        class_weight: Mapping[int, float] | None = None,
        distribute: bool = True,
    ):
        """Returns a dataset of the replicas' parts, and how many batches of it to use."""
        if isinstance(x, PlannedBatches):
            return x.from_step(0), steps or x.steps
        strategy = self.distribute_strategy
        seed = None
        if shuffle and (isinstance(x, keras.utils.PyDataset) or not makes_batches(x)):
            # Each worker makes all rows and takes its own: their order must be the same.
            seed = tf.constant(np.random.randint(2**31), tf.int64)
            seed = of_first_replica(strategy, seed)
        dataset = as_dataset(
            x,
            y,
            sample_weight,
            batch_size=batch_size,
            seed=seed,
            class_weight=class_weight,
        )
        if steps is not None and steps < 1:
            raise ValueError(f"There must be 1 step or more. Received: {steps} steps")
        if steps is None and _is_endless(dataset):
            raise ValueError(
                "The dataset is infinite: set the number of batches with `steps_per_epoch` in "
                "`fit`, `validation_steps` for validation data, or `steps`."
            )
        steps = steps or _batches_of(dataset)
        if isinstance(dataset, tf.data.Dataset):
            dataset = without_tuner(dataset)
            if strategy.num_replicas_in_sync > 1 and distribute:
                dataset = strategy.experimental_distribute_dataset(dataset)
        return dataset, steps

    def _callbacks(self, callbacks, verbose, **settings) -> keras.callbacks.CallbackList:
        if isinstance(callbacks, keras.callbacks.CallbackList):
            return callbacks
        return keras.callbacks.CallbackList(
            callbacks, add_progbar=verbose != 0, verbose=verbose, model=self, **settings
        )


def restored_epoch(model: keras.Model) -> int | None:
    """Returns the epoch at which `keras.callbacks.BackupAndRestore` lets a model continue.

    It has no public place: tests/training/test_keras_callbacks.py pins it.
    """
    return getattr(model, "_initial_epoch", None)


def _batches_of(dataset) -> int | None:
    """Returns the number of batches; `None` if it is unknown, or where there is no end."""
    # Of what is distributed by function TensorFlow counts the parts of one worker's replicas.
    if not isinstance(dataset, tf.data.Dataset):
        return None
    count = int(dataset.cardinality())
    return count if count >= 0 else None


def _is_endless(dataset) -> bool:
    cardinality = dataset.cardinality
    count = cardinality() if callable(cardinality) else cardinality
    return int(count) == tf.data.INFINITE_CARDINALITY


def _executions(first: int, steps: int | None, size: int) -> Iterator[tuple[int, int]]:
    """Yields the first step of each execution and how many steps it has."""
    step = first
    while steps is None or step < steps:
        # In step with the beginning of the epoch, wherever this run begins.
        count = size - step % size if steps is None else min(size - step % size, steps - step)
        yield step, count
        step += count


def _outputs(
    function: Callable, dataset, steps: int | None, on_begin: Callable[[int], None]
) -> Iterator[tuple]:
    """Yields the number of each batch and what the function makes of the iterator's next one."""
    iterator = iter(dataset)
    for step in itertools.count() if steps is None else range(steps):
        on_begin(step)
        try:
            result = function(iterator)
        except (StopIteration, tf.errors.OutOfRangeError):
            if steps is None:
                return
            raise ValueError(f"The dataset ended before batch {step + 1} of {steps}.") from None
        yield step, result


def is_tensorflows(iterator) -> bool:
    """Tells whether a `tf.function` can take the next element of an iterator by itself."""
    return isinstance(iterator, (tf.data.Iterator, tf.distribute.DistributedIterator))


def source_of(iterator):
    """Returns what a `tf.function` gets a batch of: TensorFlow's iterator, or the batch itself."""
    return iterator if is_tensorflows(iterator) else next(iterator)


def next_of(source):
    """Returns the batch of a source, in a `tf.function`."""
    return next(source) if is_tensorflows(source) else source


@contextmanager
def eagerly(wanted: bool) -> Iterator[None]:
    """Runs the functions of TensorFlow as plain Python, where it is wanted."""
    before = tf.config.functions_run_eagerly()
    if wanted:
        tf.config.run_functions_eagerly(True)
    try:
        yield
    finally:
        if wanted:
            tf.config.run_functions_eagerly(before)


def _ended(step: int, steps: int | None, epoch: int) -> str:
    if steps is not None:
        return f"The dataset ended before step {step + 1} of the {steps} of an epoch."
    return (
        f"The dataset gave no batch in epoch {epoch + 1}: it is empty, or a generator that cannot "
        "restart, which needs `steps_per_epoch`."
    )


def _is_time(epoch: int, frequency: int | Sequence[int]) -> bool:
    """Tells whether to evaluate after an epoch, which is counted from 0."""
    if isinstance(frequency, int):
        return (epoch + 1) % frequency == 0
    return epoch + 1 in frequency


def _in_order(logs: dict) -> list[float] | float:
    values = list(logs.values())
    return values[0] if len(values) == 1 else values


def _numbers(logs: dict) -> dict[str, Any]:
    """Returns metrics as numbers; those that have a value for each class stay arrays."""
    return {
        name: float(value) if not np.ndim(value) else np.asarray(value)
        for name, value in logs.items()
    }
