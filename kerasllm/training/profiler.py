"""A TensorBoard profile of some steps of a training."""

from __future__ import annotations

from pathlib import Path

import keras
import tensorflow as tf


class Profile(keras.callbacks.Callback):
    """Writes a TensorBoard profile of some steps, in whole executions.

    Args:
        first: The first step that is profiled, counted from 1 over the whole training.
        last: The last one.
        folder: The folder of TensorBoard's event files.

    Attributes:
        done: Whether the profile was written.
    """

    def __init__(self, first: int, last: int, folder: Path):
        super().__init__()
        self._first = first
        self._last = last
        self._folder = folder
        self._running = False
        self.done = False

    def on_train_batch_begin(self, batch, logs=None):
        done = self.model.steps_done
        near = done + 1 <= self._last and done + self.model.steps_per_execution >= self._first
        if near and not self._running:
            _profiler().start(str(self._folder))
            self._running = True

    def on_train_batch_end(self, batch, logs=None):
        if self._running and self.model.steps_done >= self._last:
            self._end()

    def on_train_end(self, logs=None):
        if self._running:
            self._end()

    def _end(self) -> None:
        _profiler().stop()
        self._running, self.done = False, True


def _profiler():
    """Returns the profiler of the engine: what has `start(folder)` and `stop()`."""
    if keras.config.backend() != "jax":
        return tf.profiler.experimental
    from kerasllm.training.sharded import profiler

    return profiler
