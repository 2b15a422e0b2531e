"""Rows that are JSON objects: one a line, or in a list."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Iterator
from typing import Any

from kerasllm.data.readers.faults import DUPLICATE_KEY, NOT_AN_OBJECT, NOT_JSON, Fault
from kerasllm.data.readers.files import DataFile
from kerasllm.data.readers.json_tables import rows_of_object
from kerasllm.data.readers.text_lines import TextLines
from kerasllm.errors import DataError

Record = tuple[int, dict | None, str | None]

# A list begins in the first line that is not blank.
_LINES_TO_LOOK_AT = 10
# Characters: a list has no place to stop at.
_LONGEST_LIST = 1 << 30
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
    if file.suffix == ".json":
        return _listed(file, nested)
    start = list(itertools.islice(TextLines(file), _LINES_TO_LOOK_AT))
    first = next((line for line in start if line.strip()), "")
    over_lines = _OVER_LINES.match(first) or (len(start) == 1 and _is_table(first, file, nested))
    return _listed(file, nested) if over_lines else _lines(file)


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
            keys = [key for key, _ in pairs]
            self.repeated.append(next(key for key in found if keys.count(key) > 1))
        return found

    def checked(self, line: int, value: Any) -> Record:
        """A record of a value that was decoded."""
        if self.repeated:
            key = self.repeated[0]
            self.repeated.clear()
            return line, None, Fault(f"the key '{key}' is there twice", DUPLICATE_KEY)
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
                yield parser.checked(number, found)
                continue
            column = min(error.pos, len(line.rstrip())) + 1
            what = f"not JSON: {error.msg.removesuffix(' at')} at column {column}"
            yield number, None, Fault(what, NOT_JSON)
        except (ValueError, RecursionError) as error:
            repeated.clear()
            yield number, None, Fault(f"JSON that cannot be read: {error}", NOT_JSON)
        else:
            if type(record) is dict and not repeated:
                yield number, record, None
            else:
                yield parser.checked(number, record)


def _without_comma(line: str, parser: _Parser) -> dict | None:
    """The object of a line that ends in a comma, as in a list without its brackets."""
    try:
        return parser.decoder.decode(line.rstrip().removesuffix(","))
    except (ValueError, RecursionError):
        parser.repeated.clear()
        return None


def _whole(lines: TextLines) -> str:
    """The text of a file that is read at once."""
    held, characters = [], 0
    for line in lines:
        held.append(line)
        characters += len(line)
        if characters > _LONGEST_LIST:
            raise DataError(
                f"The list has more than {_LONGEST_LIST >> 20:,} MB, and is read at once",
                where=lines.file.name,
                fix="write an object a line: `jq -c '.[]' FILE > FILE.jsonl`",
            )
    return "".join(held)


def _listed(file: DataFile, nested: bool = False) -> Iterator[Record]:
    lines, parser = TextLines(file), _Parser()
    text, faults = _whole(lines), lines.problems
    place, line, counted = _SPACE.match(text).end(), 1, 0
    in_list = text.startswith("[", place)
    first = place = _SPACE.match(text, place + in_list).end()
    while place < len(text) and not text.startswith("]", place):
        line, counted = line + text.count("\n", counted, place), place
        try:
            value, end = parser.decoder.raw_decode(text, place)
        except (ValueError, RecursionError) as error:
            raise DataError(
                f"The file is not JSON from here on: {error}",
                where=f"{file.name}:{line}",
                fix='write a list of objects, [{"text": "..."}, ...], or one a line',
            ) from error
        last = line + text.count("\n", place, end)
        fault = next((faults[each] for each in range(line, last + 1) if each in faults), None)
        place = _SPACE.match(text, end).end()
        if fault is not None:
            parser.repeated.clear()
            yield line, None, fault
        elif not in_list and type(value) is dict and counted == first and place == len(text):
            # The one object of the file.
            record = parser.checked(line, value)
            rows = None if record[2] else rows_of_object(value, file.name, nested=nested)
            yield from [record] if rows is None else ((line, row, None) for row in rows)
        else:
            yield parser.checked(line, value)
        if text.startswith(",", place):
            place = _SPACE.match(text, place + 1).end()
    line += text.count("\n", counted, place)
    if in_list and place >= len(text):
        raise DataError(
            "The list in the file has no end",
            where=f"{file.name}:{line}",
            fix="copy or download it again; it ends with ]",
        )
    after = _SPACE.match(text, place + in_list).end()
    line += text.count("\n", place, after)
    if after < len(text):
        raise DataError(
            "There is more after the end of the list",
            where=f"{file.name}:{line}",
            fix="write one list, or one object a line",
        )
