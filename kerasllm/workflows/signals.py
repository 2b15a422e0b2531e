"""SIGTERM and SIGINT, while a training has something to save."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

_SIGNALS = (signal.SIGTERM, signal.SIGINT)


class Caught:
    """What was caught; made by `asked_to_stop`.

    Attributes:
        signal: The first signal, `None` while there is none.
    """

    signal: signal.Signals | None = None


@contextmanager
def asked_to_stop(on_first: Callable[[signal.Signals], None]) -> Iterator[Caught]:
    """Lets the first SIGTERM or SIGINT of the block ask for an end.

    The second one does what it does elsewhere: it ends the process at once.

    Args:
        on_first: Called with the first signal, in the midst of whatever is being done.
    """
    caught = Caught()
    # Python lets only its main thread handle signals.
    if threading.current_thread() is not threading.main_thread():
        yield caught
        return

    def handle(number: int, frame: object) -> None:
        if caught.signal is not None:
            signal.signal(number, before[number])
            signal.raise_signal(number)
            return
        caught.signal = signal.Signals(number)
        on_first(caught.signal)

    before = {number: signal.signal(number, handle) for number in _SIGNALS}
    try:
        yield caught
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
