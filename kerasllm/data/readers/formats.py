"""One reader per file format: a file becomes columns and rows, and each row knows its line.

A reader yields `(line, text, label, problem)`. `line` counts from 1: the line of the file where the
row starts (lines end at a line feed), or the number of the row in a Parquet file. `problem` is
`None`, or says why this row cannot be read though the rows after it can; the text and the label are
then `None`. What spoils the rest of the file is raised as a `DataError`.
"""

from __future__ import annotations

import csv
import dataclasses
import functools
import itertools
import json
from collections.abc import Callable, Iterator
from typing import Any

from kerasllm.data.readers.files import DataFile
from kerasllm.data.readers.parquet import parquet_columns, parquet_rows
from kerasllm.data.readers.text_lines import LONGEST, TextLines
from kerasllm.errors import DataError

Row = tuple[int, Any, Any, str | None]

# Rows of a jsonl file whose keys together are its columns: a key may be missing in some rows.
_ROWS_FOR_COLUMNS = 100


@dataclasses.dataclass(frozen=True)
class Format:
    """How one kind of file is read.

    Args:
        name: The format's name.
        columns: Takes a file and returns the names of its columns in order, none for an empty
            file. `None` for a format without columns.
        rows: Takes a file, the name of the text column and that of the label column (either may
            be `None`), and yields rows.
    """

    name: str
    columns: Callable[[DataFile], list[str]] | None
    rows: Callable[[DataFile, str | None, str | None], Iterator[Row]]


def format_of(file: DataFile) -> Format:
    """The format of a file, by the suffix of its name.

    Raises:
        DataError: No format has this suffix.
    """
    if file.suffix in FORMATS and not (file.compressed and file.suffix == ".parquet"):
        return FORMATS[file.suffix]
    if file.suffix == ".parquet":
        fix = "unpack it: a Parquet file is compressed inside"
    elif file.suffix == ".json":
        fix = "if it holds one JSON object a line, give it a name that ends in .jsonl"
    else:
        fix = f"known: {' '.join(FORMATS)}, and all but .parquet followed by .gz"
    raise DataError(
        f"The suffix of a file tells its format, and '{file.suffix}' is not known",
        where=file.name,
        fix=fix,
    )


# csv and tsv


def _csv_columns(file: DataFile, delimiter: str) -> list[str]:
    _, _, header = _open_csv(file, delimiter)
    return header


def _csv_rows(
    file: DataFile, text: str | None, label: str | None, delimiter: str
) -> Iterator[Row]:
    reader, lines, header = _open_csv(file, delimiter)
    width = len(header)
    text_at = header.index(text)
    label_at = text_at if label is None else header.index(label)
    for line, fields, problem in _csv_records(reader, lines):
        if problem is not None:
            yield line, None, None, problem
        elif len(fields) == width:
            yield line, fields[text_at], fields[label_at], None
        else:
            count = "1 field" if len(fields) == 1 else f"{len(fields)} fields"
            problem = f"{count}, where the header names {width}"
            yield line, None, None, problem + _span(line, reader.line_num)


def _open_csv(file: DataFile, delimiter: str) -> tuple[Any, TextLines, list[str]]:
    """The csv reader, placed after the header; its lines; the header, empty for an empty file."""
    # The limit is one for the whole process; others may have set it higher.
    csv.field_size_limit(max(csv.field_size_limit(), LONGEST))
    lines = TextLines(file)
    # strict: quotes that do not pair are errors, where the default guesses what was meant.
    reader = csv.reader(lines, delimiter=delimiter, strict=True)
    line, header, problem = next(_csv_records(reader, lines), (1, [], None))
    if problem is not None:
        raise DataError(
            f"The header cannot be read: {problem}",
            where=f"{file.name}:{line}",
            fix="the first line names the columns; correct it",
        )
    names = [name.strip() for name in header]
    return reader, lines, names if any(names) else []


def _csv_records(
    reader: Any, lines: TextLines
) -> Iterator[tuple[int, list[str] | None, str | None]]:
    """Yields line, fields and problem of each record; a line with nothing on it is no record."""
    problems = lines.problems
    while True:
        line = reader.line_num + 1
        try:
            fields = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            # Either way the reader is still inside quotes: no row after this can be trusted.
            if lines.ended or "field limit" in str(error):
                raise DataError(
                    "A quote that is opened in this row is never closed"
                    + ("" if lines.ended else f", or a field is over {LONGEST >> 20} MB"),
                    where=f"{lines.file.name}:{line}",
                    fix='close it; a quote inside a quoted text is written twice: ""',
                ) from error
            problems.clear()
            if "new-line character" in str(error):
                problem = "a carriage return outside quotes"
            else:
                problem = 'text after a closing quote; a quote inside quotes is written ""'
            yield line, None, problem + _span(line, reader.line_num)
            continue
        if problems:
            line, problem = lines.take_problem()
            yield line, None, problem
        elif fields:
            yield line, fields, None


def _span(first: int, last: int) -> str:
    return f" (the row goes on to line {last}: is a quote left open?)" if last > first else ""


# jsonl


def _json_columns(file: DataFile) -> list[str]:
    records = list(itertools.islice(json_records(file), _ROWS_FOR_COLUMNS))
    columns = dict.fromkeys(key for _, record, _ in records for key in record or ())
    if records and not columns:
        line, _, problem = records[0]
        raise DataError(
            f"There is no row in the file's first lines: {problem or 'an object without keys'}",
            where=f"{file.name}:{line}",
            fix='write one object a line: {"text": "...", "label": "..."}',
        )
    return list(columns)


def _json_rows(file: DataFile, text: str | None, label: str | None) -> Iterator[Row]:
    last = text if label is None else label
    for line, record, problem in json_records(file):
        if problem is not None:
            yield line, None, None, problem
        elif text in record and last in record:
            yield line, record[text], record[last], None
        else:
            missing = last if text in record else text
            there = ", ".join(map(repr, itertools.islice(record, 10))) or "none"
            yield line, None, None, f"no key '{missing}' (keys there: {there})"


def json_records(file: DataFile) -> Iterator[tuple[int, dict | None, str | None]]:
    """Yields line, object and problem of each line that is not blank."""
    lines = TextLines(file)
    for number, line in enumerate(lines, start=1):
        if lines.problems:
            yield number, None, lines.take_problem()[1]
            continue
        try:
            record = json.loads(line)
        except json.JSONDecodeError as error:
            if line.strip():
                column = min(error.pos, len(line.rstrip())) + 1
                yield number, None, f"not JSON: {error.msg.removesuffix(' at')} at column {column}"
        except (ValueError, RecursionError) as error:
            yield number, None, f"JSON that cannot be read: {error}"
        else:
            if type(record) is dict:
                yield number, record, None
            else:
                yield number, None, f"{json_kind(record)}, where a JSON object is expected"


def json_kind(value: Any) -> str:
    """What a value that came from JSON (or from a column) is, in words."""
    names = {str: "a string", list: "a list", dict: "an object", bool: "a boolean"}
    return "null" if value is None else names.get(type(value), "a number")


# txt


def _txt_rows(file: DataFile, text: str | None, label: str | None) -> Iterator[Row]:
    lines = TextLines(file)
    for number, line in enumerate(lines, start=1):
        if lines.problems:
            yield number, None, None, lines.take_problem()[1]
        else:
            yield number, line.removesuffix("\n").removesuffix("\r"), None, None


def _delimited(name: str, delimiter: str) -> Format:
    return Format(
        name,
        functools.partial(_csv_columns, delimiter=delimiter),
        functools.partial(_csv_rows, delimiter=delimiter),
    )


_JSONL = Format("jsonl", _json_columns, _json_rows)

FORMATS = {
    ".csv": _delimited("csv", ","),
    ".tsv": _delimited("tsv", "\t"),
    ".jsonl": _JSONL,
    ".ndjson": _JSONL,
    ".parquet": Format("parquet", parquet_columns, parquet_rows),
    ".txt": Format("txt", None, _txt_rows),
}
"""Suffix to format."""
