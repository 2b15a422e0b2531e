"""The rows of a `metrics.jsonl` of any length, from any author."""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from kerasllm.json_files import parse_json

MOST_ROWS = 8_000
"""Rows of each kind that are kept; of more, every second, every fourth..."""

NEWEST = 30
"""Rows of the end that are kept whole."""

_CHUNK = 1 << 20
_LONGEST_LINE = 1 << 18
_MOST_KEYS, _MOST_CHARACTERS = 100, 200
_MOST_STEPS = 2**63
_VALIDATION = b'"validation"'

Row = dict[str, Any]


class TrainingLog:
    """Follows the log of a training, in memory for about a thousand rows.

    Args:
        path: The file. There may be none yet.
    """

    def __init__(self, path: Path):
        self._path = path
        self._begin()

    def _begin(self) -> None:
        self._offset = self._lines = 0
        self._is_long = False
        self._training, self._validations = _Thinned(), _Thinned()
        self._newest: deque[bytes] = deque(maxlen=NEWEST)
        self._damaged: list[tuple[int, str]] = []

    @property
    def rows(self) -> list[Row]:
        """The rows in the order of the file, evenly thinned out where there are many."""
        both = heapq.merge(self._training.kept, self._validations.kept, key=lambda one: one[0])
        return [row for _, row in both]

    @property
    def newest(self) -> list[Row]:
        """The last rows, without gaps."""
        return [row for line in self._newest if (row := _row_or_none(line))]

    @property
    def damaged(self) -> tuple[int, str] | None:
        """The number of the first line but the last that is not a row, and the reason."""
        first = self._damaged[0] if self._damaged else None
        return first if first and first[0] < self._lines else None

    def read(self) -> None:
        """Reads the lines that came since the last time; all of them if there are fewer now.

        Raises:
            OSError: If it cannot be read.
        """
        # A pipe or a device may have no end.
        if not self._path.is_file():
            self._begin()
            return
        with open(self._path, "rb") as file:
            if file.seek(0, 2) < self._offset:
                self._begin()
            file.seek(self._offset)
            for line in self._whole_lines(file):
                self._take(line)

    def _whole_lines(self, file: Any) -> Iterator[bytes]:
        """Yields lines that have ended; of one that is too long, nothing but its beginning."""
        rest = b""
        while chunk := file.read(_CHUNK):
            *lines, rest = (rest + chunk).split(b"\n")
            for line in lines:
                self._offset += len(line) + 1
                if not self._is_long:
                    yield line[: _LONGEST_LINE + 1]
                self._is_long = False
            if self._is_long or len(rest) > _LONGEST_LINE:
                if not self._is_long:
                    yield rest[: _LONGEST_LINE + 1]
                self._offset, rest, self._is_long = self._offset + len(rest), b"", True

    def _take(self, line: bytes) -> None:
        self._lines += 1
        self._newest.append(line)
        of_kind = self._validations if _VALIDATION in line else self._training
        # Those that are left out are not parsed: a log of many rows takes no longer for it.
        if not of_kind.takes_next():
            return
        try:
            of_kind.keep(self._lines, row_of(line))
        except ValueError as error:
            if not self._damaged:
                self._damaged.append((self._lines, str(error)))


class _Thinned:
    """Rows with their line numbers: all, every second, every fourth..., as many as are kept."""

    def __init__(self):
        self.kept: list[tuple[int, Row]] = []
        self._every, self._seen = 1, 0

    def takes_next(self) -> bool:
        self._seen += 1
        return (self._seen - 1) % self._every == 0

    def keep(self, number: int, row: Row) -> None:
        self.kept.append((number, row))
        if len(self.kept) > MOST_ROWS:
            del self.kept[1::2]
            self._every *= 2


def newest_row(path: Path, most: int = 1 << 16) -> Row:
    """Returns the last row of a training, by the end of its log; `{}` where there is none.

    Args:
        path: The log.
        most: How many bytes of its end are read. Defaults to `65536`.

    Raises:
        OSError: If it cannot be read.
    """
    if not path.is_file():
        return {}
    with open(path, "rb") as file:
        start = max(0, file.seek(0, 2) - most)
        file.seek(start)
        lines = file.read(most).split(b"\n")[bool(start) : -1]
    rows = (_row_or_none(line) for line in reversed(lines) if _VALIDATION not in line)
    return next((row for row in rows if row), {})


def row_of(line: bytes) -> Row:
    """Returns the row of a line: its step, its numbers and short texts, and its validation.

    Raises:
        ValueError: If it is not a row.
    """
    if len(line) > _LONGEST_LINE:
        raise ValueError(f"it is longer than {_LONGEST_LINE:,} bytes")
    row = parse_json(line.decode("utf-8", "replace"))
    if not isinstance(row, dict) or not isinstance(row.get("step"), int):
        raise ValueError("it is not a row of numbers")
    if not 0 <= row["step"] < _MOST_STEPS:
        raise ValueError("its step is not a step number")
    found = {"step": row["step"], **_scalars(row)}
    if isinstance(row.get("validation"), dict):
        found["validation"] = _scalars(row["validation"])
    return found


def _row_or_none(line: bytes) -> Row | None:
    try:
        return row_of(line)
    except ValueError:
        return None


def _scalars(row: Row) -> Row:
    return {
        key: value[:_MOST_CHARACTERS] if isinstance(value, str) else value
        for key, value in islice(row.items(), _MOST_KEYS)
        if isinstance(value, int | float | str)
    }
