"""Signals that end a job, while it has something to save."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

# SIGHUP: the terminal is gone. SIGUSR1: Slurm's `--signal=USR1@SECONDS`, before the time is over.
_POLITE = (signal.SIGHUP, signal.SIGUSR1)
_SIGNALS = (signal.SIGTERM, signal.SIGINT, *_POLITE)


class Caught:
    """What was caught; made by `asked_to_stop`.

    Attributes:
        signal: The first signal, `None` while there is none.
    """

    signal: signal.Signals | None = None


class Signalled(BaseException):
    """Raised where the process is when a signal comes; see `signals_raised`.

    Attributes:
        signal: Its number.
    """

    def __init__(self, number: int):
        super().__init__(signal.Signals(number).name)
        self.signal = number


@contextmanager
def asked_to_stop(on_first: Callable[[signal.Signals], None]) -> Iterator[Caught]:
    """Lets the first SIGTERM, SIGINT, SIGHUP or SIGUSR1 of the block ask for an end.

    The second one does what it does elsewhere: it ends the process at once. A SIGHUP or SIGUSR1
    that is ignored, as under `nohup`, stays ignored.

    Args:
        on_first: Called with the first signal, at any point of the work.
    """
    caught = Caught()

    def handle(number: int, frame: object) -> None:
        if caught.signal is not None:
            signal.signal(number, before[number])
            signal.raise_signal(number)
            return
        caught.signal = signal.Signals(number)
        on_first(caught.signal)

    with _handled(_SIGNALS, handle) as before:
        yield caught


@contextmanager
def signals_raised() -> Iterator[None]:
    """Lets SIGTERM, SIGHUP and SIGUSR1 raise `Signalled`, as Ctrl-C raises `KeyboardInterrupt`.

    So the block's `finally` runs, and what it has begun is left in order. What is ignored stays
    ignored.
    """

    def handle(number: int, frame: object) -> None:
        raise Signalled(number)

    with _handled((signal.SIGTERM, *_POLITE), handle):
        yield


@contextmanager
def _handled(numbers: tuple[signal.Signals, ...], handle: Callable) -> Iterator[dict]:
    """Handles signals until the block ends; gives what handled them before."""
    # Python lets only its main thread handle signals.
    if threading.current_thread() is not threading.main_thread():
        yield {}
        return
    before = {
        number: signal.signal(number, handle)
        for number in numbers
        if number not in _POLITE or signal.getsignal(number) is not signal.SIG_IGN
    }
    try:
        yield before
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
