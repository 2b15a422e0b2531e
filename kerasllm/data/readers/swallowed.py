"""Rows that a quote left open has swallowed: how they are told from a text of several lines."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from kerasllm.data.problems import is_number

# Values that are longer are texts, not labels or ids.
_LONGEST_VALUE = 40
_FEW_ROWS = 4
_DIGITS = re.compile(r"[0-9]+")


class Habits:
    """What the values of each column of a table look like.

    A column of numbers has numbers of the same forms (`9.99`); a column whose values recur, such
    as labels, has these values.

    Args:
        rows: Rows that are sound, of which those of another width are left out.
        width: The number of columns.
        delimiter: What stands between the fields of a line.
    """

    def __init__(self, rows: Iterable[Sequence[str]], width: int, delimiter: str):
        self._width, self._delimiter = width, delimiter
        self._count = 0
        self._seen: list[set[str]] = [set() for _ in range(width)]
        for row in rows:
            if len(row) == width:
                self._count += 1
                for place, value in enumerate(row):
                    self.add(place, value)

    def add(self, place: int, value: str) -> None:
        """Adds a value of a column."""
        if len(value) <= _LONGEST_VALUE:
            self._seen[place].add(value)
        else:
            # No column of numbers or labels.
            self._seen[place].add("a text")

    def looks_like_a_row(self, line: str) -> bool:
        """Whether a line of a text has the number of fields of a row, and values like a row's."""
        fields = line.rstrip("\r\n").split(self._delimiter)
        if len(fields) != self._width:
            return False
        alike = False
        for place, value in enumerate(fields):
            seen = self._seen[place]
            if not value or not seen:
                continue
            if all(map(is_number, seen)):
                if not self._is_like(value, seen) or self._is_thousands(fields, place):
                    return False
                alike = True
            elif value in seen:
                alike = True
            elif self._count >= _FEW_ROWS and 2 * len(seen) <= self._count:
                return False
        return alike

    def _is_like(self, value: str, seen: set[str]) -> bool:
        return value in seen or (
            is_number(value) and _DIGITS.sub("9", value) in {_DIGITS.sub("9", one) for one in seen}
            and len(value) <= max(map(len, seen))
        )  # fmt: skip

    def _is_thousands(self, fields: Sequence[str], place: int) -> bool:
        """Whether a comma stands in a number, as in `1,000`."""
        return (
            self._delimiter == ","
            and place > 0
            and fields[place - 1][-1:].isdigit()
            and len(fields[place]) == 3
            and fields[place].isdigit()
        )


def swallows_rows(fields: Sequence[str], habits: Habits, delimiter: str) -> bool:
    """Whether a record of several lines holds lines that look like rows of their own.

    Args:
        fields: The fields of the record.
        habits: What rows of the table look like; values of this record are added.
        delimiter: What stands between fields.
    """
    for place, field in enumerate(fields):
        if "\n" not in field:
            habits.add(place, field)
    lines = delimiter.join(fields).split("\n")
    return any(map(habits.looks_like_a_row, lines[:-1]))
