"""Data in another format: all rows and columns of any file that is read, checked after writing."""

from __future__ import annotations

import csv
import dataclasses
import gzip
import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kerasllm.data.all_records import records_of
from kerasllm.data.readers.data_file import DataFile
from kerasllm.data.readers.files import find_files
from kerasllm.data.readers.parquet import parquet_schema, values_of
from kerasllm.data.readers.row_checks import places, surrogate_problem
from kerasllm.data.readers.text_lines import LONGEST
from kerasllm.errors import CommandError, DataError
from kerasllm.output_files import make_folder_of
from kerasllm.plurals import counted

if TYPE_CHECKING:
    import pyarrow as pa

SUFFIXES = (".jsonl", ".csv", ".parquet")
"""What can be written; the first two also with `.gz`."""

_JSON = (".jsonl", ".json")
_ROWS_AT_A_TIME = 10_000
_MOST_CHARACTERS, _MOST_CELLS, _MOST_COLUMNS = 1 << 24, 1 << 20, 100_000
_BAD_KEPT = 1000
_MASK = (1 << 64) - 1


@dataclasses.dataclass(frozen=True)
class Converted:
    """What `convert` did.

    Args:
        rows: Rows that were written, each of which was read again and compared.
        columns: The names of their columns.
        skipped: Rows that could not be read, and were left out.
        bad_rows: The first of them: file, line, why.
    """

    rows: int
    columns: tuple[str, ...]
    skipped: int
    bad_rows: Sequence[tuple[str, int, str]] = ()


def convert(
    spec: str | Sequence[str],
    output: str | os.PathLike,
    *,
    columns: Sequence[str] = (),
    lines: bool = False,
    on_bad_row: str = "error",
    notify: Callable[[str], None] | None = None,
) -> Converted:
    """Writes the rows of files in another format.

    Args:
        spec: Files, globs, folders or `starter:NAME`.
        output: The file to write, of one of `SUFFIXES`.
        columns: The columns to keep. Defaults to all.
        lines: Whether each line of a text file is a row, and not the whole file. Defaults to
            `False`.
        on_bad_row: `"error"` refuses files with rows that cannot be read; `"skip"` leaves these
            out. Defaults to `"error"`.
        notify: Called with how far it is. Defaults to `None`.

    Raises:
        CommandError: If the output is one of the files, or of no known format.
        DataError: If a file cannot be read, lacks a column, or what was written is not what was
            read.

    Example:

    >>> convert("reviews.csv", "reviews.parquet").rows
    8049
    """
    path = Path(output)
    # A folder of texts for each class has labels too.
    files = find_files(spec, "train", preferred="text", classes=not lines)
    suffix = _check_output(path, files)
    reading = _Reading(files, tuple(columns), lines, on_bad_row, notify, suffix)
    part = path.with_name(f".{path.name}.part")
    make_folder_of(path)
    try:
        _WRITERS[suffix](part, path.name.endswith(".gz"), reading)
        if not reading.rows:
            raise DataError("There are no rows to write", where=", ".join(reading.names))
        _compare(part, path, suffix, reading)
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)
    return Converted(reading.rows, tuple(reading.columns), reading.skipped, reading.bad_rows)


class _Reading:
    """The rows of some files, how many there were, and a checksum of them."""

    def __init__(self, files, columns, lines, on_bad_row, notify, suffix):
        self.names = [file.name for file in files]
        self.files = files
        # Columns of Parquet have one type for all values.
        self.checksum = _typed_checksum if suffix == ".parquet" else _checksum
        self.wanted = columns
        self._lines = lines
        self._refuse = on_bad_row == "error"
        self._notify = notify
        self._start()

    def _start(self) -> None:
        self.rows = self.skipped = self.sum = 0
        self.columns: dict[str, None] = {}
        self.bad_rows: list[tuple[str, int, str]] = []

    def __iter__(self) -> Iterator[dict[str, Any]]:
        self._start()
        for file in self.files:
            for line, row, problem in records_of(file, lines=self._lines):
                if not problem and file.suffix in _JSON:
                    problem = _half_character(row)
                if problem:
                    self.skipped += 1
                    if len(self.bad_rows) < _BAD_KEPT:
                        self.bad_rows.append((file.name, line, problem))
                    continue
                if self.wanted:
                    row = self._chosen(row, f"{file.name}:{line}")
                self.columns |= dict.fromkeys(row)
                if len(self.columns) > _MOST_COLUMNS:
                    raise DataError(
                        f"The rows have more than {_MOST_COLUMNS:,} columns together",
                        where=f"{file.name}:{line}",
                        fix="name the columns to keep: --text COLUMN --label COLUMN",
                    )
                self.rows += 1
                self.sum = (self.sum + self.checksum(row)) & _MASK
                yield row
                if self._notify and self.rows % _ROWS_AT_A_TIME == 0:
                    self._notify(f"converting {Path(file.name).name}: {self.rows:,} rows")
        if self._refuse and self.skipped:
            raise DataError(
                f"{counted(self.skipped, 'row')} cannot be read",
                where=places(self.bad_rows, self.skipped),
                fix="fix them, or skip them with --on-bad-row skip",
            )

    def chunks(self) -> Iterator[list[dict[str, Any]]]:
        """Yields rows that are written together: fewer where they are long or have many columns."""
        chunk, size = [], 0
        for row in self:
            chunk.append(row)
            size += _size(row)
            cells = len(chunk) * len(self.columns)
            if len(chunk) == _ROWS_AT_A_TIME or size > _MOST_CHARACTERS or cells > _MOST_CELLS:
                yield chunk
                chunk, size = [], 0
        if chunk:
            yield chunk

    def _chosen(self, row: Mapping[str, Any], where: str) -> dict[str, Any]:
        missing = [column for column in self.wanted if column not in row]
        if missing:
            raise DataError(
                f"There is no column {missing[0]!r}",
                where=where,
                fix=f"available columns: {', '.join(map(repr, row))}",
            )
        return {column: row[column] for column in self.wanted}


def _size(value: Any) -> int:
    """About how many characters a value has."""
    if isinstance(value, Mapping):
        return sum(len(name) + _size(each) for name, each in value.items())
    if isinstance(value, list):
        return sum(map(_size, value)) + len(value)
    return len(value) if isinstance(value, (str, bytes)) else 8


def _half_character(row: Mapping[str, Any]) -> str | None:
    """Says which column no UTF-8 file can hold, if any: JSON can write half a character."""
    for name, value in row.items():
        text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        if problem := surrogate_problem("name of a column", name):
            return problem
        if problem := surrogate_problem(f"column {name!r}", text):
            return problem
    return None


def _check_output(path: Path, files: Sequence[DataFile]) -> str:
    suffix = Path(path.name.lower().removesuffix(".gz")).suffix
    if suffix not in SUFFIXES or (suffix == ".parquet" and path.name.lower().endswith(".gz")):
        raise CommandError(
            f"The format is given by the file's suffix. Received: --output {path}",
            fix=f"end it with {', '.join(SUFFIXES)}, or .jsonl.gz, .csv.gz",
        )
    refuse_input(path, files)
    return suffix


def refuse_input(path: Path, files: Iterable[DataFile]) -> None:
    """Refuses to write over a file that is read.

    Raises:
        CommandError: If the path is one of the files, or a folder.
    """
    if path.is_dir():
        raise CommandError(f"{path} is a folder", where="--output", fix="name a file in it")
    mine = os.path.realpath(path)
    for file in files:
        if os.path.realpath(file.path) == mine:
            raise CommandError(
                "The output is also an input file", where=str(path), fix="choose another name"
            )


# Writing


def _write_jsonl(path: Path, packed: bool, reading: _Reading) -> None:
    with _open(path, packed) as stream:
        for row in reading:
            stream.write(json.dumps(row, ensure_ascii=False, default=_shown) + "\n")


def _write_csv(path: Path, packed: bool, reading: _Reading) -> None:
    # A first pass, for the header: rows of a jsonl file need not have the same keys.
    for _ in reading:
        pass
    names = list(reading.columns)
    with _open(path, packed) as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(names)
        for row in reading:
            writer.writerow([_cell(row.get(name), _shown) for name in names])


def _write_parquet(path: Path, packed: bool, reading: _Reading) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        schema = _own_schema(reading)
        for chunk in reading.chunks() if schema is None else ():
            found = pa.Table.from_pylist(_complete(chunk)).schema
            schema = (
                found
                if schema is None
                else pa.unify_schemas([schema, found], promote_options="permissive")
            )
        if schema is None:
            return
        with pq.ParquetWriter(path, schema) as writer:
            for chunk in reading.chunks():
                writer.write_table(pa.Table.from_pylist(chunk, schema))
    except (pa.ArrowException, OverflowError) as error:
        # Else objects without keys, or integers of more than 64 bits.
        several = isinstance(error, (ValueError, TypeError))
        what = "A column holds values of several types" if several else "Parquet cannot hold it"
        raise DataError(
            f"{what}: {str(error).splitlines()[0]}",
            where=", ".join(reading.names[:3]),
            fix="write a .jsonl file, which can hold them",
        ) from error


def _own_schema(reading: _Reading) -> pa.Schema | None:
    """The types of the columns in files that have them, and the names of classes; else `None`."""
    import pyarrow as pa

    if any(file.suffix != ".parquet" or file.members for file in reading.files):
        return None
    found = [schema for file in reading.files if (schema := parquet_schema(file)) is not None]
    if not found:
        return None
    known = {name for schema in found for name in schema.names}
    folders = dict.fromkeys(name for file in reading.files for name in file.partitions)
    strings = pa.schema([(name, pa.string()) for name in folders if name not in known])
    fields = pa.unify_schemas([*found, strings], promote_options="permissive")
    if reading.wanted:
        fields = [fields.field(name) for name in reading.wanted if name in fields.names]
    # What the files say of their classes, where all say the same.
    said = {json.dumps(sorted(map(str, (one.metadata or {}).items()))) for one in found}
    return pa.schema(fields, found[0].metadata if len(said) == 1 else None)


def _complete(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Returns rows with all keys that any has: Arrow takes those of the first."""
    names = dict.fromkeys(name for row in rows for name in row)
    return [{name: row.get(name) for name in names} for row in rows]


_WRITERS = {".jsonl": _write_jsonl, ".csv": _write_csv, ".parquet": _write_parquet}


def _open(path: Path, packed: bool):
    if packed:
        return gzip.open(path, "wt", encoding="utf-8", newline="")
    return open(path, "w", encoding="utf-8", newline="")


def _shown(value: Any) -> str:
    """Returns a date and the like as text."""
    if isinstance(value, bytes):
        raise DataError(
            "A column holds bytes, which a file of text cannot hold",
            fix="write a .parquet file, or name the columns to keep: --text COLUMN --label COLUMN",
        )
    return str(value)


def _cell(value: Any, shown: Callable[[Any], str] = str) -> str:
    """Returns a value as a csv file has it."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (list, dict, int, float)):
        return json.dumps(value, ensure_ascii=False, default=shown)
    return shown(value)


# Comparing


def _compare(written: Path, path: Path, suffix: str, reading: _Reading) -> None:
    """Reads what was written, and makes sure that it is what was read."""
    rows = total = 0
    for row in _written(written, suffix, path.name.lower().endswith(".gz")):
        rows += 1
        total = (total + reading.checksum(row)) & _MASK
    if (rows, total) != (reading.rows, reading.sum):
        raise DataError(
            f"The output differs from the input: {rows:,} rows for {reading.rows:,}",
            where=str(path),
            fix="convert to .jsonl, which holds any text" if suffix != ".jsonl" else None,
        )


def _written(path: Path, suffix: str, packed: bool) -> Iterator[dict[str, Any]]:
    if suffix == ".parquet":
        import pyarrow.parquet as pq

        for batch in pq.ParquetFile(path).iter_batches():
            columns = [values_of(column) for column in batch.columns]
            for values in zip(*columns, strict=True):
                yield dict(zip(batch.schema.names, values))
        return
    # The limit is one for the whole process.
    csv.field_size_limit(max(csv.field_size_limit(), LONGEST))
    with (
        gzip.open(path, "rt", encoding="utf-8", newline="")
        if packed
        else open(path, encoding="utf-8", newline="") as stream
    ):
        yield from map(json.loads, stream) if suffix == ".jsonl" else csv.DictReader(stream)


def _checksum(row: Mapping[str, Any]) -> int:
    """Returns a number for a row, the same in each format: what is empty there is left out."""
    return hash(
        frozenset(
            (name, _cell(value)) for name, value in row.items() if value is not None and value != ""
        )
    )


def _typed_checksum(row: Mapping[str, Any]) -> int:
    """The same, where a column took the type that all its values have."""
    return _checksum({name: _plain(value) for name, value in row.items()})


def _plain(value: Any) -> Any:
    """Returns a value as it is after a column took the type that all its values have."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, list):
        return [_plain(each) for each in value]
    if isinstance(value, dict):
        return {name: _plain(each) for name, each in sorted(value.items()) if each is not None}
    return value
