"""Ends a training after a number of steps, also within an epoch."""

from __future__ import annotations

import keras


class StepLimit(keras.callbacks.Callback):
    """Ends `fit` after a step, as if it were the last one of the last epoch.

    The epoch ends there for all callbacks: it is validated, logged and saved. Give `fit` as many
    `epochs` as the steps take; put it after the callbacks that end the training for reasons of
    their own.

    Args:
        steps: Optimizer steps of the whole training, those before a resume included.

    Example:

    ```python
    model.fit(batches, epochs=1, steps_per_epoch=plans.steps, callbacks=[StepLimit(100)])
    ```
    """

    def __init__(self, steps: int):
        super().__init__()
        self._steps = steps

    def on_train_begin(self, logs=None):
        # Of a training that was stopped at the end of an epoch, `fit` ends the epoch.
        if self.model.steps_done % self.params["steps"]:
            self._end_if_done()

    def on_train_batch_end(self, batch, logs=None):
        if batch + 1 < self.params["steps"]:
            self._end_if_done()

    def _end_if_done(self) -> None:
        if self.model.steps_done >= self._steps:
            self.model.stop_training = True
