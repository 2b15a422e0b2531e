"""Stops a training, or skips a step, whose loss or gradients are not finite."""

from __future__ import annotations

from collections.abc import Callable

import keras

from kerasllm.errors import JobError

# After so many skipped batches in a row, the weights are at fault and not the rows.
_MOST_SKIPPED_IN_A_ROW = 10


class NonFiniteGuard(keras.callbacks.Callback):
    """Ends the training at a step whose loss or gradients are not finite, or counts it as skipped.

    `FineTunedModel` never applies such a step: the weights are those before it. Steps whose
    gradients overflow in float16, where the loss is finite, are the loss-scaling optimizer's
    business and no concern here. Put it before other callbacks.

    Args:
        skip: Whether training continues. Defaults to `False`.
        rows_of: Returns a description of the rows of a step, by the number of the step in the
            training. Defaults to `None`: rows are not named.
        on_skip: Called with a message for each step that is skipped. Defaults to `None`.

    Raises:
        JobError: From `fit`, at the first such step, or where 10 in a row are skipped.
    """

    def __init__(
        self,
        *,
        skip: bool = False,
        rows_of: Callable[[int], str] | None = None,
        on_skip: Callable[[str], None] | None = None,
    ):
        super().__init__()
        self._skip = skip
        self._rows_of = rows_of
        self._on_skip = on_skip
        self._in_a_row = 0

    def get_state(self) -> dict:
        """Returns what `set_state` takes to continue counting."""
        return {"in_a_row": self._in_a_row}

    def set_state(self, state: dict) -> None:
        """Continues from the state of another guard."""
        self._in_a_row = state["in_a_row"]

    def on_train_batch_end(self, batch, logs=None):
        execution = self.model.last_execution
        first = self.model.steps_done - len(execution["applied"])
        for index, loss in enumerate(execution["step_loss"]):
            if execution["applied"][index] or (_scales(self.model) and _is_finite(loss)):
                self._in_a_row = 0
                continue
            self._in_a_row += 1
            step = first + index
            what = f"the loss is {loss:g}" if not _is_finite(loss) else "the gradients overflow"
            rows = self._rows_of(step) if self._rows_of else None
            if self._skip and self._in_a_row < _MOST_SKIPPED_IN_A_ROW:
                if self._on_skip:
                    self._on_skip(f"step {step + 1} is skipped: {what}" + f"; {rows}" * bool(rows))
                continue
            again = f", for the {self._in_a_row}th step in a row" if self._skip else ""
            raise JobError(
                f"At step {step + 1} {what}{again}. This step did not change any weights",
                where=rows,
                fix="check these rows; lower training.learning_rate, or set "
                "training.precision=float32"
                + ("" if self._skip else "; training.on_nan=skip skips such batches"),
            )


def _scales(model: keras.Model) -> bool:
    return isinstance(model.optimizer, keras.optimizers.LossScaleOptimizer)


def _is_finite(number: float) -> bool:
    return abs(number) < float("inf")
