"""The runs that are shown: found again at each look, and read only where a file changed."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kerasllm.json_files import parse_json
from kerasllm.reports.run_groups import runs_below, summary_of
from kerasllm.run import Run

# An unfinished run whose log is older than that does not train any more, or waits for something.
_ALIVE_SECONDS = 120
_SECONDS_BETWEEN_LOOKS = 1.0


@dataclass
class Shown:
    """A run as it is shown.

    Attributes:
        id: What it is called in addresses: its path below the folder that is watched.
        path: Its directory.
        state: `"finished"`, `"training"`, `"stopped"` or `"damaged"`.
        facts: See `kerasllm.reports.run_groups.summary_of`.
        rows: The rows of its `metrics.jsonl` that were read so far.
        changed: When its log was written to, seconds since 1970; 0 without one.
    """

    id: str
    path: Path
    state: str = ""
    facts: dict[str, Any] = field(default_factory=dict)
    rows: list[dict[str, Any]] = field(default_factory=list)
    changed: float = 0.0
    _seen: tuple = ()
    _offset: int = 0

    def look(self) -> None:
        """Reads what is new."""
        run = Run(self.path)
        seen = tuple(_stamp(path) for path in (run.recipe, run.metrics, run.environment))
        if seen != self._seen:
            self.facts, self._seen = summary_of(self.path), seen
        self._read_log(run.metrics_log)
        if "problem" in self.facts:
            self.state = "damaged"
        elif self.facts["finished"]:
            self.state = "finished"
        else:
            self.state = "training" if self._is_alive(run) else "stopped"

    @property
    def last(self) -> dict[str, Any]:
        """The last row of its training."""
        return next((row for row in reversed(self.rows) if "validation" not in row), {})

    def _is_alive(self, run: Run) -> bool:
        """Whether it was written to a moment ago."""
        begun = max(_stamp(path)[0] for path in (run.recipe, run.environment))
        return time.time() - max(self.changed, begun) < _ALIVE_SECONDS

    def _read_log(self, path: Path) -> None:
        """Reads the lines that came since the last look; all of them if there are fewer now."""
        changed, size = _stamp(path)
        if size < self._offset:
            self.rows, self._offset = [], 0
        self.changed = changed
        if size == self._offset:
            return
        with open(path, "rb") as file:
            file.seek(self._offset)
            whole, _, _ = file.read().rpartition(b"\n")
        for line in whole.splitlines():
            try:
                row = parse_json(line.decode("utf-8", "replace"))
            except ValueError:
                continue  # The report tells of it.
            if isinstance(row, dict) and isinstance(row.get("step"), int):
                self.rows.append(row)
        self._offset += len(whole) + bool(whole)


class RunList:
    """The runs in some folders.

    Args:
        folders: Folders of runs, or run directories.
    """

    def __init__(self, folders: Sequence[Path]):
        self._folders = [Path(os.path.abspath(folder)) for folder in folders]
        self._shown: dict[str, Shown] = {}
        self._looked = 0.0

    def look(self) -> list[Shown]:
        """Returns all runs as they are now, those that train first, then the newest."""
        now = time.monotonic()
        if not self._shown or now - self._looked > _SECONDS_BETWEEN_LOOKS:
            found = dict(self._found())
            self._shown = {
                name: self._shown[name] if name in self._shown else Shown(name, path)
                for name, path in found.items()
            }
            for shown in self._shown.values():
                shown.look()
            self._looked = time.monotonic()
        runs = sorted(self._shown.values(), key=lambda run: str(run.facts.get("started") or ""))
        return sorted(reversed(runs), key=lambda run: run.state != "training")

    def get(self, name: str) -> Shown | None:
        """Returns a run by its id, as it is now; `None` where there is none.

        An id is looked up among those that were found, and never made a path of.
        """
        return next((run for run in self.look() if run.id == name), None)

    def _found(self):
        alone = len(self._folders) == 1
        for folder in self._folders:
            for path in runs_below(folder):
                below = path.relative_to(folder).as_posix()
                parts = [] if alone and below != "." else [folder.name]
                yield "/".join([*parts, *([below] if below != "." else [])]), path


def file_of(run: Shown, path: Path) -> Path | None:
    """Returns a file of a run if it is one: no link that leads elsewhere."""
    return path if path.is_file() and not path.is_symlink() else None


def _stamp(path: Path) -> tuple[float, int]:
    try:
        found = path.stat()
    except OSError:
        return 0.0, 0
    return found.st_mtime, found.st_size
