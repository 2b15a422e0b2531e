"""`fit`, `evaluate` and `predict` that go wherever a tf.distribute strategy goes."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType

import keras
import numpy as np
import tensorflow as tf

from kerasllm.data.pipeline import without_tuner
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
        x,
        y=None,
        sample_weight=None,
        *,
        batch_size: int = 32,
        epochs: int = 1,
        verbose: str | int = "auto",
        callbacks=None,
        validation_data=None,
        shuffle: bool = True,
        steps_per_epoch: int | None = None,
        initial_epoch: int = 0,
        initial_step: int = 0,
        epoch_ended: bool = True,
    ) -> keras.callbacks.History:
        """Trains the model, as Keras' own `fit`.

        Args:
            x: A dataset of `(x, y)` or `(x, y, sample_weight)`, or arrays. Under a strategy a
                dataset is cut into equal parts, unless it was distributed by function.
            y: Targets, where `x` is arrays. Defaults to `None`.
            sample_weight: Weights in the loss, where `x` is arrays. Defaults to `None`.
            batch_size: Rows of a global batch, where `x` is arrays. Defaults to `32`.
            epochs: The number of the epoch to end before. Defaults to `1`.
            verbose: `0` shows nothing, `1` a progress bar, `2` a line an epoch. Defaults to
                `"auto"`: `1`.
            callbacks: A list of Keras callbacks. Defaults to `None`.
            validation_data: A dataset that is evaluated after each epoch. Defaults to `None`.
            shuffle: Whether rows of arrays are shuffled. Defaults to `True`.
            steps_per_epoch: Steps of an epoch; the dataset then continues across epochs.
                Defaults to `None`: the whole dataset, from its start in each epoch.
            initial_epoch: The number of the first epoch. Defaults to `0`.
            initial_step: Steps of that epoch that were done before: the dataset begins after
                them, and the metrics hold their values. Defaults to `0`.
            epoch_ended: Where `initial_step` is all steps of the epoch, whether what callbacks do
                at its end was done as well. Defaults to `True`.

        Returns:
            The history: the metrics of each epoch by name.

        Raises:
            ValueError: If the model is not compiled, or the dataset ends too soon.
        """
        if not self.compiled:
            raise ValueError("Call `compile()` before `fit()`.")
        dataset, steps = self._dataset(
            x, y, sample_weight, batch_size, steps_per_epoch, shuffle=shuffle
        )
        if steps is None and self.steps_per_execution > 1:
            raise ValueError("`steps_per_execution` needs `steps_per_epoch` for this dataset.")
        callbacks = self._callbacks(
            callbacks, verbose, add_history=True, epochs=epochs, steps=steps
        )
        if initial_step and initial_step == steps and epoch_ended:
            initial_epoch, initial_step = initial_epoch + 1, 0
        self.steps_done = initial_epoch * (steps or 0) + initial_step
        self.stop_training = False
        self.make_train_function()
        callbacks.on_train_begin()
        logs, epoch_logs, iterator = {}, {}, None
        for epoch in range(initial_epoch, epochs):
            if self.stop_training:
                break
            if epoch > initial_epoch or not initial_step:
                initial_step = 0
                self.reset_metrics()
            if iterator is None or not steps_per_epoch:
                iterator = iter(dataset)
            callbacks.on_epoch_begin(epoch)
            for step, count in _executions(initial_step, steps, self.steps_per_execution):
                callbacks.on_train_batch_begin(step)
                try:
                    logs, each = self.train_function(iterator, self.steps_done, count)
                except (StopIteration, tf.errors.OutOfRangeError):
                    if steps is None:
                        break
                    raise ValueError(
                        f"The dataset ended before step {step + 1} of the {steps} of an epoch."
                    ) from None
                self.steps_done += count
                self.last_execution = {name: value.numpy() for name, value in each.items()}
                callbacks.on_train_batch_end(step + count - 1, logs)
                if self.stop_training:
                    break
            epoch_logs = _numbers(logs or self.get_metrics_result())
            if validation_data is not None:
                measured = self.evaluate(validation_data, callbacks=callbacks, return_dict=True)
                epoch_logs.update({f"val_{name}": value for name, value in measured.items()})
            callbacks.on_epoch_end(epoch, epoch_logs)
        self.optimizer.finalize_variable_values(self.trainable_weights)
        callbacks.on_train_end(epoch_logs)
        return self.history

    def evaluate(
        self,
        x,
        y=None,
        sample_weight=None,
        *,
        batch_size: int = 32,
        verbose: str | int = "auto",
        callbacks=None,
        steps: int | None = None,
        return_dict: bool = False,
    ) -> dict[str, float] | list[float]:
        """Returns the loss and the metrics on a dataset or arrays; see `fit`.

        Args:
            x: See `fit`, as are `y`, `sample_weight`, `batch_size`, `verbose` and `callbacks`.
            steps: Batches to use, needed of a dataset without end. Defaults to `None`: all.
            return_dict: Whether to name the numbers. Defaults to `False`.

        Raises:
            ValueError: If the dataset has no end and `steps` is not given, or ends too soon.
        """
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
        logs = _numbers(logs)
        callbacks.on_test_end(logs)
        return logs if return_dict else list(logs.values())

    def predict(
        self, x, *, batch_size: int = 32, verbose: str | int = "auto", callbacks=None
    ) -> np.ndarray:
        """Returns the outputs for a dataset or arrays, on every worker those of all.

        Returns:
            float32 `[rows, ...]`; of each batch the rows of the first replica come first.
        """
        dataset, steps = self._dataset(x, None, None, batch_size, None)
        callbacks = self._callbacks(callbacks, verbose, epochs=1, steps=steps)
        self.make_predict_function()
        callbacks.on_predict_begin()
        outputs = []
        for step, part in _outputs(
            self.predict_function, dataset, steps, callbacks.on_predict_batch_begin
        ):
            outputs.append(part.numpy())
            callbacks.on_predict_batch_end(step, {"outputs": outputs[-1]})
        callbacks.on_predict_end()
        return np.concatenate(outputs)

    def _dataset(self, x, y, sample_weight, batch_size, steps: int | None, shuffle=False):
        """Returns a dataset of the replicas' parts, and how many batches of it to use."""
        strategy = self.distribute_strategy
        dataset = x
        if y is not None or not hasattr(x, "element_spec"):
            parts = tuple(part for part in (x, y, sample_weight) if part is not None)
            dataset = tf.data.Dataset.from_tensor_slices(parts if len(parts) > 1 else x)
            if shuffle:
                # Each worker makes all rows and takes its own: their order must be the same.
                seed = tf.constant(np.random.randint(2**31), tf.int64)
                seed = of_first_replica(strategy, seed)
                dataset = dataset.shuffle(int(dataset.cardinality()), seed=seed)
            dataset = dataset.batch(batch_size)
        if steps is None and _is_endless(dataset):
            raise ValueError("The dataset has no end: say how many batches to use.")
        steps = steps or _batches_of(dataset)
        if isinstance(dataset, tf.data.Dataset):
            dataset = without_tuner(dataset)
        if strategy.num_replicas_in_sync > 1 and isinstance(dataset, tf.data.Dataset):
            dataset = strategy.experimental_distribute_dataset(dataset)
        return dataset, steps

    def _callbacks(self, callbacks, verbose, **settings) -> keras.callbacks.CallbackList:
        if isinstance(callbacks, keras.callbacks.CallbackList):
            return callbacks
        return keras.callbacks.CallbackList(
            callbacks, add_progbar=verbose != 0, verbose=verbose, model=self, **settings
        )


def _batches_of(dataset) -> int | None:
    """Returns the number of batches; `None` where it is not known, or where there is no end."""
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


def _numbers(logs: dict) -> dict[str, float]:
    return {name: float(value) for name, value in logs.items()}
