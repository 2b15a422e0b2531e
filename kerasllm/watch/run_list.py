"""The runs that are shown: found again at each look, and read only where a file changed."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock
from typing import Any

from kerasllm.reports.run_groups import names_apart, runs_below, summary_of
from kerasllm.reports.training_log import TrainingLog, newest_row
from kerasllm.run import Run

# An unfinished run whose log is older than that does not train any more, or waits for something.
_ALIVE_SECONDS = 120
_SECONDS_BETWEEN_LOOKS = 1.0
# Of so many runs the logs are kept, to read what comes; those of others are read again.
_MOST_LOGS = 8


@dataclass
class Shown:
    """A run as it is shown.

    Attributes:
        id: What it is called in addresses: its path below the folder that is watched.
        path: Its directory.
        state: `"finished"`, `"training"`, `"stopped"` or `"damaged"`.
        facts: See `kerasllm.reports.run_groups.summary_of`.
        last: The last row of its training; `{}` without one.
        changed: When its log was written to, seconds since 1970; 0 without one.
        outside: The file of it that is a link out of its directory, if there is one: then nothing
            of it is read.
    """

    id: str
    path: Path
    state: str = ""
    facts: dict[str, Any] = field(default_factory=dict)
    last: dict[str, Any] = field(default_factory=dict)
    changed: float = 0.0
    outside: str | None = None
    log: TrainingLog | None = None
    _seen: tuple = ()
    _log_seen: tuple = ()
    _lock: Lock = field(default_factory=Lock)

    def look(self) -> None:
        """Reads what is new."""
        run = Run(self.path)
        self.outside = _link_out_of(run)
        if self.outside:
            self.state, self.last = "damaged", {}
            told = (
                f"{self.outside} is a link that leads outside the run directory, and is not "
                "followed"
            )
            self.facts, self._seen = {"problem": told}, ()
            return
        seen = tuple(_stamp(path) for path in (run.recipe, run.metrics, run.environment))
        if seen != self._seen:
            self.facts, self._seen = summary_of(self.path), seen
        log = _stamp(run.metrics_log)
        if log != self._log_seen:
            with suppress(OSError):
                self.last = newest_row(run.metrics_log) or (self.last if log[1] else {})
            self._log_seen = log
        self.changed = log[0]
        if "problem" in self.facts:
            self.state = "damaged"
        elif self.facts["finished"]:
            self.state = "finished"
        else:
            self.state = "training" if self._is_alive(run) else "stopped"

    def read_log(self) -> TrainingLog:
        """Returns its log, as it is now."""
        with self._lock:
            log = self.log = self.log or TrainingLog(Run(self.path).metrics_log)
            with suppress(OSError):
                if not self.outside:
                    log.read()
            return log

    def _is_alive(self, run: Run) -> bool:
        """Whether it was written to a moment ago."""
        begun = max(_stamp(path)[0] for path in (run.recipe, run.environment))
        return time.time() - max(self.changed, begun) < _ALIVE_SECONDS


class RunList:
    """The runs in some folders.

    Args:
        folders: Folders of runs, or run directories.
    """

    def __init__(self, folders: Sequence[Path]):
        self._folders = [Path(os.path.abspath(folder)) for folder in folders]
        self._shown: dict[str, Shown] = {}
        self._looked = 0.0
        self._lock = Lock()
        self._read: list[Shown] = []

    def look(self) -> list[Shown]:
        """Returns all runs as they are now, those that train first, then the newest."""
        with self._lock:  # Pages are made in several threads.
            self._look()
            shown = list(self._shown.values())
        runs = sorted(shown, key=lambda run: str(run.facts.get("started") or ""), reverse=True)
        return sorted(runs, key=lambda run: run.state != "training")

    def get(self, name: str) -> Shown | None:
        """Returns a run by its id, as it is now; `None` where there is none.

        An id is looked up among those that were found, and never made a path of.
        """
        return next((run for run in self.look() if run.id == name), None)

    def log_of(self, run: Shown) -> TrainingLog:
        """Returns the log of a run, as it is now."""
        with self._lock:
            self._read = [run, *(each for each in self._read if each is not run)]
            for each in self._read[_MOST_LOGS:]:
                each.log = None
            del self._read[_MOST_LOGS:]
        return run.read_log()

    def _look(self) -> None:
        now = time.monotonic()
        if self._shown and now - self._looked <= _SECONDS_BETWEEN_LOOKS:
            return
        self._shown = {
            name: self._shown[name] if name in self._shown else Shown(name, path)
            for name, path in self._found()
        }
        for shown in self._shown.values():
            shown.look()
        self._looked = time.monotonic()

    def _found(self):
        alone = len(self._folders) == 1
        for folder, name in zip(self._folders, names_apart(self._folders), strict=True):
            for path in runs_below(folder):
                below = path.relative_to(folder).as_posix()
                parts = [] if alone and below != "." else [name]
                found = "/".join([*parts, *([below] if below != "." else [])])
                # A name that is not UTF-8 cannot be part of an address.
                yield os.fsencode(found).decode("utf-8", "backslashreplace"), path


def file_of(run: Shown, path: Path) -> Path | None:
    """Returns a file of a run if it is one: no link that leads elsewhere."""
    return path if path.is_file() and not path.is_symlink() else None


def _link_out_of(run: Run) -> str | None:
    """Returns the name of the first file of a run that is a link out of its directory."""
    shown = (
        *(run.recipe, run.environment, run.metrics_log, run.metrics, run.predictions),
        *(run.samples, run.explanations, run.model, run.adapter),
    )
    for path in shown:
        if path.is_symlink():
            with suppress(OSError, RuntimeError):  # a link to itself
                if path.resolve().is_relative_to(run.path.resolve()):
                    continue
            return path.name
    return None


def _stamp(path: Path) -> tuple[float, int]:
    try:
        found = path.stat()
    except OSError:
        return 0.0, 0
    return found.st_mtime, found.st_size
