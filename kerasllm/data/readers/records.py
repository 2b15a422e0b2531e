"""Rows that are objects with keys: jsonl, json and parquet."""

from __future__ import annotations

import itertools
import json
import os
import re
from collections.abc import Callable, Iterator, Sequence

from kerasllm.data.readers import compression
from kerasllm.data.readers.files import DataFile, find_files
from kerasllm.data.readers.formats import json_kind, json_records
from kerasllm.data.readers.parquet import parquet_records
from kerasllm.data.readers.text_lines import TextLines
from kerasllm.errors import DataError

Record = tuple[int, dict | None, str | None]

# A key may be missing in some rows.
_ROWS_FOR_KEYS = 100
_SPACE = re.compile(r"\s*")


def records(file: DataFile) -> Iterator[Record]:
    """Yields the rows of a file.

    Args:
        file: A `.jsonl`, `.ndjson`, `.json` (a list of objects) or `.parquet` file; all but the
            last also compressed.

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
            f"({' '.join(compression.SUFFIXES)} .zip)",
        )
    return reader(file)


def first_keys(spec: str | os.PathLike | Sequence[str | os.PathLike], split: str) -> list[str]:
    """Returns the keys of the first rows of some files, which tell what the rows are.

    Args:
        spec: As for `find_files`.
        split: The part that `starter:NAME` means.

    Returns:
        The keys in the first file; none for files whose rows are no objects.
    """
    first = spec if isinstance(spec, (str, os.PathLike)) else spec[0]
    file = find_files(first, split, preferred="text")[0]
    if file.suffix not in _READERS:
        return []
    rows = itertools.islice(records(file), _ROWS_FOR_KEYS)
    return list(dict.fromkeys(key for _, row, _ in rows for key in row or ()))


def _listed(file: DataFile) -> Iterator[Record]:
    """Reads a list of objects, or objects one after the other, each with the line it begins in."""
    lines = TextLines(file)
    text = "".join(lines)
    if lines.problems:
        line, problem = lines.take_problem()
        raise DataError(
            f"The file cannot be read: {problem}",
            where=f"{file.name}:{line}",
            fix="save it as UTF-8",
        )
    decoder = json.JSONDecoder()
    place, line, counted = _SPACE.match(text).end(), 1, 0
    in_list = text.startswith("[", place)
    place = _SPACE.match(text, place + in_list).end()
    while place < len(text) and not text.startswith("]", place):
        line, counted = line + text.count("\n", counted, place), place
        try:
            value, end = decoder.raw_decode(text, place)
        except (ValueError, RecursionError) as error:
            raise DataError(
                f"The file is not JSON from here on: {error}",
                where=f"{file.name}:{line}",
                fix='write a list of objects, [{"messages": [...]}, ...], or one a line',
            ) from error
        if isinstance(value, dict):
            yield line, value, None
        else:
            yield line, None, f"{json_kind(value)}, where a JSON object is expected"
        place = _SPACE.match(text, end).end()
        if text.startswith(",", place):
            place = _SPACE.match(text, place + 1).end()
    if in_list and place >= len(text):
        raise DataError(
            "The list in the file has no end",
            where=f"{file.name}:{line}",
            fix="copy or download it again; it ends with ]",
        )


_READERS: dict[str, Callable[[DataFile], Iterator[Record]]] = {
    ".jsonl": json_records,
    ".ndjson": json_records,
    ".json": _listed,
    ".parquet": parquet_records,
}
