"""Rows that are objects with keys: jsonl, json and parquet."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterator, Sequence

from kerasllm.data.readers.files import DataFile, find_files
from kerasllm.data.readers.json_files import Record, json_records, listed_records
from kerasllm.data.readers.parquet import parquet_records
from kerasllm.errors import DataError

# A key may be missing in some rows.
_ROWS_FOR_KEYS = 100


def records(file: DataFile) -> Iterator[Record]:
    """Yields the rows of a file.

    Args:
        file: A `.jsonl`, `.ndjson`, `.json` (a list of objects) or `.parquet` file; all but the
            last also with `.gz`.

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
            fix=f"known: {' '.join(_READERS)}, and all but .parquet followed by .gz",
        )
    return reader(file)


def first_keys(spec: str | os.PathLike | Sequence[str | os.PathLike], split: str) -> list[str]:
    """Returns the keys of the first rows of some files, which tell what the rows are.

    Args:
        spec: As for `find_files`, and folders.
        split: The part that `starter:NAME` means.

    Returns:
        The keys in the first file; none for a folder and for files whose rows are no objects.
    """
    first = spec if isinstance(spec, (str, os.PathLike)) else spec[0]
    if os.path.isdir(os.path.expanduser(first)):
        return []
    file = find_files(first, split)[0]
    if file.suffix not in _READERS:
        return []
    rows = itertools.islice(records(file), _ROWS_FOR_KEYS)
    return list(dict.fromkeys(key for _, row, _ in rows for key in row or ()))


_READERS: dict[str, Callable[[DataFile], Iterator[Record]]] = {
    ".jsonl": json_records,
    ".ndjson": json_records,
    ".json": listed_records,
    ".parquet": parquet_records,
}
