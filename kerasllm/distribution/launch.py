"""Starts several workers on this machine, shows their output, and stops them together."""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import queue
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TextIO

from kerasllm.errors import CommandError, JobError

# Seconds from SIGTERM to SIGKILL for the peers of a worker that failed.
_FAIL_GRACE = 10.0
# The same for workers that were asked to stop: they finish a step and write a checkpoint.
_STOP_GRACE = 300.0
# The exit status of a worker that was asked to stop and did so in good order.
_PASSED_ON = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1)
_STOPPED = {128 + number for number in _PASSED_ON}
_LONGEST_WAIT = 0.2
_TAIL_LINES = 20
_PR_SET_PDEATHSIG = 1  # of Linux' prctl


class WorkerError(JobError):
    """A worker failed, and the others were ended for it.

    Args:
        what: What that worker said last.
        exit_status: Its exit status, or 128 + the signal that killed it.
        fix: What the user can do about it. Defaults to `None`.
    """

    def __init__(self, what: str, exit_status: int, fix: str | None = None):
        super().__init__(what, fix=fix)
        self.exit_status = exit_status


def launch(command: Sequence[str], workers: int, *, grace: float = _FAIL_GRACE) -> int:
    """Runs a command in several processes that find each other by TF_CONFIG.

    Each line of a worker is shown at once, as `[worker 1] ...`: what worker 0 writes to stdout goes
    to stdout, all else to stderr. SIGINT, SIGTERM, SIGHUP (but under `nohup`) and SIGUSR1 are
    passed on, once; a second SIGINT kills.
    When a worker fails, the others get SIGTERM, and SIGKILL after a grace. Workers do not outlive
    this process, however it ends (on Linux).

    Args:
        command: A program and its arguments.
        workers: The number of processes.
        grace: Seconds that the others have to end after one failed. Defaults to `10.0`.

    Returns:
        0, or 128 + the signal that asked the workers to stop.

    Raises:
        CommandError: If this process is a worker of some cluster itself.
        WorkerError: If a worker failed; it tells of the one that ended first.
    """
    if os.environ.get("TF_CONFIG"):
        raise CommandError(
            "TF_CONFIG is set: this process is one of several workers already",
            where="the environment variable TF_CONFIG",
            fix="give the command itself, without launch, or unset TF_CONFIG",
        )
    # Ends of workers, and signals. A handler may put here: SimpleQueue is reentrant.
    events: queue.SimpleQueue = queue.SimpleQueue()
    team: list[_Worker] = []
    with _handled(events, *_PASSED_ON):
        try:
            addresses = _free_addresses(workers)
            # All of them before the first thread: a process with threads should not fork.
            for index in range(workers):
                team.append(_start(command, addresses, index))
            for worker in team:
                worker.watch(events)
            failed, stopped_by = _wait(team, events, grace)
        finally:
            for worker in team:
                worker.finish()
    if failed:
        raise failed.error(workers)
    return 128 + stopped_by if stopped_by else 0


@dataclass
class _Worker:
    """One process, and the threads that show what it says and notice its end."""

    index: int
    process: subprocess.Popen
    tail: deque[str] = field(default_factory=lambda: deque(maxlen=2 * _TAIL_LINES))
    readers: list[threading.Thread] = field(default_factory=list)

    def watch(self, events: queue.SimpleQueue) -> None:
        stdout = sys.stdout if self.index == 0 else sys.stderr
        for pipe, stream, tail in (
            (self.process.stdout, stdout, None),
            (self.process.stderr, sys.stderr, self.tail),
        ):
            reader = threading.Thread(target=self._copy, args=(pipe, stream, tail), daemon=True)
            reader.start()
            self.readers.append(reader)

        def await_end() -> None:
            self.process.wait()
            events.put(self)

        threading.Thread(target=await_end, daemon=True).start()

    def _copy(self, pipe: TextIO, stream: TextIO, tail: deque[str] | None) -> None:
        for line in pipe:
            if tail is not None:
                tail.append(line.rstrip("\n"))
            # A reader of our output who has left is no reason to stop: only to say no more.
            with contextlib.suppress(OSError, ValueError):
                # In one piece, so that lines of several workers do not mix.
                stream.write(f"[worker {self.index}] {line.rstrip(chr(10))}\n")
                stream.flush()

    def signal(self, number: int) -> None:
        """Asks the worker alone: how its own children end is its affair."""
        if self.process.poll() is None:
            self.process.send_signal(number)

    def finish(self) -> None:
        """Ends the worker and all that it started, and shows what they had said."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.process.pid, signal.SIGKILL)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(timeout=5.0)
        for reader in self.readers:
            reader.join(timeout=2.0)

    def exit_status(self) -> int:
        code = self.process.returncode
        return code if code >= 0 else 128 - code

    def error(self, workers: int) -> WorkerError:
        code, fix = self.process.returncode, None
        if code >= 0:
            end = f"failed with exit status {code}"
        else:
            end = f"was killed by {signal.Signals(-code).name}"
            if code == -signal.SIGKILL:
                fix = "if memory ran out, use fewer workers or a smaller training.batch_size"
        what = f"worker {self.index} of {workers} {end}; the others were stopped"
        if words := self._last_words():
            what += ". Its last words:\n" + "\n".join(f"    {line}" for line in words)
        return WorkerError(what, self.exit_status(), fix)

    def _last_words(self) -> list[str]:
        """Returns the end of its stderr, from the block of its error on if it wrote one."""
        lines = list(self.tail)
        starts = [at for at, line in enumerate(lines) if line.startswith("Error: ")]
        return lines[starts[-1] :] if starts else lines[-_TAIL_LINES:]


def _wait(
    team: Sequence[_Worker], events: queue.SimpleQueue, grace: float
) -> tuple[_Worker | None, int]:
    """Waits for all to end, and sees that they do.

    Returns:
        The worker that failed first, if one did, and the signal that we were sent, or 0.
    """
    running = list(team)
    failed, stopped_by, deadline = None, 0, None
    while running:
        event = _next(events, deadline)
        if event is None:
            break  # who is left is killed by the caller
        if isinstance(event, _Worker):
            running.remove(event)
            code = event.process.returncode
            asked = stopped_by and code in (-stopped_by, 128 + stopped_by)
            if code and not asked and not failed:
                failed = event
                in_order = code in _STOPPED
                deadline = time.monotonic() + (_STOP_GRACE if in_order else grace)
                _signal_all(running, signal.SIGTERM)
        elif not (failed or stopped_by):
            stopped_by, deadline = event, time.monotonic() + _STOP_GRACE
            name = signal.Signals(event).name
            sys.stderr.write(f"[launch] {name} was forwarded; waiting for the workers to exit\n")
            _signal_all(running, event)
        elif event == signal.SIGINT:
            stopped_by = stopped_by or event
            break
    return failed, stopped_by


def _next(events: queue.SimpleQueue, deadline: float | None) -> _Worker | int | None:
    """Returns the next event, or `None` if the deadline is past."""
    while deadline is None or time.monotonic() < deadline:
        # One long wait would do, but for a signal that comes just before it begins: Python would
        # call the handler, by which the wait would end, only after the wait.
        with contextlib.suppress(queue.Empty):
            return events.get(timeout=_LONGEST_WAIT)
    return None


def _signal_all(workers: Sequence[_Worker], number: int) -> None:
    for worker in workers:
        worker.signal(number)


def _start(command: Sequence[str], addresses: list[str], index: int) -> _Worker:
    config = {"cluster": {"worker": addresses}, "task": {"type": "worker", "index": index}}
    # Its lines should come as they are written, not when a buffer is full.
    environment = os.environ | {"TF_CONFIG": json.dumps(config), "PYTHONUNBUFFERED": "1"}
    process = subprocess.Popen(
        command,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
        errors="replace",
        # Ctrl-C in the terminal reaches only this process; each worker is ended with its group.
        start_new_session=True,
        preexec_fn=dies_with_us() if sys.platform == "linux" else None,
    )
    return _Worker(index, process)


def dies_with_us():
    """Returns what a new process does first: it asks Linux for SIGKILL when its parent is gone."""
    prctl = ctypes.CDLL(None, use_errno=True).prctl
    parent = os.getpid()

    def ask() -> None:
        prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:  # gone already
            os._exit(128 + signal.SIGKILL)

    return ask


def _free_addresses(count: int) -> list[str]:
    """Returns addresses on the loopback interface that are free now, each another."""
    with contextlib.ExitStack() as held:
        servers = [held.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)]
        return [f"127.0.0.1:{server.getsockname()[1]}" for server in servers]


@contextlib.contextmanager
def _handled(events: queue.SimpleQueue, *numbers: int) -> Iterator[None]:
    """Makes signals events for the time of a `with` block."""
    kept = {
        number: signal.signal(number, lambda sent, _: events.put(sent))
        for number in numbers
        if number != signal.SIGHUP or signal.getsignal(number) is not signal.SIG_IGN
    }
    try:
        yield
    finally:
        for number, handler in kept.items():
            signal.signal(number, handler)
