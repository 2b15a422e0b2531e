"""Rows that a quote left open has swallowed: how they are told from a text of several lines."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from kerasllm.data.label_cells import is_number

# Values that are longer are texts, not labels or ids.
_LONGEST_VALUE = 40
_FEW_ROWS = 4
_WORD = re.compile(r"\w{1,20}(?: \w{1,20}){0,2}")
_THOUSANDS = re.compile(r"[0-9]{3}(?![0-9])")
_DIGITS = re.compile(r"[0-9]+")


class Habits:
    """What the values of each column of a table look like.

    A column of numbers has numbers of the same forms (`9.99`); a column whose values recur, such
    as labels, has these values.

    Args:
        rows: Rows that are sound, of which those of another width are left out.
        width: The number of columns.
        delimiter: What stands between the fields of a line.

    Attributes:
        width: As given.
    """

    def __init__(self, rows: Iterable[Sequence[str]], width: int, delimiter: str):
        self.width, self._delimiter = width, delimiter
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

    def likeness(self, line: str, text: int, telling: range | None = None) -> int:
        """How much a line of a text looks like a row: 0, not; 1, perhaps; 2, clearly.

        It does if it has as many fields as a row, or more, and values like a row's. What may be a
        number with a comma, as in `1,000`, is no clear sign.

        Args:
            line: The line.
            text: The column of the text, which may hold delimiters.
            telling: The columns of which one must have a value like a row's, not just none unlike.
                Defaults to `None`: any.
        """
        fields = line.rstrip("\r\n").split(self._delimiter)
        more = len(fields) - self.width
        if more < 0:
            return 0
        alike = 0
        for column in range(self.width):
            place = column if column < text else column + more
            value, seen = fields[place], self._seen[column]
            if column == text or not value or not seen:
                continue
            if all(map(is_number, seen)):
                if not self._is_like(value, seen):
                    return 0
            elif value not in seen:
                if self._count >= _FEW_ROWS and 2 * len(seen) <= self._count:
                    return 0
                # Of few rows, not all labels are known: where these are words, another word is one.
                if self._count >= _FEW_ROWS or not all(map(_WORD.fullmatch, (value, *seen))):
                    continue
            if telling is None or column in telling:
                alike = max(alike, 1 if self._is_one_number(fields, place) else 2)
        return alike

    def _is_like(self, value: str, seen: set[str]) -> bool:
        return value in seen or (
            is_number(value) and _DIGITS.sub("9", value) in {_DIGITS.sub("9", one) for one in seen}
            and len(value) <= max(map(len, seen))
        )  # fmt: skip

    def _is_one_number(self, fields: Sequence[str], place: int) -> bool:
        """Whether a comma stands in a number, as in `1,000`."""
        before = fields[place - 1][-1:] if place else ""
        return self._delimiter == "," and before.isdigit() and bool(
            _THOUSANDS.match(fields[place])
        )


def swallows_rows(fields: Sequence[str], habits: Habits, delimiter: str) -> bool:
    """Whether a record of several lines holds lines that look like rows of their own.

    Args:
        fields: The fields of the record.
        habits: What rows of the table look like; values of this record are added.
        delimiter: What stands between fields.
    """
    over = [place for place, field in enumerate(fields) if "\n" in field]
    if not over:
        return False
    for place, field in enumerate(fields):
        if place not in over and len(fields) == habits.width:
            habits.add(place, field)
    first, *between, last = delimiter.join(fields).split("\n")
    # What comes before the text in its first line, and after it in its last, are fields in any
    # case.
    alike = [
        habits.likeness(first, over[0], range(over[0] + 1, len(fields))),
        *(habits.likeness(line, over[0]) for line in between),
    ]
    before = habits.likeness(last, over[-1], range(over[-1]))
    return 2 in (*alike, before) or (len(alike) > 1 and all(alike))
