"""The average of weights in shards, in their place while they are measured."""

from __future__ import annotations

import keras

from kerasllm.distribution.keras_variables import averages_of
from kerasllm.training.inner_optimizer import inner_optimizer


class SwapEMAWeights(keras.callbacks.Callback):
    """Swaps weights and their averages while a model is tested, as Keras' own callback does.

    That one passes the values through the memory of the host, where a process has only its part of
    them. Here arrays change places, and stay on their devices.
    """

    def on_test_begin(self, logs=None):
        """Gives the weights the values of their averages."""
        self._swap()

    def on_test_end(self, logs=None):
        """Gives the weights their own values again."""
        self._swap()

    def _swap(self) -> None:
        averages = averages_of(inner_optimizer(self.model.optimizer))
        for variable, average in zip(self.model.trainable_variables, averages, strict=True):
            if average is not None:
                value = variable.value
                variable.assign(average.value)
                average.assign(value)
