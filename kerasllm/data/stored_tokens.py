"""The token ids of a source, read through a memory map."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from kerasllm.data.token_file import (
    COLUMN_PREFIX,
    TOKEN_FIELDS,
    TRAINED_FIELD,
    DamagedFileError,
    MappedFile,
    read_token_file,
)

LABEL = "label"
"""The column of the string labels of a source."""

SEGMENT_START = "segment_start"
"""The column, int32, of how many tokens of a row come before the second text of a pair."""


class _Ragged:
    """A list column of a mapped file: where its rows begin and end, and their values.

    Row r of batch b is the values from the r-th offset of the batch to the next, counted from
    where the batch's values begin.

    Args:
        mapped: The file.
        arrays: The list arrays of its batches. No row is `None`, and no value.
        first_rows: int64 `[batches + 1]`, the number of each batch's first row.
        dtype: The dtype of the values.
    """

    def __init__(
        self,
        mapped: MappedFile,
        arrays: list[pa.ListArray],
        first_rows: np.ndarray,
        dtype: np.dtype | type,
    ):
        self._mapped = mapped
        self._first_rows = first_rows
        self._dtype = np.dtype(dtype)
        # Where each batch's offsets and values begin in the file.
        self._offsets = np.zeros(len(arrays), np.int64)
        self._values = np.zeros(len(arrays), np.int64)
        for index, array in enumerate(arrays):
            _, offsets, _, values = array.buffers()
            self._offsets[index] = offsets.address - mapped.content.address
            # Lists that are all empty have no values.
            if values is not None and values.size:
                self._values[index] = values.address - mapped.content.address

    def lengths(self) -> np.ndarray:
        """Returns the number of values of each row, int32 `[rows]`; read each time."""
        lengths = np.empty(int(self._first_rows[-1]), np.int32)
        for number, first in enumerate(self._first_rows[:-1]):
            count = self._first_rows[number + 1] - first
            read = self._mapped.pieces(self._offsets[[number]], 4 * (count[None] + 1))
            lengths[first : first + count] = np.diff(np.frombuffer(read, np.int32))
        return lengths

    def ends(self, rows: np.ndarray, batches: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Returns where rows begin and end among the values of their batches, int64 `[rows]`."""
        places = self._offsets[batches] + 4 * (np.asarray(rows) - self._first_rows[batches])
        ends = np.frombuffer(self._mapped.pieces(places, np.full(len(places), 8)), np.int32)
        starts, ends = ends.reshape(-1, 2).T.astype(np.int64)
        return starts, ends

    def values(self, batches: np.ndarray, starts: np.ndarray, counts: np.ndarray) -> np.ndarray:
        """Returns values of some batches, one after the other.

        Args:
            batches: int64 `[pieces]`.
            starts: int64 `[pieces]`, where each piece begins among the values of its batch.
            counts: int64 `[pieces]`, how many values it has.
        """
        size = self._dtype.itemsize
        read = self._mapped.pieces(self._values[batches] + size * starts, size * counts)
        return np.frombuffer(read, self._dtype)


class TokenStore:
    """Rows of token ids in an Arrow file, read through a memory map.

    Nothing that grows with the rows is held in memory.

    Args:
        path: The file, `FINGERPRINT.arrow`.
        reused: See the attribute. Defaults to `False`.
        damage: See the attribute. Defaults to `None`.

    Attributes:
        path: The file.
        fingerprint: sha256, in hex, of the data, the tokenizer and the length they were cut to.
        column_names: The names of the columns that a task keeps besides the tokens, a tuple.
        reused: Whether the file was there before and did not have to be written.
        damage: What was wrong with the file that this one took the place of, or `None`.
        skipped: How many bad rows of the source were left out.
        skipped_rows: The first ten of them: `(file, line, why)`.
        remarks: What else was noted when the rows were read, a list.
        noted: What was noted by name, the mapping among the remarks: for one, `skipped_reasons` and
            `notes` of a `Source`.
        file_remarks: What a user should know of how the files were found, a list.
        has_trained: Whether the rows have a loss mask: which of their tokens count in the loss.

    Raises:
        DamagedFileError: If the file is cut off or was changed.
    """

    def __init__(self, path: str | os.PathLike, *, reused: bool = False, damage: str | None = None):
        self.path = Path(path)
        self.fingerprint = self.path.stem
        self.reused = reused
        self.damage = damage
        self._mapped, schema, self._batches, self._files, remarks = read_token_file(self.path)
        self.skipped, rows, *self.remarks = remarks
        self.skipped_rows = [tuple(row) for row in rows]
        found = (one for one in self.remarks if isinstance(one, dict))
        self.noted: Mapping[str, Any] = next(found, {})
        self.file_remarks: Sequence[str] = ()
        self._first_rows = np.cumsum([0, *(len(batch) for batch in self._batches)])
        self._types = {
            field.name.removeprefix(COLUMN_PREFIX): field.type
            for field in schema
            if field.name.startswith(COLUMN_PREFIX)
        }
        own = {name for name, _ in (*TOKEN_FIELDS, TRAINED_FIELD)}
        if strangers := {*schema.names} - own - {COLUMN_PREFIX + name for name in self._types}:
            raise DamagedFileError(
                f"{self.path}: it has the layout of another version, with {sorted(strangers)}"
            )
        self.column_names = tuple(self._types)
        self._columns: dict[str, _Ragged] = {}
        self._ids = self._ragged("token_ids", np.int32)
        self.has_trained = TRAINED_FIELD[0] in schema.names
        self._marks = self._ragged(TRAINED_FIELD[0], np.uint8) if self.has_trained else None
        self.let_go()

    def __len__(self) -> int:
        return int(self._first_rows[-1])

    @property
    def lengths(self) -> np.ndarray:
        """int32 `[rows]`, tokens of each row, special tokens included; read each time."""
        return self._ids.lengths()

    @property
    def labels(self) -> pa.ChunkedArray | None:
        """The column `label`, or `None` where there is none."""
        return self.column(LABEL) if LABEL in self.column_names else None

    def column(self, name: str) -> pa.ChunkedArray:
        """Returns a column of a task, as it was given to `row_batch`.

        Its values stay in the file until they are used; those that were used count as memory of
        this process until `let_go`.

        Args:
            name: Its name, one of `column_names`.

        Raises:
            KeyError: If there is no such column.

        Example:

        ```python
        store.column("spans")[3].as_py()  # [4, 9]
        ```
        """
        kind = self._type_of(name)
        return pa.chunked_array(self._arrays(name), kind)

    def numbers(self, name: str, rows: Sequence[int] | np.ndarray | None = None) -> np.ndarray:
        """Returns the values of a column of numbers.

        Args:
            name: Its name, one of `column_names`.
            rows: Which rows, in any order. Defaults to `None`: all.

        Returns:
            `[rows]`, of the column's type; read each time.

        Raises:
            IndexError: If there is no such row.
            KeyError: If there is no such column.
            TypeError: If it does not hold integers or floats.
            ValueError: If a value is missing.

        Example:

        ```python
        store.numbers("stars", [3, 0])  # array([4.5, 2. ], dtype=float32)
        ```
        """
        kind, arrays = self._type_of(name), self._arrays(name)
        if not (pa.types.is_integer(kind) or pa.types.is_floating(kind)):
            raise TypeError(f"The column {name!r} must hold numbers. Received: {kind}")
        if any(array.null_count for array in arrays):
            raise ValueError(f"The column {name!r} has rows without a value")
        dtype = np.dtype(kind.to_pandas_dtype())
        address = self._mapped.content.address
        firsts = np.array([array.buffers()[1].address - address for array in arrays], np.int64)
        if rows is None:
            read = self._mapped.pieces(firsts, dtype.itemsize * np.diff(self._first_rows))
            return np.frombuffer(read, dtype)
        rows = np.asarray(rows, np.int64)
        batches = self._batch_of(rows)
        places = firsts[batches] + dtype.itemsize * (rows - self._first_rows[batches])
        read = self._mapped.pieces(places, np.full(len(rows), dtype.itemsize))
        return np.frombuffer(read, dtype)

    def gather_column(
        self, name: str, rows: Sequence[int] | np.ndarray, length: int, pad: int
    ) -> np.ndarray:
        """Returns the lists of a column of `pa.list_(pa.int32())`, padded at their ends.

        Args:
            name: Its name, one of `column_names`.
            rows: Which rows, in any order.
            length: The length to pad to; no list may be longer.
            pad: The value to pad with.

        Returns:
            int32 `[rows, length]`.

        Raises:
            IndexError: If there is no such row.
            KeyError: If there is no such column.
            TypeError: If it does not hold lists of int32.
            ValueError: If a list is longer than `length`, or a list or a value is missing.

        Example:

        ```python
        store.gather_column("target_ids", [3, 0], length=8, pad=0)  # int32 [2, 8]
        ```
        """
        return self._gather(self._list_column(name), rows, length, pad)

    def column_lengths(self, name: str) -> np.ndarray:
        """Returns the lengths of the lists of a column, int32 `[rows]`; read each time.

        Args:
            name: Its name, one of `column_names`.

        Raises:
            KeyError: If there is no such column.
            TypeError: If it does not hold lists of int32.
            ValueError: If a list or a value is missing.
        """
        return self._list_column(name).lengths()

    def segment_starts(self, rows: Sequence[int] | np.ndarray) -> np.ndarray | None:
        """Returns how many tokens of some rows come before the second text of their pairs.

        Args:
            rows: Which rows, in any order.

        Returns:
            int32 `[rows]`; `None` if the store holds single texts.
        """
        return self.numbers(SEGMENT_START, rows) if SEGMENT_START in self.column_names else None

    def let_go(self) -> None:
        """Counts nothing of the file as memory of this process any more, such as its labels."""
        self._mapped.let_go()

    def gather(self, indices: Sequence[int] | np.ndarray, length: int, pad_id: int) -> np.ndarray:
        """Returns the token ids of some rows, padded at their ends.

        Args:
            indices: Which rows, in any order.
            length: The length to pad to; no row may be longer.
            pad_id: The id to pad with.

        Returns:
            int32 `[len(indices), length]`.

        Raises:
            IndexError: If there is no such row.
            ValueError: If a row is longer than `length`.
        """
        return self._gather(self._ids, indices, length, pad_id)

    def slices(self, rows: np.ndarray, starts: np.ndarray, lengths: np.ndarray) -> np.ndarray:
        """Returns pieces of rows, one after the other.

        Args:
            rows: int64 `[pieces]`, which row each piece is of.
            starts: int64 `[pieces]`, the first token of each piece in its row.
            lengths: int64 `[pieces]`, its tokens; a piece must lie within its row.

        Returns:
            int32 `[sum of lengths]`.
        """
        batches = self._batch_of(rows)
        first = self._ids.ends(rows, batches)[0] + starts
        return self._ids.values(batches, first, np.asarray(lengths))

    def batches(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yields the token ids of all rows, thousands of rows at a time.

        Yields:
            The ids, int32, in the mapped file; and where each row begins and ends in them, int32
            `[rows + 1]`.
        """
        for batch in self._batches:
            column = batch.column(TOKEN_FIELDS[0][0])
            offsets = column.offsets.to_numpy()
            yield column.values.to_numpy()[offsets[0] : offsets[-1]], offsets - offsets[0]
        self.let_go()

    def trained(self, rows: np.ndarray, starts: np.ndarray, lengths: np.ndarray) -> np.ndarray:
        """Returns which tokens of pieces of rows count in the loss, as `slices` returns them.

        Returns:
            uint8 `[sum of lengths]`, 1 or 0; all are 1 where the rows do not say.
        """
        if not self.has_trained:
            return np.ones(int(np.sum(lengths)), np.uint8)
        batches = self._batch_of(rows)
        first = self._ids.ends(rows, batches)[0] + starts
        return self._marks.values(batches, first, np.asarray(lengths))

    def where(self, index: int) -> tuple[str, int]:
        """Returns the file and the line that a row was read from.

        Args:
            index: Which row.

        Raises:
            IndexError: If there is no such row.
        """
        number = int(self._batch_of(np.array([index]))[0])
        batch, row = self._batches[number], int(index - self._first_rows[number])
        return self._files[batch.column("file")[row].as_py()], batch.column("line")[row].as_py()

    def places(self, rows: np.ndarray) -> tuple[tuple[str, ...], np.ndarray, np.ndarray]:
        """Returns the names of all files, and the number of the file and the line of each row."""
        columns = ([batch.column(name) for batch in self._batches] for name in ("file", "line"))
        files, lines = (pa.chunked_array(each).to_numpy()[rows] for each in columns)
        return tuple(self._files), files, lines

    def _gather(
        self, column: _Ragged, indices: Sequence[int] | np.ndarray, length: int, pad: int
    ) -> np.ndarray:
        rows = np.asarray(indices, np.int64)
        batches = self._batch_of(rows)
        starts, ends = column.ends(rows, batches)
        lengths = ends - starts
        if len(rows) and lengths.max() > length:
            raise ValueError(
                f"Row {rows[lengths.argmax()]} has {lengths.max()} tokens. "
                f"Received: length={length}"
            )
        padded = np.full((len(rows), length), pad, np.int32)
        padded[np.arange(length) < lengths[:, None]] = column.values(batches, starts, lengths)
        return padded

    def _ragged(self, field: str, dtype: type) -> _Ragged:
        arrays = [batch.column(field) for batch in self._batches]
        return _Ragged(self._mapped, arrays, self._first_rows, dtype)

    def _list_column(self, name: str) -> _Ragged:
        """Returns a column of lists of int32, found in the file the first time it is used."""
        if name not in self._columns:
            kind, arrays = self._type_of(name), self._arrays(name)
            if kind != pa.list_(pa.int32()):
                raise TypeError(f"The column {name!r} must hold lists of int32. Received: {kind}")
            if any(array.null_count or array.values.null_count for array in arrays):
                raise ValueError(f"The column {name!r} has missing values")
            self._columns[name] = self._ragged(COLUMN_PREFIX + name, np.int32)
        return self._columns[name]

    def _type_of(self, name: str) -> pa.DataType:
        if name not in self._types:
            raise KeyError(
                f"The store has the columns {list(self.column_names)}. Received: {name!r}"
            )
        return self._types[name]

    def _arrays(self, name: str) -> list[pa.Array]:
        return [batch.column(COLUMN_PREFIX + name) for batch in self._batches]

    def _batch_of(self, rows: np.ndarray) -> np.ndarray:
        if len(rows) and not 0 <= rows.min() <= rows.max() < len(self):
            raise IndexError(
                f"The store has {len(self)} rows. Received: rows {rows.min()} to {rows.max()}"
            )
        return np.searchsorted(self._first_rows, rows, side="right") - 1
