"""The process of a trial: an ordinary training, followed through its log."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any

from kerasllm.distribution.launch import dies_with_us
from kerasllm.run import Run, read_json, write_text

COMMAND = (sys.executable, "-m", "kerasllm")
"""What the process runs, before `finetune`."""

# From SIGTERM to SIGKILL: a step and a checkpoint.
_GRACE = 300.0
_TAIL_BYTES = 20_000


class TrialRun:
    """A run directory, the process that trains into it, and what it has measured so far.

    Args:
        path: The run directory; `PATH.yaml`, `PATH.log` and `PATH.lock` are beside it.
        lock: What `hold` gave of `PATH.lock`: while it is open, no other process works at the run.

    Attributes:
        run: The run directory.
        log: What the process says.
        process: The process, `None` before it started.
        last: The newest row of the training.
        is_pruned: Whether it was stopped for good.
    """

    def __init__(self, path: Path, lock: IO):
        self.run, self._lock = Run(path), lock
        self.log = path.with_name(f"{path.name}.log")
        self.process: subprocess.Popen | None = None
        self.began = time.monotonic()
        self.last: dict[str, Any] = {}
        self._position, self._rest = 0, b""
        self._stopped_at: float | None = None
        self.is_pruned = False

    @property
    def is_finished(self) -> bool:
        """Whether the training has ended well, and its model is saved."""
        return self.run.metrics.is_file()

    @property
    def is_free(self) -> bool:
        """Whether no process trains into the directory, as one that outlived its parent would."""
        lock = self.run.path / ".lock"
        if not lock.exists():
            return True
        held = hold(lock)
        if held is not None:
            held.close()
        return held is not None

    @property
    def seconds(self) -> float:
        """How long this process has followed the run."""
        return time.monotonic() - self.began

    def start(self, recipe: str, environment: Mapping[str, str] | None = None) -> None:
        """Begins the training, or continues it from its newest checkpoint.

        Args:
            recipe: The recipe, as YAML.
            environment: Variables of the process, over those of this one. Defaults to `None`.
        """
        self._position, self._rest, self._stopped_at = 0, b"", None
        file = self.run.path.with_name(f"{self.run.path.name}.yaml")
        write_text(file, recipe)
        command = [*COMMAND, "finetune", "--recipe", str(file)]
        command += ["--output", str(self.run.path), "--resume"]
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(
                command,
                env={**os.environ, **(environment or {})},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                # Ctrl-C in the terminal reaches only this process, which passes it on.
                start_new_session=True,
                preexec_fn=dies_with_us() if sys.platform == "linux" else None,
            )

    def rows(self) -> Iterator[dict[str, Any]]:
        """Yields the rows of the run's metrics.jsonl that were not yielded before."""
        try:
            with open(self.run.metrics_log, "rb") as file:
                if os.fstat(file.fileno()).st_size < self._position:
                    # A resumed run has cut what comes after its checkpoint.
                    self._position, self._rest = 0, b""
                file.seek(self._position)
                text = self._rest + file.read()
                self._position = file.tell()
        except FileNotFoundError:
            return
        *lines, self._rest = text.split(b"\n")
        for line in lines:
            try:
                row = json.loads(line)
            except ValueError:
                continue
            if isinstance(row, dict) and isinstance(row.get("step"), int):
                if "validation" not in row:
                    self.last = row
                yield row

    def stop(self) -> None:
        """Asks the process to finish its step, save a checkpoint and end, as SIGTERM does."""
        if self.process and self.process.poll() is None and self._stopped_at is None:
            self._stopped_at = time.monotonic()
            self.process.send_signal(signal.SIGTERM)

    def prune(self) -> None:
        """Stops the process for good: the run is not continued."""
        self.is_pruned = True
        self.stop()

    def poll(self) -> int | None:
        """Returns the exit status of the process, 128 + a signal; `None` while it runs."""
        code = self.process.poll()
        if code is None:
            if self._stopped_at and time.monotonic() - self._stopped_at > _GRACE:
                self.process.kill()
            return None
        return code if code >= 0 else 128 - code

    def metrics(self) -> dict[str, Any]:
        """Returns the metrics of the finished training."""
        return read_json(self.run.metrics)

    def last_words(self) -> str:
        """Returns the error that the process ended with, else the end of what it said."""
        with open(self.log, "rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - _TAIL_BYTES))
            lines = file.read().decode("utf-8", "replace").splitlines()
        starts = [at for at, line in enumerate(lines) if line.startswith("Error: ")]
        return "\n".join(lines[starts[-1] :] if starts else lines[-10:]).removeprefix("Error: ")

    def close(self) -> None:
        """Lets others work at the run."""
        if self.process and self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        self._lock.close()


def hold(path: Path) -> IO | None:
    """Opens a file and locks it for this process, until it is closed or the process is gone.

    Returns:
        The open file, or `None` where another process holds it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    file = open(path, "a", encoding="utf-8")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        return None
    except OSError:
        pass  # A file system without locks.
    return file
