"""Rows that are objects with keys: jsonl, json, parquet, and the tables with a header."""

from __future__ import annotations

import dataclasses
import itertools
import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from kerasllm.data.readers import compression
from kerasllm.data.readers.columns import check_column
from kerasllm.data.readers.data_file import DataFile
from kerasllm.data.readers.files import find_files
from kerasllm.data.readers.formats import Columns, format_of
from kerasllm.data.readers.json_files import Record, json_records
from kerasllm.data.readers.parquet import parquet_records
from kerasllm.data.readers.partitions import add_partitions
from kerasllm.errors import DataError

# A key may be missing in some rows.
_ROWS_FOR_KEYS = 100
_MOST_CHARACTERS = 1 << 22


def records(file: DataFile) -> Iterator[Record]:
    """Yields the rows of a file.

    Args:
        file: A `.jsonl`, `.ndjson`, `.json` (a list of objects), `.csv`, `.tsv` or `.parquet` file;
            all but the last also compressed.

    Yields:
        Line (or row number), object, and what is wrong with the row; the object is then `None`.

    Raises:
        DataError: The suffix is not known, or the file cannot be read on.
    """
    reader = _READERS.get(file.suffix)
    if reader is None or (file.compressed and file.suffix == ".parquet"):
        raise DataError(
            f"A '{file.suffix}' file holds no conversations",
            where=file.name,
            fix=f"known: {' '.join(_READERS)}, and all but .parquet compressed "
            f"({' '.join(compression.SUFFIXES)} .zip); plain text is read with "
            "--set data.format=text",
        )
    return _partitioned(file, reader) if file.partitions else reader(file)


def _partitioned(
    file: DataFile, reader: Callable[[DataFile], Iterator[Record]]
) -> Iterator[Record]:
    """The rows with the columns that the folders of the file name."""
    for line, row, problem in reader(file):
        yield line, row if row is None else add_partitions(file, line, row), problem


def first_keys(spec: str | os.PathLike | Sequence[str | os.PathLike], split: str) -> list[str]:
    """Returns the keys of the first rows of some files, which tell what the rows are.

    Args:
        spec: As for `find_files`.
        split: The part that `starter:NAME` means.

    Returns:
        The keys in the first file; none for files whose rows are no objects.
    """
    return list(dict.fromkeys(key for keys in first_rows(spec, split) for key in keys))


def first_rows(
    spec: str | os.PathLike | Sequence[str | os.PathLike], split: str
) -> list[tuple[str, ...]]:
    """Returns the keys of each of the first rows of some files that have a value.

    Args:
        spec: As for `find_files`, and folders.
        split: The part that `starter:NAME` means.

    Returns:
        The keys in the first file, row by row; none for a folder and for files whose rows are no
        objects.
    """
    first = spec if isinstance(spec, (str, os.PathLike)) else spec[0]
    file = find_files(first, split, preferred="text")[0]
    if file.suffix not in _READERS:
        return []
    return [
        tuple(key for key, value in row.items() if value is not None) for row in starts_of(file)[0]
    ]


def starts_of(file: DataFile) -> tuple[list[dict[str, Any]], tuple[int, str | None]]:
    """Returns the keys of the first rows of a file; of fewer rows where they are many or long.

    Args:
        file: A file of rows.

    Returns:
        The keys of each row, with `True` where it has a value and `None` where not; and the line
        of the first row with what is wrong with it.
    """
    first: tuple[int, str | None] = (1, None)
    found, characters = [], 0
    for line, row, problem in itertools.islice(records(file), _ROWS_FOR_KEYS):
        if not found:
            first = (line, problem)
        found.append({key: None if value is None else True for key, value in (row or {}).items()})
        characters += sum(map(len, found[-1])) + 100 * len(found[-1])
        if characters > _MOST_CHARACTERS:
            break
    return found, first


def _table(file: DataFile) -> Iterator[Record]:
    """Reads the rows of a table by the names in its header."""
    form = format_of(dataclasses.replace(file, partitions={}))
    names = [name for name in form.columns(file) if name]
    # Checked once for all of them: there may be many.
    for name, count in Counter(names).items():
        if count > 1:
            check_column("data", name, names, file)
    for line, values, problem in form.rows(file, Columns(tuple(names))) if names else ():
        yield line, None if problem else dict(zip(names, values, strict=True)), problem


_READERS: dict[str, Callable[[DataFile], Iterator[Record]]] = {
    ".jsonl": json_records,
    ".ndjson": json_records,
    ".json": json_records,
    ".parquet": parquet_records,
    ".csv": _table,
    ".tsv": _table,
}
