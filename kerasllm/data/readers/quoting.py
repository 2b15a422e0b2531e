"""Whether a tsv file was written with quotes, as spreadsheets and pandas do, or without."""

from __future__ import annotations

import dataclasses
import functools
import re
from collections.abc import Iterator, Sequence

from kerasllm.data.readers.data_file import DataFile
from kerasllm.data.readers.text_lines import first_lines
from kerasllm.data.readers.unclosed_quotes import Habits, swallows_rows

LINES = 10_000
"""The number of first lines that are checked."""

# A record may go over so many lines and characters; what is longer is a quote without an end.
_LONGEST_RECORD = 1 << 20
_MOST_LINES = 1000

_QUOTED = r'"[^"]*(?:""[^"]*)*"'
# What is not in quotes, though other fields are.
_BARE = re.compile(r"NA|[-+]?[0-9.]*([eE][-+]?[0-9]+)?")
_OPEN = re.compile(r'"[^"]*(?:""[^"]*)*\Z')


@dataclasses.dataclass(frozen=True)
class Quoting:
    """How the fields of a tsv file are to be read.

    Args:
        quoted: Whether quotes around a field are no part of it.
        remark: What a user should know of it. Defaults to `""`.
    """

    quoted: bool
    remark: str = ""


def detect_quoting(file: DataFile, skipped: int = 0) -> Quoting:
    """Finds out from the first lines of a tsv file whether it was written with quotes.

    It was if all fields but numbers are in quotes, the header's too; or if each `"` belongs to a
    field that is in quotes with the quotes inside it doubled, and some fields need it: they hold a
    quote, a tab or a line end. Anything else, such as the raw tables of GLUE, is read as it
    stands: there, a `"` is a character.

    Args:
        file: The file.
        skipped: The number of lines before the header. Defaults to `0`.

    Raises:
        DataError: The file cannot be read.
    """
    all_quoted, any_quoted = True, False
    # Fields in quotes that need them, fields in quotes that do not, quotes that are characters.
    needed = bare = stray = 0
    width, first = 0, 0
    widths: list[int] = []
    records = list(_records(file, skipped))
    habits = _habits(records)
    for line, record, raw in records:
        fields = raw_fields(record)
        if fields is None:
            stray += 1
            all_quoted = False
            continue
        if len(widths) == 1 and len(fields) == width + 1:
            # Rows that begin with a name have a field more than the header.
            width += 1
        width = width or len(fields)
        widths.append(len(fields))
        quoted = [field for field in fields if field.startswith('"')]
        any_quoted = any_quoted or bool(quoted)
        all_quoted = all_quoted and all(
            field.startswith('"') or _BARE.fullmatch(field) for field in fields
        )
        if not quoted:
            continue
        first = first or line
        inside = [field[1:-1] for field in quoted]
        if len(fields) != width:
            stray += 1
            all_quoted = False
        elif any(end in field for field in inside for end in "\t\r\n"):
            # Two texts, the one with a quote at its start and the next with one at its end, make a
            # field too; as raw lines they have the right number of fields, or look like rows.
            plain = [field.strip('"') for field in fields]
            if all(line.count("\t") + 1 == width for line in raw) or (
                not all_quoted and swallows_rows(plain, habits, "\t")
            ):
                stray += 1
            else:
                needed += 1
        elif any('"' in field for field in inside):
            needed += 1
        else:
            bare += 1
    if any_quoted and all_quoted:
        return Quoting(True)
    if needed and not stray:
        return Quoting(True)
    if needed > stray or (bare and not stray):
        return Quoting(
            False,
            f'{file.name} is read without quoting, so that a " is a character of the text, though '
            f"some fields are in quotes (the first in line {first}); if those are no part of the "
            "texts, save the file as csv",
        )
    return Quoting(False)


def _habits(records: Sequence[tuple[int, str, list[str]]]) -> Habits:
    """What the rows of a line look like, the header left out."""
    lines = (raw_fields(record) for _, record, raw in records if len(raw) == 1)
    rows = [[field.strip('"') for field in fields] for fields in lines if fields]
    width = len(raw_fields(records[0][1]) or ()) if records else 0
    return Habits(rows[1:], width, "\t")


def _records(file: DataFile, skipped: int) -> Iterator[tuple[int, str, list[str]]]:
    """Yields first line, text, and raw lines of the records, which are split where quotes allow.

    A quote that is opened and not closed within a line opens a record of several lines. A line
    whose quotes are characters is a record.
    """
    lines = iter(list(enumerate(first_lines(file, LINES), start=1))[skipped:])
    kept: list[tuple[int, str]] = []

    def take() -> tuple[int, str] | None:
        return kept.pop(0) if kept else next(lines, None)

    while (found := take()) is not None:
        number, line = found
        if not line.strip("\r\n"):
            continue
        record, more = line, []
        while '"' in record and raw_fields(record) is None and _is_open(record):
            # Only a line with a quote can close it.
            while (following := take()) is not None:
                more.append(following)
                if '"' in following[1] or len(more) == _MOST_LINES:
                    break
            record = line + "".join(text for _, text in more)
            if following is None or len(more) >= _MOST_LINES or len(record) > _LONGEST_RECORD:
                break
        if raw_fields(record) is None:
            if number + len(more) == LINES and len(more) < _MOST_LINES and _is_open(record):
                # It ends after the lines that are checked.
                return
            record, kept = line, more + kept
            more = []
        yield number, record, [line, *(text for _, text in more)]


@functools.cache
def _field(delimiter: str) -> re.Pattern[str]:
    mark = re.escape(delimiter)
    return re.compile(rf'({_QUOTED}|[^"{mark}\r\n]*)({mark}|\r?\n?\Z)')


def raw_fields(record: str, delimiter: str = "\t") -> list[str] | None:
    """Returns the fields of a record with the quotes around them.

    Args:
        record: A line, or several where a text goes over them.
        delimiter: What stands between fields. Defaults to a tab.

    Returns:
        The fields; `None` if some quotes are characters.
    """
    if '"' not in record:
        return record.rstrip("\r\n").split(delimiter)
    fields, place, pattern = [], 0, _field(delimiter)
    while match := pattern.match(record, place):
        fields.append(match[1])
        if match[2] != delimiter:
            return fields
        place = match.end()
    return None


def _is_open(record: str) -> bool:
    """Whether a record ends within a field that a quote has opened."""
    place = 0
    while (match := _field("\t").match(record, place)) and match[2] == "\t":
        place = match.end()
    return _OPEN.match(record, place) is not None
