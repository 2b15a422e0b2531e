"""The outcome of each test row: the file `predictions.parquet` of a run.

The columns that every file has, and those that it has where the task knows them:

    file, line    where the row stands
    text          its text, up to 500 characters
    tokens        tokens that the model read of it
    expected      what it is labelled with, as a report shows it; a number of scores
    predicted     what the model predicted
    error         how wrong that is: 0 right, 1 wrong, or between; of scores the distance
    confidence    the probability that the model gave what it predicted
    loss          the loss of the row

Others are what a task measures by, and `data.NAME` are columns of the data with few values.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from kerasllm.errors import RunError

TEXT_CHARACTERS = 500
DATA = "data."
"""How the names of columns of the data begin."""

_VERSION = 1
_KEY = b"kerasllm"
_ROWS_AT_ONCE = 16384
# A file of a few bytes may have any number of equal rows.
_MOST_ROWS = 20_000_000


@dataclass(frozen=True, eq=False)
class Outcomes:
    """The rows of the test data, with what was predicted for each.

    Attributes:
        columns: The columns but the texts, NumPy or pyarrow arrays `[rows]`; see above.
        texts: The texts, in the order of the rows; read once. Defaults to none.
        noun: What a row is, in a word. Defaults to `"row"`.
        error: What the column `error` is on average. Defaults to `"error rate"`.
        names: Names of classes, in the order in which the task numbers them. Defaults to none.
        path: The file that they were read from. Defaults to `None`.
    """

    columns: Mapping[str, Any]
    texts: Iterable[str] = ()
    noun: str = "row"
    error: str = "error rate"
    names: Sequence[str] = ()
    path: Path | None = field(default=None, repr=False)

    def __len__(self) -> int:
        return len(next(iter(self.columns.values())))

    def __contains__(self, name: str) -> bool:
        return name in self.columns

    def __getitem__(self, name: str) -> np.ndarray:
        """Returns a column as a NumPy array; of strings, an array of objects."""
        values = self.columns[name]
        return values if isinstance(values, np.ndarray) else values.to_numpy(zero_copy_only=False)

    def classes(self, name: str) -> np.ndarray:
        """Returns a column of names as their places in `names`, int64 `[rows]`; -1 for others."""
        places = pc.index_in(self._strings(name), pa.array(self.names, pa.string()))
        return pc.fill_null(places, -1).to_numpy(zero_copy_only=False).astype(np.int64)

    def sets(self, name: str) -> np.ndarray:
        """Returns a column of lists of numbers as bool `[rows, names]`."""
        lists = self.columns[name]
        found = np.zeros((len(lists), len(self.names)), bool)
        lengths = np.diff(lists.offsets.to_numpy())
        found[np.repeat(np.arange(len(lists)), lengths), lists.flatten().to_numpy()] = True
        return found

    def values(self, name: str, rows: Sequence[int] | np.ndarray) -> list[Any]:
        """Returns the values of a column in some rows, as Python has them."""
        if name == "text":
            return self._texts_of(rows)
        column = self.columns[name]
        if isinstance(column, np.ndarray):
            return column[np.asarray(rows, np.int64)].tolist()
        return column.take(pa.array(rows, pa.int64())).to_pylist()

    @cached_property
    def is_graded(self) -> bool:
        """Whether rows are more or less wrong, rather than right or wrong."""
        error = self["error"]
        return not np.isin(error, (0, 1)).all()

    def _strings(self, name: str) -> pa.Array:
        values = self.columns[name]
        return values.cast(pa.string()) if pa.types.is_dictionary(values.type) else values

    def _texts_of(self, rows: Sequence[int] | np.ndarray) -> list[str]:
        """Reads the texts of some rows, a group of rows at a time."""
        wanted = np.asarray(rows, np.int64)
        found: dict[int, str] = {}
        if self.path is not None and len(wanted):
            with pq.ParquetFile(self.path) as file:
                first = 0
                for group in range(file.num_row_groups):
                    count = file.metadata.row_group(group).num_rows
                    mine = wanted[(wanted >= first) & (wanted < first + count)]
                    if len(mine):
                        texts = file.read_row_group(group, columns=["text"]).column("text")
                        chosen = texts.take(pa.array(mine - first)).to_pylist()
                        found |= dict(zip(mine.tolist(), chosen, strict=True))
                    first += count
        return [found.get(int(row), "") for row in wanted]


def names_column(codes: np.ndarray, names: Sequence[str]) -> pa.Array:
    """Returns a column of names that takes a byte or two a row."""
    kind = np.min_scalar_type(-max(len(names), 1))
    return pa.DictionaryArray.from_arrays(
        pa.array(codes.astype(kind)), pa.array(list(names), pa.string())
    )


def sets_column(given: np.ndarray) -> pa.Array:
    """Returns a column of lists of the numbers that are set in bool `[rows, names]`."""
    rows, numbers = np.nonzero(given)
    offsets = np.searchsorted(rows, np.arange(len(given) + 1))
    return pa.ListArray.from_arrays(
        pa.array(offsets.astype(np.int32)), pa.array(numbers.astype(np.int32))
    )


def write_outcomes(outcomes: Outcomes, path: Path) -> None:
    """Writes a file of outcomes, whole or not at all, in memory for about a thousand texts.

    Args:
        outcomes: The rows.
        path: The file.
    """
    arrays = {
        name: values if isinstance(values, pa.Array) else pa.array(values)
        for name, values in outcomes.columns.items()
    }
    noted = {"version": _VERSION, "noun": outcomes.noun, "error": outcomes.error}
    noted["names"] = list(outcomes.names)
    fields = [pa.field(name, values.type) for name, values in arrays.items()]
    schema = pa.schema([*fields, pa.field("text", pa.string())])
    schema = schema.with_metadata({_KEY: json.dumps(noted)})
    temporary = path.with_name(f".{path.name}.tmp")
    texts = iter(outcomes.texts)
    try:
        with pq.ParquetWriter(temporary, schema, compression="zstd") as writer:
            for start in range(0, len(outcomes), _ROWS_AT_ONCE):
                some = [values[start : start + _ROWS_AT_ONCE] for values in arrays.values()]
                shown = [_cut(next(texts, "")) for _ in range(len(some[0]))]
                batch = pa.record_batch([*some, pa.array(shown, pa.string())], schema=schema)
                writer.write_batch(batch)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def read_outcomes(path: Path) -> Outcomes:
    """Reads a file of outcomes; its texts are read when they are wanted.

    Raises:
        RunError: If it is not such a file.
    """
    try:
        with pq.ParquetFile(path) as file:
            noted = json.loads((file.schema_arrow.metadata or {}).get(_KEY, b"{}"))
            names = [name for name in file.schema_arrow.names if name != "text"]
            if file.metadata.num_rows > _MOST_ROWS:
                raise ValueError(f"it has {file.metadata.num_rows:,} rows")
            table = file.read(columns=names)
        if noted.get("version") != _VERSION or not {"file", "line", "error"} <= {*names}:
            raise ValueError(f"it has the columns {', '.join(names)}")
    except (ValueError, OSError) as error:
        raise RunError(
            f"The file of predictions is not what kerasllm wrote: {str(error)[:300]}",
            where=str(path),
            fix="remove it, or train again",
        ) from error
    columns: dict[str, Any] = {}
    for name in names:
        column = table.column(name).combine_chunks()
        if isinstance(column, pa.ChunkedArray):
            column = column.unify_dictionaries().combine_chunks()
        plain = pa.types.is_integer(column.type) or pa.types.is_floating(column.type)
        columns[name] = column.to_numpy(zero_copy_only=False) if plain else column
    return Outcomes(
        columns, (), noted["noun"], noted["error"], tuple(noted.get("names", ())), Path(path)
    )


def _cut(text: str) -> str:
    text = text.encode(errors="replace").decode()
    return text if len(text) <= TEXT_CHARACTERS else text[: TEXT_CHARACTERS - 1] + "…"
