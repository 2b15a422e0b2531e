"""One reader per file format: a file becomes columns and rows, and each row knows its line.

A reader yields `(line, values, problem)`. `line` counts from 1: the line of the file where the row
starts (lines end at a line feed), or the number of the row in a Parquet file. `values` are those of
the columns asked for: the texts, then the labels. `problem` is `None`, or says why this row cannot
be read though the rows after it can; there are then no values. What spoils the rest of the file is
raised as a `DataError`.
"""

from __future__ import annotations

import csv
import dataclasses
import functools
import itertools
import json
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from kerasllm.data.readers import compression
from kerasllm.data.readers.class_labels import ClassLabels
from kerasllm.data.readers.files import DataFile
from kerasllm.data.readers.parquet import parquet_class_labels, parquet_columns, parquet_rows
from kerasllm.data.readers.quoting import detect_quoting
from kerasllm.data.readers.text_lines import LONGEST, TextLines
from kerasllm.errors import DataError

Row = tuple[int, Sequence[Any], str | None]

# Rows of a jsonl file whose keys together are its columns: a key may be missing in some rows.
_ROWS_FOR_COLUMNS = 100


@dataclasses.dataclass(frozen=True)
class Columns:
    """Which columns of a file are read.

    Args:
        texts: The columns of the texts: names, or numbers counted from 0.
        labels: The columns of the labels. Defaults to `()`.
        header: Whether the first line of a csv or tsv file names the columns, and is no row.
            Defaults to `True`.
    """

    texts: tuple[str | int, ...]
    labels: tuple[str | int, ...] = ()
    header: bool = True


@dataclasses.dataclass(frozen=True)
class Format:
    """How one kind of file is read.

    Args:
        name: The format's name, which changes when the same bytes are read in another way.
        columns: Takes a file and returns the names of its columns in order, none for an empty
            file. `None` for a format without columns.
        rows: Takes a file and the columns to read, and yields rows.
        first_lines: Takes a file and a number, and returns the fields of so many first records,
            the header among them. Defaults to `None`: columns have names in any case.
        remark: What a user should know of how the file is read. Defaults to `""`.
        class_labels: Takes a file and a column, and returns the names that the file has for the
            numbers in it, if any. Defaults to `None`: such files have no names.
    """

    name: str
    columns: Callable[[DataFile], list[str]] | None
    rows: Callable[[DataFile, Columns], Iterator[Row]]
    first_lines: Callable[[DataFile, int], list[list[str]]] | None = None
    remark: str = ""
    class_labels: Callable[[DataFile, str], ClassLabels | None] | None = None


def format_of(file: DataFile) -> Format:
    """The format of a file, by the suffix of its name and, of a tsv file, by its quotes.

    Raises:
        DataError: No format has this suffix, or a tsv file cannot be read.
    """
    if file.suffix == ".tsv":
        quoting = detect_quoting(file)
        if quoting.quoted:
            return _QUOTED_TSV
        return dataclasses.replace(FORMATS[file.suffix], remark=quoting.remark)
    if file.suffix in FORMATS and not (file.compressed and file.suffix == ".parquet"):
        return FORMATS[file.suffix]
    if file.suffix == ".parquet":
        fix = "unpack it: a Parquet file is compressed inside"
    elif file.suffix == ".json":
        fix = "if it holds one JSON object a line, give it a name that ends in .jsonl"
    else:
        fix = (
            f"known: {' '.join(FORMATS)}, and all but .parquet compressed "
            f"({' '.join(compression.SUFFIXES)} .zip)"
        )
    raise DataError(
        f"The suffix of a file tells its format, and '{file.suffix}' is not known",
        where=file.name,
        fix=fix,
    )


# csv and tsv


def _table_columns(file: DataFile, delimiter: str, quoted: bool) -> list[str]:
    return _open_table(file, delimiter, quoted)[1]


def _table_rows(file: DataFile, columns: Columns, delimiter: str, quoted: bool) -> Iterator[Row]:
    records, header = _open_table(file, delimiter, quoted, columns.header)
    names = "the header names" if columns.header else "the first line has"
    width = len(header)
    places = [
        header.index(column) if isinstance(column, str) else column
        for column in (*columns.texts, *columns.labels)
    ]
    for line, fields, problem in records:
        if problem is not None:
            yield line, (), problem
            continue
        # Without a header, the first row tells how many fields there are.
        width = width or len(fields)
        if len(fields) == width:
            yield line, [fields[place] for place in places], None
            continue
        count = "1 field" if len(fields) == 1 else f"{len(fields)} fields"
        problem = f"{count}, where {names} {width}"
        if not quoted and len(fields) < width and '"' in "".join(fields):
            problem += (
                " (this .tsv is read without quoting: a text with tabs or line ends belongs in a "
                ".csv)"
            )
        yield line, (), problem + records.span(line)


def _table_first_lines(file: DataFile, count: int, delimiter: str, quoted: bool) -> list[list[str]]:
    records, _ = _open_table(file, delimiter, quoted, header=False)
    return [fields for _, fields, _ in itertools.islice(records, count) if fields is not None]


def _open_table(
    file: DataFile, delimiter: str, quoted: bool, header: bool = True
) -> tuple[_CsvRecords | _TsvRecords, list[str]]:
    """The records after the header, and the header; it is empty for an empty file."""
    lines = TextLines(file)
    records = _CsvRecords(lines, delimiter) if quoted else _TsvRecords(lines)
    if not header:
        return records, []
    line, fields, problem = next(records, (1, [], None))
    if problem is not None:
        raise DataError(
            f"The header cannot be read: {problem}",
            where=f"{file.name}:{line}",
            fix="the first line names the columns; correct it",
        )
    names = [name.strip() for name in fields]
    return records, names if any(names) else []


class _TsvRecords:
    """Line, fields and problem of each record: a line, cut at its tabs. Quotes are characters.

    A line with nothing on it is no record.
    """

    def __init__(self, lines: TextLines):
        self._problems = lines.problems
        self._lines, self._numbers = lines, enumerate(lines, start=1)

    def __iter__(self) -> Iterator[tuple[int, list[str] | None, str | None]]:
        return self

    def __next__(self) -> tuple[int, list[str] | None, str | None]:
        for number, line in self._numbers:
            if self._problems:
                return number, None, self._lines.take_problem()[1]
            line = line.removesuffix("\n").removesuffix("\r")
            if line:
                return number, line.split("\t"), None
        raise StopIteration

    def span(self, line: int) -> str:
        """Nothing: a record is a line."""
        return ""


class _CsvRecords:
    """Line, fields and problem of each record, which may go over several lines within quotes.

    A line with nothing on it is no record.
    """

    def __init__(self, lines: TextLines, delimiter: str):
        # The limit is one for the whole process; others may have set it higher.
        csv.field_size_limit(max(csv.field_size_limit(), LONGEST))
        self._lines = lines
        # strict: quotes that do not pair are errors, where the default guesses what was meant.
        self._reader = csv.reader(lines, delimiter=delimiter, strict=True)

    def __iter__(self) -> Iterator[tuple[int, list[str] | None, str | None]]:
        return self

    def __next__(self) -> tuple[int, list[str] | None, str | None]:
        problems = self._lines.problems
        while True:
            line = self._reader.line_num + 1
            try:
                fields = next(self._reader)
            except csv.Error as error:
                problem = self._problem_of(error, line)
                problems.clear()
                return line, None, problem + self.span(line)
            if problems:
                line, problem = self._lines.take_problem()
                return line, None, problem
            if fields:
                return line, fields, None

    def _problem_of(self, error: csv.Error, line: int) -> str:
        # Either way the reader is still inside quotes: no row after this can be trusted.
        if self._lines.ended or "field limit" in str(error):
            raise DataError(
                "A quote that is opened in this row is never closed"
                + ("" if self._lines.ended else f", or a field is over {LONGEST >> 20} MB"),
                where=f"{self._lines.file.name}:{line}",
                fix='close it; a quote inside a quoted text is written twice: ""',
            ) from error
        if "new-line character" in str(error):
            return "a carriage return outside quotes"
        return 'text after a closing quote; a quote inside quotes is written ""'

    def span(self, line: int) -> str:
        """How far the record that starts in a line goes, if over its end."""
        last = self._reader.line_num
        return f" (the row ends in line {last}: is a quote left open?)" if last > line else ""


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


def _json_rows(file: DataFile, columns: Columns) -> Iterator[Row]:
    keys = (*columns.texts, *columns.labels)
    for line, record, problem in json_records(file):
        if problem is not None:
            yield line, (), problem
            continue
        try:
            yield line, [record[key] for key in keys], None
        except KeyError as error:
            there = ", ".join(map(repr, itertools.islice(record, 10))) or "none"
            yield line, (), f"no key '{error.args[0]}' (keys there: {there})"


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


def _txt_rows(file: DataFile, columns: Columns) -> Iterator[Row]:
    lines = TextLines(file)
    for number, line in enumerate(lines, start=1):
        if lines.problems:
            yield number, (), lines.take_problem()[1]
        else:
            yield number, (line.removesuffix("\n").removesuffix("\r"),), None


def _delimited(name: str, delimiter: str, *, quoted: bool) -> Format:
    options = {"delimiter": delimiter, "quoted": quoted}
    return Format(
        name,
        functools.partial(_table_columns, **options),
        functools.partial(_table_rows, **options),
        functools.partial(_table_first_lines, **options),
    )


_QUOTED_TSV = _delimited("tsv with quotes", "\t", quoted=True)
_JSONL = Format("jsonl", _json_columns, _json_rows)

FORMATS = {
    ".csv": _delimited("csv", ",", quoted=True),
    ".tsv": _delimited("tsv without quotes", "\t", quoted=False),
    ".jsonl": _JSONL,
    ".ndjson": _JSONL,
    ".parquet": Format(
        "parquet", parquet_columns, parquet_rows, class_labels=parquet_class_labels
    ),
    ".txt": Format("txt", None, _txt_rows),
}
"""Suffix to format."""
