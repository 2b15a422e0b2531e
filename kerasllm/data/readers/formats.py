"""One reader per file format: a file becomes columns and rows, and each row knows its line.

A reader yields `(line, values, problem)`. `line` counts from 1: the line of the file where the row
starts (lines end at a line feed), or the number of the row in a Parquet file. `values` are those of
the columns asked for: the texts, then the labels. `problem` is `None`, or says why this row cannot
be read though the rows after it can; there are then no values, or those that could be read. What
spoils the rest of the file is raised as a `DataError`.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
import shlex
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from kerasllm.data.readers import compression
from kerasllm.data.readers.class_folders import class_folder_columns, class_folder_rows
from kerasllm.data.readers.class_labels import ClassLabels
from kerasllm.data.readers.data_file import DataFile
from kerasllm.data.readers.delimited import table_columns, table_first_lines, table_rows
from kerasllm.data.readers.dialects import detect_dialect
from kerasllm.data.readers.encodings import is_utf8
from kerasllm.data.readers.fasttext import PREFIX, fasttext_columns, fasttext_rows, is_fasttext
from kerasllm.data.readers.faults import MISSING_KEY, Fault, Notes
from kerasllm.data.readers.fields import fields_of, value_of
from kerasllm.data.readers.json_files import json_records
from kerasllm.data.readers.misnamed import refuse_rows_in_text
from kerasllm.data.readers.parquet import (
    parquet_class_labels,
    parquet_columns,
    parquet_fields,
    parquet_rows,
)
from kerasllm.data.readers.partitions import with_partitions
from kerasllm.data.readers.text_lines import TextLines, first_lines
from kerasllm.errors import DataError

Row = tuple[int, Sequence, str | None]

# Rows of a jsonl file whose keys together are its columns: a key may be missing in some rows.
_ROWS_FOR_COLUMNS = 100
# No more are looked for.
_MOST_COLUMNS = 10_000


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
        rows: Takes a file, the columns to read, and `Notes` of what is met (or `None`, the
            default); yields rows.
        first_lines: Takes a file and a number, and returns the fields of so many first records,
            the header among them. Defaults to `None`: columns have names in any case.
        remarks: What a user should know of how the file is read. Defaults to `()`.
        class_labels: Takes a file and a column, and returns the names that the file has for the
            numbers in it, if any. Defaults to `None`: such files have no names.
        fields: Takes a file, and returns the dotted names of what is in columns that hold objects
            (`translation.en`), which `rows` takes as columns. Defaults to `None`: none hold any.
    """

    name: str
    columns: Callable[[DataFile], list[str]] | None
    rows: Callable[..., Iterator[Row]]
    first_lines: Callable[[DataFile, int], list[list[str]]] | None = None
    remarks: tuple[str, ...] = ()
    class_labels: Callable[[DataFile, str], ClassLabels | None] | None = None
    fields: Callable[[DataFile], list[str]] | None = None


def format_of(file: DataFile) -> Format:
    """The format of a file, by the suffix of its name and, of a table, by its first lines.

    Args:
        file: The file.

    Raises:
        DataError: No format has this suffix, or a table cannot be read.
    """
    form = None
    if file.members:
        form = _CLASS_FOLDER
    elif file.suffix in TABLES:
        form = _table(file)
    elif file.suffix == ".txt" and is_fasttext(file):
        form = _FASTTEXT
    elif file.suffix == ".txt" and not file.members:
        refuse_rows_in_text(file)
        form = FORMATS[".txt"]
    elif file.suffix in FORMATS and not (file.compressed and file.suffix == ".parquet"):
        form = FORMATS[file.suffix]
    if form is not None:
        if not (file.encoding is None or form.name == "parquet" or is_utf8(file.encoding)):
            form = dataclasses.replace(form, name=f"{form.name} {file.encoding}")
        return with_partitions(form, file) if file.partitions and not file.members else form
    if not file.compressed and _begins_with_label(file):
        fix = "give it a name that ends in .txt, as fastText's files are read"
    elif file.suffix == ".parquet":
        fix = "unpack it: a Parquet file is compressed inside"
    else:
        fix = (
            f"known: {' '.join((*TABLES, *FORMATS))}, and all but .parquet compressed "
            f"({' '.join(compression.SUFFIXES)} .zip)"
        )
    raise DataError(
        f"The format is given by the file's suffix, but '{file.suffix}' is not known",
        where=file.name,
        fix=fix,
    )


def columns_of(form: Format, file: DataFile, wanted: Iterable[str]) -> list[str]:
    """Returns the columns of a file, and its fields where one of them is wanted.

    Args:
        form: The format of the file, which has columns.
        file: The file.
        wanted: The names of the columns that will be read.
    """
    names = form.columns(file)
    if form.fields is not None and any("." in name and name not in names for name in wanted):
        names = [*names, *(name for name in form.fields(file) if name not in names)]
    return names


def _begins_with_label(file: DataFile) -> bool:
    """Whether a file of another suffix is one of fastText's, which its tutorials call `.train`."""
    with file.open_unpacked() as stream:
        return stream.read(len(PREFIX)) == PREFIX.encode()


# csv and tsv


def _table(file: DataFile) -> Format:
    dialect = detect_dialect(file)
    return Format(
        dialect.name,
        functools.partial(table_columns, dialect=dialect),
        functools.partial(table_rows, dialect=dialect),
        functools.partial(table_first_lines, dialect=dialect),
        dialect.remarks,
    )


# json and jsonl


def _json_columns(file: DataFile) -> list[str]:
    columns: dict[str, None] = {}
    first: Row | None = None
    for row in itertools.islice(json_records(file), _ROWS_FOR_COLUMNS):
        first = first or row
        if len(columns) < _MOST_COLUMNS:
            columns.update(dict.fromkeys(row[1] or ()))
    if first and not columns:
        line, _, problem = first
        raise DataError(
            f"There is no row in the file's first lines: {problem or 'an object without keys'}",
            where=f"{file.name}:{line}",
            fix='write one object a line: {"text": "...", "label": "..."}' + _of_python(file),
        )
    return list(columns)


def _json_fields(file: DataFile) -> list[str]:
    found: dict[str, None] = {}
    for _, record, _ in itertools.islice(json_records(file), _ROWS_FOR_COLUMNS):
        if len(found) < _MOST_COLUMNS:
            found.update(dict.fromkeys(fields_of(record or {})))
    return list(found)


def _of_python(file: DataFile) -> str:
    """What converts a file whose lines are objects as Python shows them."""
    first = next((line for line in first_lines(file, _ROWS_FOR_COLUMNS) if line.strip()), "")
    if not first.startswith("{'"):
        return ""
    read = "import ast, json, sys; [print(json.dumps(ast.literal_eval(one))) for one in sys.stdin]"
    name = file.name.rpartition("/")[2]
    out = f"json_{name}" if name.endswith(".jsonl") else f"{name}.jsonl"
    return (
        f"; these are Python literals: `python -c {shlex.quote(read)} < "
        f"{shlex.quote(file.name)} > {shlex.quote(out)}`"
    )


def _json_rows(file: DataFile, columns: Columns, notes: Notes | None = None) -> Iterator[Row]:
    keys: tuple[Any, ...] = (*columns.texts, *columns.labels)
    read = value_of if any("." in key for key in keys) else dict.__getitem__
    for line, record, problem in json_records(file):
        if problem is not None:
            yield line, (), problem
            continue
        try:
            yield line, [read(record, key) for key in keys], None
        except KeyError as error:
            there = ", ".join(map(repr, itertools.islice(record, 10))) or "none"
            what = f"no key '{error.args[0]}' (available keys: {there})"
            yield line, (), Fault(what, MISSING_KEY)


# parquet and txt


def _parquet_rows(file: DataFile, columns: Columns, notes: Notes | None = None) -> Iterator[Row]:
    return parquet_rows(file, columns)


def _txt_rows(file: DataFile, columns: Columns, notes: Notes | None = None) -> Iterator[Row]:
    lines = TextLines(file)
    for number, line in enumerate(lines, start=1):
        if lines.problems:
            yield number, (), lines.take_problem()[1]
        else:
            yield number, (line.removesuffix("\n").removesuffix("\r"),), None


TABLES = (".csv", ".tsv")
"""The suffixes of tables, whose first lines tell how they are read."""

_CLASS_FOLDER = Format("class folder", class_folder_columns, class_folder_rows)
_FASTTEXT = Format("fasttext", fasttext_columns, fasttext_rows)
_JSONL = Format("jsonl", _json_columns, _json_rows, fields=_json_fields)
FORMATS = {
    ".jsonl": _JSONL,
    ".ndjson": _JSONL,
    ".json": Format("json", _json_columns, _json_rows, fields=_json_fields),
    ".parquet": Format(
        "parquet",
        parquet_columns,
        _parquet_rows,
        class_labels=parquet_class_labels,
        fields=parquet_fields,
    ),
    ".txt": Format("txt", None, _txt_rows),
}
"""Suffix to format, of the others."""
