"""Whole rows of files: the texts that a model reads, and all other columns as they stand."""

from __future__ import annotations

import base64
import dataclasses
import difflib
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from decimal import Decimal
from typing import TYPE_CHECKING, Any, NamedTuple

from kerasllm.data.readers.class_folders import LABEL, TEXT
from kerasllm.data.readers.column_types import ColumnTypes
from kerasllm.data.readers.data_file import DataFile
from kerasllm.data.readers.faults import Notes
from kerasllm.data.readers.fields import value_of
from kerasllm.data.readers.formats import Columns, Format
from kerasllm.data.readers.parquet import parquet_batches, values_of
from kerasllm.data.readers.partitions import partitioned_batch
from kerasllm.data.readers.records import records
from kerasllm.data.readers.row_checks import places, text_problem
from kerasllm.errors import CommandError, DataError

if TYPE_CHECKING:
    import pyarrow as pa

_BAD_ROWS_KEPT = 1000
# The column that names the file of a text, of a folder of texts for each class.
_FILE = "file"


class WholeRow(NamedTuple):
    """A row of a file, good or bad.

    Attributes:
        number: Its number among the rows of all files, from 0.
        where: `file:line`, or `file:row` of a Parquet file.
        input: What the model reads: what `WholeRows.input_of` made of the texts; `None` of a bad
            row.
        kept: The columns that are kept, by name; those that could not be read are missing.
        problem: Why nothing can be predicted for it; `None` of a good row.
    """

    number: int
    where: str
    input: Any
    kept: Mapping[str, Any]
    problem: str | None


@dataclasses.dataclass(frozen=True)
class Survey:
    """What one pass over all rows found.

    Attributes:
        rows: How many there are.
        bad_count: How many of them are bad.
        bad: The first 1,000 of those: `(file, line, why)`.
        columns: The columns that are kept, in order.
        schema: Their types, a `pyarrow.Schema`; `None` where nobody asked for them.
        left_out: What is no row and has no answer, such as repeated headers, a sentence for each.
    """

    rows: int
    bad_count: int
    bad: Sequence[tuple[str, int, str]]
    columns: Sequence[str]
    schema: pa.Schema | None = None
    left_out: Sequence[str] = ()

    def refuse(self, *, any_bad: bool, description: str) -> None:
        """Refuses files without a good row, and with `any_bad` files with a bad one.

        Args:
            any_bad: Whether a single bad row is too many.
            description: The columns that are read, in words.

        Raises:
            DataError: So many rows are bad.
        """
        if self.bad_count == self.rows:
            raise DataError(
                f"No row can be used: all {self.rows:,} are bad",
                where=places(self.bad, self.bad_count),
                fix="check the files, and that the columns are the right ones: " + description,
            )
        if any_bad and self.bad_count:
            are = "1 row is" if self.bad_count == 1 else f"{self.bad_count:,} rows are"
            raise DataError(
                f"{are} bad, of {self.rows:,}",
                where=places(self.bad, self.bad_count),
                fix="fix them; --on-bad-row empty writes an empty prediction and the reason, "
                "--on-bad-row skip leaves them out",
            )


class WholeRows:
    """The rows of files, in memory that does not grow with them.

    Args:
        readings: Each file, its format, and the columns of its texts; see `Source.readings`.
        input_of: Makes of the texts of a row, of all its columns, and of its place what the model
            reads; raises a `DataError` if it cannot.
        keep: The columns to keep, in this order. Defaults to `None`: all, in the order of the
            files.

    Attributes:
        has_columns: Whether a file has columns: a `.txt` file has none.

    Raises:
        CommandError: A column to keep is not there; of jsonl files this is told by `survey`.
    """

    def __init__(
        self,
        readings: Sequence[tuple[DataFile, Format, Columns]],
        input_of: Callable[[Sequence[str], Mapping[str, Any], str], Any],
        keep: Sequence[str] | None = None,
    ):
        self._input_of, self._keep = input_of, keep
        self._files = [_FileRows(*each) for each in readings]
        self.has_columns = any(file.columns for file in self._files)
        if not any(file.open_ended for file in self._files):
            self._check(self._known_columns())

    def __iter__(self) -> Iterator[WholeRow]:
        return self.after(0)

    def after(self, number: int) -> Iterator[WholeRow]:
        """Yields the rows from a number on."""
        numbers = itertools.count()
        for file in self._files:
            for line, texts, columns, problem in file.rows():
                row = next(numbers)
                if row < number:
                    continue
                found, where = None, f"{file.name}:{line}"
                if problem is None:
                    found, problem = self._input(texts, columns, where)
                yield WholeRow(row, where, found, self._kept(columns), problem)

    def survey(self, *, typed: bool = False) -> Survey:
        """Reads all rows once: how many, which are bad, which columns there are.

        Args:
            typed: Whether the types of the columns are found out, for a format that has types.
                Defaults to `False`.

        Raises:
            CommandError: A column to keep is not there.
            DataError: A file cannot be read to its end.
        """
        rows = bad_count = 0
        bad: list[tuple[str, int, str]] = []
        columns = dict.fromkeys(self._known_columns())
        types, notes = ColumnTypes(), Notes()
        for file in self._files:
            file.notes = Notes()
            for line, texts, others, problem in file.rows():
                rows += 1
                problem = problem or self._input(texts, others, f"{file.name}:{line}")[1]
                if problem is not None:
                    bad_count += 1
                    if len(bad) < _BAD_ROWS_KEPT:
                        bad.append((file.name, line, problem))
                if file.open_ended:
                    columns.update(dict.fromkeys(others))
                    if typed:
                        types.add(others)
            notes.include(file.notes)
            if file.schema is not None:
                types.known(file.schema)
        if self._keep is not None:
            self._check(columns)
            columns = dict.fromkeys(self._keep)
        schema = types.schema(columns) if typed else None
        left_out = [note for note in notes.lines() if " left out: " in note]
        return Survey(rows, bad_count, bad, list(columns), schema, left_out)

    def _kept(self, columns: Mapping[str, Any]) -> Mapping[str, Any]:
        if self._keep is None:
            return columns
        if isinstance(columns, ArrowRow):
            return columns.only(self._keep)
        return {name: columns[name] for name in self._keep if name in columns}

    def _input(
        self, texts: Sequence[Any], columns: Mapping[str, Any], where: str
    ) -> tuple[Any, str | None]:
        for role, text in zip(("text", "second text"), texts):
            if problem := text_problem(role, text):
                return None, problem
        try:
            return self._input_of(texts, columns, where), None
        except DataError as error:
            return None, f"{error.what}; {error.fix}" if error.fix else error.what

    def _known_columns(self) -> list[str]:
        return list(dict.fromkeys(name for file in self._files for name in file.columns))

    def _check(self, there: Sequence[str] | Mapping[str, Any]) -> None:
        for name in self._keep or ():
            if name not in there:
                near = difflib.get_close_matches(name, there, n=1)
                raise CommandError(
                    f"There is no column '{name}' to keep",
                    where=", ".join(file.name for file in self._files[:3]),
                    fix=(f"did you mean {near[0]}? " if near else "")
                    + f"available columns: {', '.join(map(repr, there)) or 'none'}",
                )


class _FileRows:
    """The rows of one file: line, texts, columns that are kept, and problem of each."""

    def __init__(self, file: DataFile, form: Format, reading: Columns):
        self.name, self._file, self._form, self._reading = file.name, file, form, reading
        self.schema: pa.Schema | None = None
        self.notes = Notes()
        kind = file.suffix
        # Rows of jsonl may bring keys that the first ones have not.
        self.open_ended = kind in (".jsonl", ".ndjson", ".json")
        if form.columns is None:
            self.columns: list[str] = []
            self.rows = self._lines
        elif file.members:
            self.columns = [_FILE, LABEL]
            self.rows = self._class_folder
        elif kind == ".parquet":
            self.columns = form.columns(file)
            self.rows = self._parquet
        elif self.open_ended:
            self.columns = form.columns(file)
            self.rows = self._json
        else:
            fields = form.columns(file) if reading.header else form.first_lines(file, 1)[0]
            inner = [] if reading.header else list(file.partitions)
            self.columns = _distinct(fields if reading.header else [""] * len(fields)) + inner
            self.rows = self._table

    def _lines(self) -> Iterator:
        for line, values, problem in self._form.rows(self._file, self._reading):
            yield line, values, {}, problem

    def _class_folder(self) -> Iterator:
        texts = Columns((TEXT,))
        for row, member in zip(self._form.rows(self._file, texts), self._file.members, strict=True):
            line, values, problem = row
            columns = {_FILE: member.name, LABEL: self._file.label}
            yield line, values if problem is None else (), columns, problem

    def _table(self) -> Iterator:
        names = self.columns
        at = [each if isinstance(each, int) else names.index(each) for each in self._reading.texts]
        everything = Columns(tuple(range(len(names))), header=self._reading.header)
        for line, fields, problem in self._form.rows(self._file, everything, self.notes):
            # Of a row that has too few or too many fields, those that are there.
            columns = dict(zip(names, fields))
            texts = () if problem is not None else [fields[place] for place in at]
            yield line, texts, columns, problem

    def _json(self) -> Iterator:
        texts: Sequence[Any] = self._reading.texts
        for line, record, problem in records(self._file):
            if problem is not None:
                yield line, (), {}, problem
                continue
            try:
                found = [value_of(record, key) for key in texts]
            except KeyError as error:
                there = ", ".join(map(repr, itertools.islice(record, 10))) or "none"
                yield line, (), record, f"no key '{error.args[0]}' (available keys: {there})"
                continue
            yield line, found, record, None

    def _parquet(self) -> Iterator:
        for first, batch, texts in parquet_batches(self._file, self._reading):
            batch = partitioned_batch(self._file, first, batch)
            columns = ArrowColumns(batch)
            self.schema = batch.schema
            for row, values in enumerate(texts):
                problem = None if not isinstance(values, str) else values
                yield first + row, values, ArrowRow(columns, row), problem


class ArrowColumns:
    """Columns of consecutive rows of a Parquet file.

    Args:
        batch: A `pyarrow.RecordBatch`.
    """

    def __init__(self, batch: pa.RecordBatch):
        self.batch = batch
        self._values: dict[str, list] = {}

    def values(self, name: str) -> list:
        """Returns the values of a column as JSON and csv can hold them."""
        if name not in self._values:
            self._values[name] = _plain(self.batch.column(name))
        return self._values[name]


class ArrowRow(Mapping[str, Any]):
    """A row of `ArrowColumns`, whose types are kept where the output has types.

    Args:
        columns: The columns.
        row: Its number in them.
        names: Those of the columns that it has. Defaults to `None`: all.
    """

    def __init__(self, columns: ArrowColumns, row: int, names: Sequence[str] | None = None):
        self.columns, self.row = columns, row
        self._names = columns.batch.schema.names if names is None else names

    def only(self, names: Sequence[str]) -> ArrowRow:
        """Returns the row with fewer columns."""
        return ArrowRow(self.columns, self.row, [name for name in names if name in self._names])

    def __getitem__(self, name: str) -> Any:
        if name not in self._names:
            raise KeyError(name)
        return self.columns.values(name)[self.row]

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


def _plain(column: pa.Array) -> list:
    import pyarrow as pa
    from pyarrow import types

    if types.is_temporal(column.type):
        return column.cast(pa.string()).to_pylist()
    return [_plain_value(value) for value in values_of(column)]


def _plain_value(value: Any) -> Any:
    if isinstance(value, UnicodeDecodeError):
        return value.object.decode(errors="replace")
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    return str(value) if isinstance(value, Decimal) else value


def _distinct(names: Sequence[str]) -> list[str]:
    """Returns the names of columns; without a name or with one that is taken they get a number."""
    found: dict[str, None] = {}
    numbers: dict[str, int] = {}
    for place, name in enumerate(names):
        name = name or f"column_{place}"
        written = name
        while written in found:
            numbers[name] = numbers.get(name, 1) + 1
            written = f"{name}_{numbers[name]}"
        found[written] = None
    return list(found)
