"""Columns of labelled files besides those that a model reads: what rows may be grouped by."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress

import numpy as np
import pyarrow as pa

from kerasllm.data.all_records import records_of
from kerasllm.data.readers.sources import Source
from kerasllm.errors import DataError

MOST_VALUES = 20
_MOST_CHARACTERS = 60
_MOST_COLUMNS = 20


def columns_of_few_values(
    source: Source, files: np.ndarray, lines: np.ndarray
) -> dict[str, pa.DictionaryArray]:
    """Reads the columns of some rows that have from 2 to 20 values, and are no text or label.

    Args:
        source: The files.
        files: int `[rows]`, the number of the file of each row; ascending.
        lines: int `[rows]`, its line there; ascending in each file.

    Returns:
        The columns by name, null where a row has no value; none where a file cannot be read again.
    """
    if source.text_column is None:
        return {}
    read = {source.text_column, source.pair_column, *source.label_columns}
    columns: dict[str, _Column] = {}
    with suppress(DataError):
        for number, (file, _, _) in enumerate(source.readings):
            at, end = np.searchsorted(files, [number, number + 1])
            for line, row, _ in records_of(file):
                if at == end:
                    break
                if line != lines[at]:
                    continue
                for name, value in (row or {}).items():
                    if name not in read:
                        if name not in columns:
                            columns[name] = _Column(len(lines))
                        columns[name].add(int(at), value)
                at += 1
        found = {name: each.array() for name, each in columns.items() if each.is_grouping()}
        return dict(list(found.items())[:_MOST_COLUMNS])
    return {}


class _Column:
    """The values of a column, until there are too many of them."""

    def __init__(self, rows: int):
        self._codes: np.ndarray | None = np.full(rows, -1, np.int8)
        self._values: dict[str, int] = {}

    def add(self, row: int, value: object) -> None:
        if self._codes is None or value is None or value == "":
            return
        text = str(value) if isinstance(value, str | int | float) else None
        if text is None or len(text) > _MOST_CHARACTERS:
            self._codes = None
            return
        code = self._values.setdefault(text, len(self._values))
        if code >= MOST_VALUES:
            self._codes = None
            return
        self._codes[row] = code

    def is_grouping(self) -> bool:
        return self._codes is not None and len(self._values) > 1

    def array(self) -> pa.DictionaryArray:
        codes = pa.array(self._codes, mask=self._codes < 0)
        return pa.DictionaryArray.from_arrays(codes, pa.array(list(self._values), pa.string()))


def places_in(
    files: Sequence[str], numbers: np.ndarray, lines: np.ndarray
) -> Mapping[str, pa.Array]:
    """Returns the columns `file` and `line` of `kerasllm.evaluation.outcomes`."""
    names = pa.array(list(files), pa.string())
    return {
        "file": pa.DictionaryArray.from_arrays(pa.array(numbers.astype(np.int32)), names),
        "line": pa.array(lines.astype(np.int64)),
    }
