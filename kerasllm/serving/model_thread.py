"""The thread that runs a model, and its queue."""

from __future__ import annotations

import abc
import threading
from collections import deque

_SECONDS_TO_END = 30.0


class ModelThread(abc.ABC):
    """Computes in a thread of its own what others put into `_waiting`.

    `_waiting` is changed only by a thread that holds `_changed`, which it then notifies.

    Args:
        most_waiting: The maximum number of requests that wait.
    """

    def __init__(self, most_waiting: int):
        self._most_waiting = most_waiting
        self._waiting: deque = deque()
        self._changed = threading.Condition()
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="model", daemon=True)

    @property
    def ready(self) -> bool:
        """Whether requests are computed."""
        return self._thread.is_alive() and not self._closed

    @property
    def waiting(self) -> int:
        """How many requests wait."""
        return len(self._waiting)

    def start(self) -> None:
        """Starts the thread."""
        self._thread.start()

    def close(self, seconds: float = _SECONDS_TO_END) -> bool:
        """Ends the thread when all that waits is computed, or abandons it after a while.

        Args:
            seconds: The most that it may take. Defaults to `30.0`.

        Returns:
            Whether it has ended. A computation that hangs shall not keep the process.
        """
        with self._changed:
            self._closed = True
            self._changed.notify()
        if self._thread.ident is not None:
            self._thread.join(seconds)
        return not self._thread.is_alive()

    @abc.abstractmethod
    def _run(self) -> None:
        """Computes what waits, until the thread is closed and nothing waits any more."""
