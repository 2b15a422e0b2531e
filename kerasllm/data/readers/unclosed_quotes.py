"""Rows inside an unclosed quote: how they are told from a text of several lines."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from kerasllm.data.label_cells import is_number

# Values that are longer are texts, not labels or ids.
_LONGEST_VALUE = 40
# A column that has more is not one of labels; more are not held.
_MOST_VALUES = 1000
_FEW_ROWS = 4
_WORD = re.compile(r"\w{1,20}(?: \w{1,20}){0,2}")
_THOUSANDS = re.compile(r"[0-9]{3}(?![0-9])")
_DIGITS = re.compile(r"[0-9]+")


class _Column:
    """What is known of the values of a column."""

    def __init__(self):
        self.values: set[str] = set()
        # Whether all are numbers, and the forms that these have: `9.99`.
        self.numbers, self.forms, self.longest = True, set(), 0
        # Whether all are a few words, as labels are.
        self.words = True

    def add(self, value: str) -> None:
        if value in self.values or (len(self.values) > _MOST_VALUES and self.has_number(value)):
            return
        if len(self.values) <= _MOST_VALUES:
            self.values.add(value if len(value) <= _LONGEST_VALUE else "")
        self.words = self.words and _WORD.fullmatch(value) is not None
        self.numbers = self.numbers and is_number(value)
        if self.numbers:
            self.forms.add(_DIGITS.sub("9", value))
            self.longest = max(self.longest, len(value))

    def has_number(self, value: str) -> bool:
        """Whether a value is a number of a form that was met."""
        return (
            self.numbers
            and len(value) <= self.longest
            and _DIGITS.sub("9", value) in self.forms
            and is_number(value)
        )


class Habits:
    """What the values of each column of a table look like.

    A column of numbers has numbers of the same forms (`9.99`); a column whose values recur, such
    as labels, has these values.

    Args:
        rows: Rows that are sound; those of another width are left out.
        width: The number of columns.
        delimiter: What stands between the fields of a line.

    Attributes:
        width: As given.
    """

    def __init__(self, rows: Iterable[Sequence[str]], width: int, delimiter: str):
        self.width, self._delimiter = width, delimiter
        self._count = 0
        self._columns = [_Column() for _ in range(width)]
        for row in rows:
            if len(row) == width:
                self._count += 1
                for place, value in enumerate(row):
                    self.add(place, value)

    def add(self, place: int, value: str) -> None:
        """Adds a value of a column."""
        self._columns[place].add(value)

    def likeness(self, line: str, text: int, telling: range | None = None) -> int:
        """How much a line of a text looks like a row: 0, not; 1, perhaps; 2, clearly.

        It does if it has as many fields as a row, or more, and values like a row's. What may be a
        number with a comma, as in `1,000`, is no clear sign.

        Args:
            line: The line.
            text: The column of the text, which may hold delimiters.
            telling: The columns; at least one must have a value like a row's, not just none unlike
                it. Defaults to `None`: any.
        """
        more = line.count(self._delimiter) + 1 - self.width
        if more < 0:
            return 0
        fields = line.rstrip("\r\n").split(self._delimiter)
        alike = 0
        for column, known in enumerate(self._columns):
            place = column if column < text else column + more
            value, values = fields[place], known.values
            if column == text or not value or not values:
                continue
            if known.numbers:
                if value not in values and not known.has_number(value):
                    return 0
            elif value not in values:
                if self._count >= _FEW_ROWS and 2 * len(values) <= self._count:
                    return 0
                # Of few rows, not all labels are known: where these are words, another word is one.
                if self._count >= _FEW_ROWS or not (known.words and _WORD.fullmatch(value)):
                    continue
            if telling is None or column in telling:
                alike = max(alike, 1 if self._is_one_number(fields, place) else 2)
        return alike

    def _is_one_number(self, fields: Sequence[str], place: int) -> bool:
        """Whether a comma stands in a number, as in `1,000`."""
        before = fields[place - 1][-1:] if place else ""
        return self._delimiter == "," and before.isdigit() and bool(_THOUSANDS.match(fields[place]))


def swallows_rows(fields: Sequence[str], habits: Habits, delimiter: str) -> bool:
    """Whether a record of several lines holds lines that look like rows of their own.

    Args:
        fields: The fields of the record.
        habits: What rows of the table look like; values of this record are added.
        delimiter: What stands between fields.
    """
    over = [place for place, field in enumerate(fields) if "\n" in field]
    if not any(delimiter in fields[place] for place in over):
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
