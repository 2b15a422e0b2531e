"""Sends a training to trackers while it runs, from a thread of its own."""

from __future__ import annotations

import functools
import threading
import time
from collections.abc import Callable, Sequence

from kerasllm.addresses import redact
from kerasllm.errors import KerasllmError
from kerasllm.run import Run, shell_word
from kerasllm.tracking.sending import Sending
from kerasllm.training.listeners import Listener

_SECONDS_BETWEEN_SENDINGS = 2.0
_SECONDS_AFTER_A_FAILURE = 60.0
_SECONDS_AT_THE_END = 60.0


class Tracking(Listener):
    """Sends what the log of a run holds; training continues even if a tracker fails.

    A context manager around the training: where it ends, what is left is sent.

    Args:
        run: The run directory.
        names: The trackers.
        warn: Called with a line where one fails, once.

    Example:

    ```python
    with Tracking(run, ["mlflow"], print) as tracking:
        observe(job, report, [log, tracking])
    ```
    """

    def __init__(self, run: Run, names: Sequence[str], warn: Callable[[str], None]):
        self._run, self._warn = run, warn
        self._told: set[str] = set()
        self._sendings = []
        for name in names:
            try:
                self._sendings.append(Sending(run, name))
            except (KerasllmError, OSError) as error:  # What was noted of it is damaged.
                self._tell(name, str(error))
        self._not_before: dict[str, float] = {}
        self._wake, self._ended = threading.Event(), threading.Event()
        # A daemon: a tracker that hangs does not keep the process from ending.
        self._thread = threading.Thread(target=self._loop, name="tracking", daemon=True)

    def __enter__(self) -> Tracking:
        for sending in self._sendings:
            sending.begin_again()
        if self._sendings:
            self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.finish()

    def finish(self) -> None:
        """Sends what is left, and waits for it, though not for ever."""
        if not self._sendings or self._ended.is_set():
            return
        self._ended.set()
        self._wake.set()
        self._thread.join(_SECONDS_AT_THE_END)
        for sending in self._sendings:
            self._guarded(sending, functools.partial(self._tell_what_is_left, sending))

    def _tell_what_is_left(self, sending: Sending) -> None:
        if sending.left:
            self._tell(sending.name, "it did not accept everything in time")

    def row(self, row):
        self._wake.set()

    def validated(self, step, metrics):
        self._wake.set()

    def _loop(self) -> None:
        while not self._ended.is_set():
            self._wake.wait()
            self._wake.clear()
            self._send_all()
            self._ended.wait(_SECONDS_BETWEEN_SENDINGS)
        self._not_before.clear()
        self._send_all()
        for sending in self._sendings:
            self._guarded(sending, sending.close)

    def _send_all(self) -> None:
        for sending in self._sendings:
            if time.monotonic() >= self._not_before.get(sending.name, 0.0):
                self._guarded(sending, sending.send)

    def _guarded(self, sending: Sending, act: Callable[[], None]) -> None:
        try:
            act()
        except Exception as error:  # noqa: BLE001 - of any package, or of the network
            self._not_before[sending.name] = time.monotonic() + _SECONDS_AFTER_A_FAILURE
            words = str(error).strip().partition("\n")[0]
            self._tell(sending.name, redact(words)[:200] or type(error).__name__)

    def _tell(self, name: str, why: str) -> None:
        if name in self._told:
            return
        self._told.add(name)
        self._warn(
            f"warning: {name} did not accept the metrics: {why}. Training continues, and the "
            f"metrics are kept: `kerasllm track push {shell_word(self._run.path)}` sends it later"
        )
