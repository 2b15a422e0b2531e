"""What stands above the header of a table: titles and comments; and names of rows before it."""

from __future__ import annotations

import contextlib
import csv
import itertools
from collections.abc import Sequence

from kerasllm.data.readers.headers import has_known_name

# More lines are no title.
_MOST_LINES = 20
_NEARLY_ALL = 0.95
_FEW_ROWS = 3
_LONGEST_NAME = 40
_COMMENT = "#"


def lines_above_header(lines: Sequence[str], delimiters: Sequence[str]) -> int:
    """Returns how many first lines are no part of a table: comments, or a title above its header.

    Comments begin with `#`. A header is told from what is above it by the common name of a column,
    by as many fields as the lines below it have, and by more than those above it.

    Args:
        lines: The first lines.
        delimiters: What may separate fields.
    """
    comments = _comments(lines, delimiters)
    for delimiter in delimiters:
        if title := _title(lines[comments:], delimiter):
            return comments + title
    return comments


def _comments(lines: Sequence[str], delimiters: Sequence[str]) -> int:
    above = list(
        itertools.takewhile(
            lambda line: line.startswith(_COMMENT) or not line.strip(), lines[:_MOST_LINES]
        )
    )
    rest = lines[len(above) :]
    if not any(line.strip() for line in above) or not rest or len(above) == _MOST_LINES:
        return 0
    last = max(place for place, line in enumerate(above) if line.strip())
    for delimiter in delimiters:
        below = fields_of(rest[0], delimiter)
        # The header may be a comment itself: it has the fields of a row, which is below it.
        if len(below) > 1 and len(fields_of(above[last], delimiter)) == len(below):
            return len(above) if has_known_name(below) else last
    return len(above)


def _title(lines: Sequence[str], delimiter: str) -> int:
    rows = [fields_of(line, delimiter) for line in lines]
    if not rows or has_known_name(rows[0]):
        return 0
    for place, row in enumerate(rows[1:_MOST_LINES], start=1):
        if not has_known_name(row):
            continue
        below = [one for one in rows[place + 1 :] if any(one)]
        fewer = all(sum(map(bool, one)) < sum(map(bool, row)) for one in rows[:place])
        alike = sum(len(one) == len(row) for one in below) >= _NEARLY_ALL * len(below)
        short = all(len(name) <= _LONGEST_NAME for name in row)
        # A name is not a value too, as `question` may be a label.
        named = all(
            name not in {one[at] for one in below if len(one) > at}
            for at, name in enumerate(row)
            if name
        )
        return place if below and fewer and alike and short and named and len(row) > 1 else 0
    return 0


def fields_of(line: str, delimiter: str) -> list[str]:
    """Returns the fields of a line by itself."""
    line = line.rstrip("\r\n")
    fields = line.split(delimiter)
    if '"' in line and len(delimiter) == 1:
        with contextlib.suppress(csv.Error):
            fields = next(csv.reader([line], delimiter=delimiter, skipinitialspace=True), [])
    return [field.strip() for field in fields]


def has_row_names(lines: Sequence[str], rows: Sequence[Sequence[str]]) -> bool:
    """Whether each row has one field more than the header: its name in front, as R writes it.

    Args:
        lines: The first lines.
        rows: Their fields, the header's first.
    """
    header, *below = rows
    more = [row for row in below if len(row) == len(header) + 1]
    if len(below) < _FEW_ROWS or len(more) < _NEARLY_ALL * len(below):
        return False
    names = [row[0].strip() for row in more]
    if len(set(names)) < len(names) or not any(row[-1] for row in more):
        return False
    # A comma in a text makes a field more too; but no numbers, and none where all is in quotes.
    return all(name.isdecimal() for name in names) or all(line.startswith('"') for line in lines)
