"""What was sent of a run to each tracker: metrics.jsonl is the queue."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from kerasllm import recipe as recipes
from kerasllm.addresses import redact
from kerasllm.errors import RunError
from kerasllm.json_files import parse_json
from kerasllm.run import Run, read_json, write_json
from kerasllm.tracking.tracker import Tracker, find
from kerasllm.training.scalars import scalars_of

_CHUNK = 500


class Sending:
    """Sends a run to a tracker, from where it was left.

    Args:
        run: The run directory.
        name: The tracker.
    """

    def __init__(self, run: Run, name: str):
        self.run, self.name = run, name
        self.tracker: Tracker | None = None
        noted = states(run).get(name, {})
        if not isinstance(noted, dict) or not isinstance(noted.get("rows", 0), int):
            raise RunError(
                "The file is not what kerasllm wrote",
                where=str(_file(run)),
                fix="remove it: everything is then sent again, as a new run",
            )
        self._state = {"id": None, "rows": 0, "finished": False, **noted}
        self._position = self._count = 0

    @property
    def left(self) -> int:
        """How many rows, and whether the end, are not sent yet."""
        rows = sum(1 for _ in _lines(self.run, 0)) - self._state["rows"]
        ended = self.run.metrics.is_file() and not self._state["finished"]
        return max(rows, 0) + ended

    def begin_again(self) -> None:
        """Notes that the run is being trained: its end is to be sent again."""
        self._state["finished"] = False

    def send(self) -> None:
        """Sends what was not sent yet, of the rows and, once the run has finished, of its end.

        Raises:
            Exception: Any exception of the tracker. What was sent until then is noted.
        """
        ended = self.run.metrics.is_file() and not self._state["finished"]
        rows = [_row(line) for line in self._new_lines()]
        while rows or ended or self._state["id"] is None:
            tracker = self._opened()
            chunk, rows = rows[:_CHUNK], rows[_CHUNK:]
            if chunk:
                try:
                    if sent := [row for row in chunk if row is not None]:
                        tracker.log(sent)
                except Exception:
                    # They are read again.
                    self._position = self._count = 0
                    raise
                self._note(rows=self._state["rows"] + len(chunk))
            elif ended:
                tracker.finish(_summary(self.run), _files(self.run))
                self._note(finished=True)
                ended = False

    def close(self) -> None:
        """Ends the connection, if there is one."""
        if self.tracker is not None:
            tracker, self.tracker = self.tracker, None
            tracker.close(finished=self._state["finished"])

    def _opened(self) -> Tracker:
        if self.tracker is None:
            self.tracker = find(self.name)(self.run.path, _facts(self.run), self._state["id"])
            self._note(id=self.tracker.id)
        return self.tracker

    def _new_lines(self) -> Iterator[bytes]:
        """Yields lines that were neither sent nor yielded; a resumed run writes some again."""
        for end, line in _lines(self.run, self._position):
            self._position, self._count = end, self._count + 1
            if self._count > self._state["rows"]:
                yield line

    def _note(self, **facts: Any) -> None:
        self._state |= facts
        write_json(_file(self.run), {**states(self.run), self.name: self._state})


def states(run: Run) -> dict[str, Any]:
    """Returns what was sent of a run, by tracker."""
    file = _file(run)
    return read_json(file) if file.is_file() else {}


def refuse_unsendable(run: Run) -> None:
    """Refuses a folder that is not a run, or has nothing to send.

    Raises:
        RunError: With what to do.
    """
    if not run.recipe.is_file() or not run.metrics_log.is_file():
        raise RunError(
            "There is no run with metrics to send",
            where=str(run.path),
            fix="give the directory of a run, finished or not",
        )


def _file(run: Run) -> Path:
    return run.path / "tracking.json"


def _lines(run: Run, position: int) -> Iterator[tuple[int, bytes]]:
    """Yields whole lines of the log after a position, each with where it ends."""
    if not run.metrics_log.is_file():
        return
    with open(run.metrics_log, "rb") as file:
        file.seek(position)
        for line in file:
            if not line.endswith(b"\n"):
                return  # It is being written.
            position += len(line)
            yield position, line


def _row(line: bytes) -> tuple[int, dict[str, float]] | None:
    """Returns the step and the numbers of a line; `None` for one that is not a row."""
    try:
        row = parse_json(line.decode("utf-8", "replace"))
        return row["step"], _finite(scalars_of(row))
    except (AttributeError, LookupError, TypeError, ValueError):
        return None  # The report tells of it.


def _facts(run: Run) -> dict[str, Any]:
    recipe = recipes.load(run.recipe, recipes.older_settings(run.recipe))
    path = run.path.resolve()
    return {
        "name": path.name,
        "project": f"kerasllm-{recipe.task}",
        "recipe": {key: redact(str(value)) for key, value in _flat(recipe.model_dump()).items()},
    }


def _flat(values: Mapping[str, Any], above: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, Mapping):
            found |= _flat(value, f"{above}{key}.")
        else:
            found[f"{above}{key}"] = value
    return found


def _summary(run: Run) -> dict[str, Any]:
    """Returns the final metrics, and what tells the model and its data from others."""
    from kerasllm.models import digests

    found: dict[str, Any] = {}
    for part, metrics in run.read_metrics().items():
        if isinstance(metrics, Mapping):
            numbers = {f"final/{part}/{name}": value for name, value in metrics.items()}
            found |= _finite({k: v for k, v in numbers.items() if isinstance(v, float)})
    if run.model.is_dir():
        found["model_fingerprint"] = digests.fingerprint(run.model)
    for part, fingerprint in run.read_environment().get("data", {}).items():
        found[f"data_fingerprint_{part}"] = str(fingerprint)
    return found


def _files(run: Run) -> list[Path]:
    files = (run.recipe, run.metrics, run.environment, run.curve, run.report)
    return [file for file in files if file.is_file()]


def _finite(row: Mapping[str, float]) -> dict[str, float]:
    return {
        name: value
        for name, value in row.items()
        if isinstance(value, int | float) and math.isfinite(value)
    }
