"""All rows of a file in any supported format, with all columns."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from kerasllm.data.readers.data_file import DataFile
from kerasllm.data.readers.formats import Columns, Format, format_of
from kerasllm.data.readers.headers import is_header, looks_like_data
from kerasllm.data.readers.layout import empty_file
from kerasllm.data.readers.records import Record, records
from kerasllm.data.readers.text_lines import TextLines
from kerasllm.errors import DataError

_TABLES = (".csv", ".tsv")
_TEXTS = (".txt", ".md")
_HEADER_LINES = 20


def records_of(file: DataFile, *, lines: bool = False) -> Iterator[Record]:
    """Yields all rows of a file with all columns: line, row by column, and what is wrong with it.

    Args:
        file: A file of any format that is read.
        lines: As for `convert`. Defaults to `False`.
    """
    if file.members:
        return _form_records(file, format_of(file))
    if file.suffix in _TABLES:
        return _table_records(file)
    if file.suffix in _TEXTS:
        form = format_of(file) if file.suffix == ".txt" else None
        if form is None or form.columns is None:
            return _text_records(file, lines)
        return _form_records(file, form)
    return records(file)


def _table_records(file: DataFile) -> Iterator[Record]:
    form = format_of(file)
    names = form.columns(file)
    if not names:
        raise empty_file(file)
    # A first line that is not a row is a header, as in the search for columns.
    header = not looks_like_data(names) or is_header(form.first_lines(file, _HEADER_LINES))
    counts = Counter(filter(None, names if header else ()))
    twice = [name for name, count in counts.items() if count > 1]
    if twice:
        raise DataError(
            f"The header names the column {twice[0]!r} {counts[twice[0]]} times",
            where=file.name,
            fix="give each column a different name",
        )
    numbers = tuple(range(len(names)))
    # Columns without a name; spreadsheets write empty ones.
    unnamed = [f"column_{n}" for n in numbers if header and not names[n]]
    unnamed = unnamed if len(unnamed) > 1 else []
    names = [
        f"column_{n}" if not header or (unnamed and not names[n]) else names[n] for n in numbers
    ]
    for line, values, problem in form.rows(file, Columns(numbers, header=header)):
        row = dict(zip(names, values))
        for name in unnamed:
            if not row.get(name, True):
                del row[name]
        yield line, None if problem else row, problem


def _form_records(file: DataFile, form: Format) -> Iterator[Record]:
    names = form.columns(file)
    for number, values, problem in form.rows(file, Columns(tuple(names))):
        yield number, None if problem else dict(zip(names, values, strict=True)), problem


def _text_records(file: DataFile, lines: bool) -> Iterator[Record]:
    read = TextLines(file)
    if lines:
        for number, line in enumerate(read, start=1):
            if read.problems:
                yield number, None, read.take_problem()[1]
            else:
                yield number, {"text": line.removesuffix("\n").removesuffix("\r")}, None
        return
    text = "".join(read)
    if read.problems:
        number, problem = read.take_problem()
        yield number, None, problem
    else:
        yield 1, {"text": text}, None
