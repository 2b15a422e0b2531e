"""Rows that are JSON objects: one a line, or in a list."""

from __future__ import annotations

import itertools
import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any

from kerasllm.data.readers.data_file import BLOCK, DataFile
from kerasllm.data.readers.faults import DUPLICATE_KEY, NOT_AN_OBJECT, NOT_JSON, Fault
from kerasllm.data.readers.json_tables import rows_of_object
from kerasllm.data.readers.text_lines import LONGEST, TextLines, first_lines
from kerasllm.errors import DataError
from kerasllm.json_files import MOST_LEVELS, is_deep

Record = tuple[int, dict | None, str | None]

# A list begins in the first line that is not blank.
_LINES_TO_LOOK_AT = 10
# Bytes: many programs write a list without a line feed.
_LONGEST_LINE = 1 << 27
# In a value of more than 16 MB, such as one that holds all rows.
_MOST_VALUES = 1 << 22
# Records whose keys together are a file's columns, and how many are looked at for them.
_RECORDS_FOR_COLUMNS = 100
_RECORDS_TRIED = 10_000
# One after the other. Rows that cannot be read may be skipped, but millions are no rows.
_MOST_BAD = 1 << 20
_SPACE = re.compile(r"\s*")
# The first line of a list, or of an object that goes over lines; lists one a line hold something
# else.
_OVER_LINES = re.compile(r"\s*(?:\[\s*(?:\{|\Z)|\{\s*\Z)")


def json_records(file: DataFile, *, nested: bool = False) -> Iterator[Record]:
    """Yields the objects of a file that has one a line, or a list of them.

    Those of a `.json` file, or of another that begins so, may go over any number of lines. A file
    that is one object may hold all rows in it (see `rows_of_object`).

    Args:
        file: The file.
        nested: As for `rows_of_object`. Defaults to `False`.

    Yields:
        Line, object, and what is wrong with it; the object is then `None`. Blank lines are left
        out.

    Raises:
        DataError: The file cannot be read on.
    """
    return _unless_endless(_records(file, nested), file)


def _records(file: DataFile, nested: bool) -> Iterator[Record]:
    if file.suffix == ".json":
        return _listed(file, nested)
    start = first_lines(file, _LINES_TO_LOOK_AT)
    first = next((line for line in start if line.strip()), "")
    over_lines = _OVER_LINES.match(first) or (len(start) == 1 and _is_table(first, file, nested))
    return _listed(file, nested) if over_lines else _lines(file)


def _unless_endless(records: Iterable[Record], file: DataFile) -> Iterator[Record]:
    """Yields records; refuses a file, such as a small packed one, that has no more to give."""
    bad = 0
    for record in records:
        bad = 0 if record[1] is not None else bad + 1
        if bad > _MOST_BAD:
            raise DataError(
                f"The last {_MOST_BAD:,} records cannot be read; this one: {record[2]}",
                where=f"{file.name}:{record[0]}",
                fix="write a JSON object for each row",
            )
        yield record


def first_objects(records: Iterable[Record], file: DataFile, example: str) -> list[dict]:
    """Returns a file's first objects, by which its columns are found.

    Args:
        records: Of the file.
        file: The file.
        example: What an error says to write.

    Raises:
        DataError: None of its first records is an object.
    """
    tried = itertools.islice(records, _RECORDS_TRIED)
    objects = (record for _, record, problem in tried if problem is None)
    found = list(itertools.islice(objects, _RECORDS_FOR_COLUMNS))
    if not found:
        raise DataError(
            f"The file has no readable record among its first {_RECORDS_TRIED:,}",
            where=file.name,
            fix=example,
        )
    return found


def _is_table(line: str, file: DataFile, nested: bool) -> bool:
    """Whether the one line of a file is an object that holds all rows."""
    try:
        found = json.loads(line)
    except (ValueError, RecursionError):
        return False
    return type(found) is dict and rows_of_object(found, file.name, nested=nested) is not None


def json_kind(value: Any) -> str:
    """What a value that came from JSON (or from a column) is, in words."""
    names = {str: "a string", list: "a list", dict: "an object", bool: "a boolean"}
    return "null" if value is None else names.get(type(value), "a number")


class _Parser:
    """A decoder of JSON that notes keys which an object holds twice.

    Attributes:
        decoder: The decoder.
        repeated: The keys that were noted, which its user empties row by row.
    """

    def __init__(self):
        self.repeated: list[str] = []
        self.decoder = json.JSONDecoder(object_pairs_hook=self._object)

    def _object(self, pairs: list[tuple[str, Any]]) -> dict:
        found = dict(pairs)
        if len(found) < len(pairs):
            counts = Counter(key for key, _ in pairs)
            self.repeated.append(next(key for key, count in counts.items() if count > 1))
        return found

    def checked(self, line: int, value: Any, signs: int) -> Record:
        """A record of a value that was decoded from a text with so many brackets."""
        if self.repeated:
            key = self.repeated[0]
            self.repeated.clear()
            return line, None, Fault(f"the key '{key}' occurs twice", DUPLICATE_KEY)
        if signs > MOST_LEVELS and is_deep(value):
            what = f"JSON that is nested more than {MOST_LEVELS} times"
            return line, None, Fault(what, NOT_JSON)
        if type(value) is dict:
            return line, value, None
        what = f"{json_kind(value)}, where a JSON object is expected"
        return line, None, Fault(what, NOT_AN_OBJECT)


def _lines(file: DataFile) -> Iterator[Record]:
    lines, parser = TextLines(file), _Parser()
    problems, repeated, decode = lines.problems, parser.repeated, parser.decoder.decode
    for number, line in enumerate(lines, start=1):
        if problems:
            yield number, None, lines.take_problem()[1]
            continue
        if line.isspace():
            continue
        try:
            record = decode(line)
        except json.JSONDecodeError as error:
            repeated.clear()
            if line.rstrip().endswith("},") and (found := _without_comma(line, parser)):
                yield parser.checked(number, found, line.count("[") + line.count("{"))
                continue
            column = min(error.pos, len(line.rstrip())) + 1
            what = f"not JSON: {error.msg.removesuffix(' at')} at column {column}"
            yield number, None, Fault(what, NOT_JSON)
        except (ValueError, RecursionError) as error:
            repeated.clear()
            yield number, None, Fault(f"JSON that cannot be read: {error}", NOT_JSON)
        else:
            signs = line.count("[") + line.count("{")
            if type(record) is dict and not repeated and signs <= MOST_LEVELS:
                yield number, record, None
            else:
                yield parser.checked(number, record, signs)


def _without_comma(line: str, parser: _Parser) -> dict | None:
    """The object of a line that ends in a comma, as in a list without its brackets."""
    try:
        return parser.decoder.decode(line.rstrip().removesuffix(","))
    except (ValueError, RecursionError):
        parser.repeated.clear()
        return None


class _Held:
    """The text of a file that goes over lines, as much of it as is needed.

    Attributes:
        line: The line that is read, counted from 1.
        signs: How many brackets the last value has.
    """

    def __init__(self, lines: TextLines):
        self._file = lines.file
        self._pieces = _pieces(lines)
        self._text, self._place, self._ended = "", 0, False
        self.line, self.signs = 1, 0

    def skip(self, sign: str = "") -> bool:
        """Goes over space, and over a sign after it; returns whether the sign is there."""
        while True:
            self._go_to(_SPACE.match(self._text, self._place).end())
            if self._place < len(self._text) or not self._more():
                break
        found = self.is_at(sign)
        self._go_to(self._place + len(sign) * found)
        return found

    def is_at(self, sign: str) -> bool:
        """Whether a sign comes next; of the sign `""`, whether the text has more."""
        return self._text.startswith(sign, self._place) and self._place < len(self._text)

    def value(self, parser: _Parser, longest: int) -> Any:
        """Reads a value that has no more than so many characters, as far as they are needed.

        Raises:
            DataError: What comes next is none, or is too long.
        """
        while True:
            parser.repeated.clear()
            try:
                value, end = parser.decoder.raw_decode(self._text, self._place)
            except (ValueError, RecursionError) as error:
                if self._may_grow(longest) and self._more():
                    continue
                raise DataError(
                    f"The file is not JSON from here on: {getattr(error, 'msg', error)}",
                    where=f"{self._file.name}:{self.line}",
                    fix='write a list of objects, [{"text": "..."}, ...], or one a line',
                ) from error
            # A number may have more digits.
            if end < len(self._text) or not self._more():
                self.signs = sum(self._text.count(sign, self._place, end) for sign in "[{")
                self._go_to(end)
                return value

    def _may_grow(self, longest: int) -> bool:
        """Whether a value may have more characters than are held.

        What it holds takes a hundred bytes for a sign, so that one that is long has few.
        """
        held = len(self._text) - self._place
        return held <= LONGEST or (
            held <= longest
            and sum(self._text.count(sign, self._place) for sign in ",[{") <= _MOST_VALUES
        )

    def _go_to(self, place: int) -> None:
        self.line += self._text.count("\n", self._place, place)
        self._place = place

    def _more(self) -> bool:
        """Reads on, at least as much as is held; returns whether there was more."""
        held = [self._text[self._place :]]
        wanted = max(BLOCK, len(held[0]))
        while not self._ended and wanted > 0:
            piece = next(self._pieces, "")
            self._ended = not piece
            held.append(piece)
            wanted -= len(piece)
        self._text, self._place = "".join(held), 0
        return len(held) > 1 and len(self._text) > len(held[0])


def _pieces(lines: TextLines) -> Iterator[str]:
    for line in lines:
        for start in range(0, len(line), BLOCK):
            yield line[start : start + BLOCK]


def _listed(file: DataFile, nested: bool = False) -> Iterator[Record]:
    lines, parser = TextLines(file, _LONGEST_LINE), _Parser()
    held, faults = _Held(lines), lines.problems
    in_list = held.skip("[")
    held.skip()
    is_first = not in_list
    while held.is_at("") and not held.is_at("]"):
        line = held.line
        value = held.value(parser, _LONGEST_LINE if is_first else LONGEST)
        fault = next((faults[each] for each in range(line, held.line + 1) if each in faults), None)
        held.skip()
        if fault is not None:
            parser.repeated.clear()
            yield line, None, fault
        elif is_first and type(value) is dict and not held.is_at(""):
            # The one object of the file.
            record = parser.checked(line, value, held.signs)
            rows = None if record[2] else rows_of_object(value, file.name, nested=nested)
            yield from [record] if rows is None else ((line, row, None) for row in rows)
        else:
            yield parser.checked(line, value, held.signs)
        is_first = False
        held.skip(",")
        held.skip()
    if in_list and not held.is_at(""):
        raise DataError(
            "The list in the file is not closed",
            where=f"{file.name}:{held.line}",
            fix="copy or download it again; it ends with ]",
        )
    if in_list:
        held.skip("]")
    held.skip()
    if held.is_at(""):
        raise DataError(
            "There is more text after the end of the list",
            where=f"{file.name}:{held.line}",
            fix="write one list, or one object a line",
        )
