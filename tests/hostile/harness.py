"""Runs a hostile case: it is taken, or refused in words, soon and in little memory."""

from __future__ import annotations

import contextlib
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from kerasllm.cli.main import main
from kerasllm.errors import KerasllmError

SECONDS, BYTES = 20, 1 << 30
# Others may share the machine: seconds are those of this process, but nothing may wait for ever.
_WAIT = 5 * SECONDS
# Of a message: a page or two, whatever the case holds.
CHARACTERS = 30_000


@contextlib.contextmanager
def within_limits() -> Iterator[None]:
    """Asserts that a block ends in time, and takes less than a gigabyte more than there was."""

    def end(*_: Any) -> None:
        raise AssertionError(f"it takes more than {SECONDS} seconds, or waits for {_WAIT}")

    kinds = {
        signal.SIGALRM: (signal.ITIMER_REAL, _WAIT),
        signal.SIGPROF: (signal.ITIMER_PROF, SECONDS),
    }
    before = {kind: signal.signal(kind, end) for kind in kinds}
    held, began = _begin_peak(), time.process_time()
    for timer, seconds in kinds.values():
        # Each second again: what catches all errors would catch the first.
        signal.setitimer(timer, seconds, 1)
    try:
        yield
    finally:
        for timer, _ in kinds.values():
            signal.setitimer(timer, 0)
        for kind, handler in before.items():
            signal.signal(kind, handler)
    assert time.process_time() - began < SECONDS
    assert _memory("VmHWM") - held < BYTES


def refusal(job: Callable[..., Any], *arguments: Any) -> str | None:
    """Calls a function within the limits.

    Returns:
        How it refuses what it was given, as a user sees it; `None`: it does not.
    """
    said = None
    with within_limits():
        try:
            job(*arguments)
        except KerasllmError as error:
            said = str(error)
    if said is not None:
        check_message(said)
    return said


def run_command(capsys: Any, *arguments: str) -> tuple[int, str, str]:
    """Runs `kerasllm` in this process within the limits; returns its status and what it wrote."""
    capsys.readouterr()
    with within_limits():
        try:
            main(list(arguments))
        except SystemExit as end:
            status = end.code
    written, said = capsys.readouterr()
    assert status in (0, 2), said[-2000:]
    assert status == 0 or said.strip()
    check_message(said)
    assert "Traceback" not in written
    return status, written, said


def check_message(text: str) -> None:
    """Asserts that a person can read a message, and a terminal write it."""
    assert 0 <= len(text) < CHARACTERS
    assert "Traceback" not in text
    assert "an unexpected error" not in text
    text.encode()


def _begin_peak() -> int:
    """Lets the system count the peak of memory from now on; returns what is taken now."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")
    return _memory("VmRSS")


def _memory(name: str) -> int:
    status = Path("/proc/self/status").read_text(encoding="ascii", errors="replace")
    for line in status.splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) << 10
    raise AssertionError(f"the system does not tell {name}")
