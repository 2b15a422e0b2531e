"""The events of a training, for logs, progress bars and trackers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from kerasllm.data.batch_plan import Width


class Listener:
    """Receives the events of a training; a subclass overrides those that it wants.

    Example:

    ```python
    class Losses(Listener):
        def row(self, row):
            print(row["step"], row["loss"])
    ```
    """

    def step(self, step: int) -> None:
        """Steps done so far, after each step."""

    def compiling(self, length: Width, done: int, lengths: int) -> None:
        """XLA compiles the length of the next step, after `done` of all `lengths`."""

    def pace(self, seconds_left: float | None) -> None:
        """How long the steps that are left will take; `None` where that is not known yet."""

    def row(self, row: Mapping[str, float]) -> None:
        """A row of numbers, every few steps; see `kerasllm.training.monitor.StepMonitor`."""

    def validating(self, step: int, rows: int) -> None:
        """A validation after a step begins, on so many rows."""

    def validated(self, step: int, metrics: Mapping[str, object]) -> None:
        """The metrics of a validation after a step."""

    def samples(self, step: int, samples: Sequence[tuple[str, str]]) -> None:
        """Texts that the model wrote after a step: `(prompt, text)` of each."""

    def ended(self, metrics: Mapping[str, Mapping]) -> None:
        """The training ended; its metrics by the part of the data."""


class Listeners(Listener):
    """Passes each event on to several listeners, in their order."""

    def __init__(self, listeners: Sequence[Listener]):
        self._listeners = list(listeners)

    def add(self, listener: Listener) -> None:
        """Adds a listener."""
        self._listeners.append(listener)

    def step(self, step):
        self._all("step", step)

    def compiling(self, length, done, lengths):
        self._all("compiling", length, done, lengths)

    def pace(self, seconds_left):
        self._all("pace", seconds_left)

    def row(self, row):
        self._all("row", row)

    def validating(self, step, rows):
        self._all("validating", step, rows)

    def validated(self, step, metrics):
        self._all("validated", step, metrics)

    def samples(self, step, samples):
        self._all("samples", step, samples)

    def ended(self, metrics):
        self._all("ended", metrics)

    def _all(self, event: str, *arguments) -> None:
        for listener in self._listeners:
            getattr(listener, event)(*arguments)
