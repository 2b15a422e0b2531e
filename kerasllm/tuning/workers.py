"""Several runs in parallel, each in its own process, in one loop without threads."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Callable, Mapping
from typing import Protocol

from kerasllm.tuning.trial_run import TrialRun

_SECONDS_BETWEEN_LOOKS = 0.2


class Work(Protocol):
    """A run to be trained.

    Attributes:
        run: Its directory and process.
        recipe: Its recipe, as YAML.
    """

    run: TrialRun
    recipe: str

    def look(self) -> None:
        """Reads what the run has written since the last look."""

    def ended(self, status: int) -> bool:
        """Takes the exit status of the process; returns whether to start it again."""

    def left(self) -> None:
        """The run was stopped from outside, to be continued later."""


class Workers:
    """Trains runs, in chunks.

    Args:
        count: How many at a time.
    """

    def __init__(self, count: int):
        self._environments = environments(count)
        self.active: dict[int, Work] = {}

    def work(
        self,
        take: Callable[[], Work | None],
        is_over: Callable[[], bool],
        is_stopped: Callable[[], bool],
        show: Callable[[Mapping[int, Work]], None],
    ) -> None:
        """Trains what there is to do until it is over, or everything is asked to stop.

        Args:
            take: Returns what to do next, or `None` where there is nothing now.
            is_over: Whether there will be nothing more to do, asked when nothing is being done.
            is_stopped: Whether to stop, and leave unfinished what is being done.
            show: Called at each look with what is being done.
        """
        try:
            while True:
                while not is_stopped() and (slot := self._free_slot()) is not None:
                    work = take()
                    if work is None:
                        break
                    self.active[slot] = work
                if not self.active and (is_stopped() or is_over()):
                    return
                for slot, work in list(self.active.items()):
                    self._look(slot, work, is_stopped())
                show(self.active)
                time.sleep(_SECONDS_BETWEEN_LOOKS)
        finally:
            for work in self.active.values():
                work.run.close()
            self.active.clear()

    def _free_slot(self) -> int | None:
        return next((n for n in range(len(self._environments)) if n not in self.active), None)

    def _look(self, slot: int, work: Work, stopped: bool) -> None:
        run = work.run
        if run.process is None:
            # Of a run that is taken up again: what it has written, before it continues.
            work.look()
            status: int | None = None
            if run.is_finished:
                status = 0
            elif stopped or run.is_pruned:
                status = 128
            elif run.is_free:
                run.start(work.recipe, self._environments[slot])
        else:
            if stopped:
                run.stop()
            # Before the rows: what a process has written before its end is read.
            status = run.poll()
            work.look()
        if status is None:
            return
        if stopped and not run.is_finished and not run.is_pruned:
            work.left()
        elif work.ended(status):
            run.start(work.recipe, self._environments[slot])
            return
        del self.active[slot]
        run.close()


def environments(count: int) -> list[dict[str, str]]:
    """Returns variables for processes that run side by side: each has GPUs of its own.

    Args:
        count: How many processes.
    """
    devices = _visible_devices()
    if count == 1 or len(devices) < 2:
        return [{}] * count
    shares = [devices[at::count] or [devices[at % len(devices)]] for at in range(count)]
    return [{"CUDA_VISIBLE_DEVICES": ",".join(share)} for share in shares]


def _visible_devices() -> list[str]:
    """Returns the GPUs that processes see; none where there is none or nobody knows."""
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    if named is not None:
        return [each for each in named.split(",") if each and each != "-1"]
    program = shutil.which("nvidia-smi")
    if program is None:
        return []
    try:
        found = subprocess.run([program, "-L"], capture_output=True, text=True, timeout=30)
    except (OSError, subprocess.TimeoutExpired):
        return []
    lines = [line for line in found.stdout.splitlines() if line.startswith("GPU ")]
    return [str(number) for number in range(len(lines))]
