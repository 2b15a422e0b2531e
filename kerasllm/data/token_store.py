"""The token store: the token ids of a source, written once and read through a memory map."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa

from kerasllm.data.readers.sources import Source
from kerasllm.data.token_file import (
    LABEL_FIELD,
    TOKEN_FIELDS,
    TRAINED_FIELD,
    DamagedFileError,
    read_token_file,
    write_token_file,
)
from kerasllm.data.tokenizers import Tokenizer

# Raise it when the layout of the file changes: older files are then left alone, not misread.
_VERSION = 1

# Enough of the skipped rows to show where to look.
SKIPPED_KEPT = 10


def open_or_build(
    source: Source,
    tokenizer: Tokenizer,
    max_length: int,
    *,
    folder: str | os.PathLike,
    progress: Callable[[int], None] | None = None,
) -> TokenStore:
    """Returns the token ids of a source's rows, from an earlier store if there is one.

    A store is a file in `folder`, named by a fingerprint of the source, the tokenizer and
    `max_length`. A file that is damaged is never used: it is built anew, and `damage` of the store
    says what was wrong with it.

    Args:
        source: The rows.
        tokenizer: Turns their texts into token ids.
        max_length: The most tokens in a row, special tokens included.
        folder: Where stores are kept; it is made if it is not there.
        progress: Called with the number of rows done, after each batch of rows. Defaults to
            `None`.

    Raises:
        DataError: If a row of the source is refused.
        JobError: If the store cannot be written, for one because the disk is full.

    Example:

    ```python
    store = open_or_build(Source("starter:movie_reviews"), tokenizer, 128, folder="tokens")
    store.gather([0, 1], length=32, pad_id=tokenizer.pad_token_id)  # int32 [2, 32]
    ```
    """
    # The names of the files too: a message names the place of a row by them.
    read = [source.fingerprint, source.files, source.on_bad_row]
    return open_or_write(
        [read, tokenizer.fingerprint, max_length],
        lambda: _encode(source, tokenizer, max_length),
        source.files,
        folder=folder,
        progress=progress,
        remarks=lambda: [source.bad_row_count, source.bad_rows[:SKIPPED_KEPT]],
    )


def open_or_write(
    identity: object,
    batches: Callable[[], Iterator[pa.RecordBatch]],
    files: Sequence[str],
    *,
    folder: str | os.PathLike,
    progress: Callable[[int], None] | None = None,
    remarks: Callable[[], object] = lambda: [0, []],
) -> TokenStore:
    """Returns the store of an identity, written now if there is none.

    Args:
        identity: All that decides what is in the store, as JSON values.
        batches: Called if it has to be written; gives the rows, see `row_batch`.
        files: The names of the files that the rows are of.
        folder: Where stores are kept; it is made if it is not there.
        progress: Called with the number of rows done. Defaults to `None`.
        remarks: Called after the last row: `[bad rows left out, the first of them, ...]`, and
            whatever else is to be kept as `TokenStore.remarks`. Defaults to none left out.

    Raises:
        JobError: If the store cannot be written, for one because the disk is full.
    """
    fingerprint = hashlib.sha256(json.dumps([_VERSION, identity]).encode()).hexdigest()
    path = Path(folder) / f"{fingerprint}.arrow"
    store, damage = _open(path)
    if store is None:
        with _one_at_a_time(path.parent):
            # While this process waited, another may have made it.
            store, damage = _open(path)
            if store is None:
                write_token_file(path, batches(), list(files), progress, remarks=remarks)
                store = TokenStore(path, damage=damage)
    return store


def row_batch(
    ids: np.ndarray,
    offsets: np.ndarray,
    file: int,
    lines: np.ndarray,
    *,
    labels: Sequence[str] | None = None,
    trained: np.ndarray | None = None,
) -> pa.RecordBatch:
    """Returns rows as a store holds them.

    Args:
        ids: int32, the ids of all rows, one after the other.
        offsets: int64 `[rows + 1]`, where each row begins and ends.
        file: The number of the file that they are of.
        lines: int64 `[rows]`, the line that each begins in.
        labels: The label of each row. Defaults to `None`: they have none.
        trained: uint8, 1 for each id that a model learns to say. Defaults to `None`: all.
    """
    offsets = pa.array(offsets.astype(np.int32))
    columns = [
        pa.ListArray.from_arrays(offsets, pa.array(ids)),
        pa.array(np.full(len(lines), file, np.int32)),
        pa.array(np.asarray(lines, np.int64)),
    ]
    fields = list(TOKEN_FIELDS)
    if labels is not None:
        columns.append(pa.array(labels, pa.string()))
        fields.append(LABEL_FIELD)
    if trained is not None:
        columns.append(pa.ListArray.from_arrays(offsets, pa.array(trained)))
        fields.append(TRAINED_FIELD)
    return pa.record_batch(columns, schema=pa.schema(fields))


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
        labels: The label of each row, a `pyarrow.ChunkedArray` of strings, or `None`.
        reused: Whether the file was there before and did not have to be written.
        damage: What was wrong with the file that this one took the place of, or `None`.
        skipped: How many bad rows of the source were left out.
        skipped_rows: The first ten of them: `(file, line, why)`.
        remarks: What else was noted when the rows were read, a list.
        has_trained: Whether the rows say which of their tokens a model learns to say.

    Raises:
        DamagedFileError: If the file is cut off or was changed.
    """

    def __init__(self, path: str | os.PathLike, *, reused: bool = False, damage: str | None = None):
        self.path = Path(path)
        self.fingerprint = self.path.stem
        self.reused = reused
        self.damage = damage
        self._mapped, self._batches, self._files, remarks = read_token_file(self.path)
        content = self._mapped.content
        self.skipped, rows, *self.remarks = remarks
        self.skipped_rows = [tuple(row) for row in rows]
        counts = [len(batch) for batch in self._batches]
        self._first_rows = np.cumsum([0, *counts])
        # Where each batch's offsets, tokens and marks begin in the file. Row r of batch b is the
        # tokens from the r-th offset of the batch to the next, counted from where its tokens begin.
        self._offsets = np.zeros(len(counts), np.int64)
        self._values = np.zeros(len(counts), np.int64)
        self._marks = np.zeros(len(counts), np.int64)
        names = self._batches[0].schema.names if self._batches else []
        self.has_trained = TRAINED_FIELD[0] in names
        for index, batch in enumerate(self._batches):
            _, offsets, _, values = batch.column("token_ids").buffers()
            self._offsets[index] = offsets.address - content.address
            self._values[index] = values.address - content.address
            if self.has_trained:
                _, _, _, marks = batch.column(TRAINED_FIELD[0]).buffers()
                self._marks[index] = marks.address - content.address
        self.labels: pa.ChunkedArray | None = None
        if LABEL_FIELD[0] in names:
            labels = [batch.column(LABEL_FIELD[0]) for batch in self._batches]
            self.labels = pa.chunked_array(labels, LABEL_FIELD[1])
        self.let_go()

    def __len__(self) -> int:
        return int(self._first_rows[-1])

    @property
    def lengths(self) -> np.ndarray:
        """int32 `[rows]`, tokens of each row, special tokens included; read each time."""
        lengths = np.empty(len(self), np.int32)
        for number, first in enumerate(self._first_rows[:-1]):
            count = self._first_rows[number + 1] - first
            read = self._mapped.pieces(self._offsets[[number]], 4 * (count[None] + 1))
            lengths[first : first + count] = np.diff(np.frombuffer(read, np.int32))
        return lengths

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
        rows = np.asarray(indices, np.int64)
        batches = self._batch_of(rows)
        starts, ends = self._ends_of(rows, batches)
        lengths = ends - starts
        if len(rows) and lengths.max() > length:
            raise ValueError(
                f"Row {rows[lengths.argmax()]} has {lengths.max()} tokens. "
                f"Received: length={length}"
            )
        padded = np.full((len(rows), length), pad_id, np.int32)
        ids = self._mapped.pieces(self._values[batches] + 4 * starts, 4 * lengths)
        padded[np.arange(length) < lengths[:, None]] = np.frombuffer(ids, np.int32)
        return padded

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
        first = self._ends_of(rows, batches)[0] + starts
        ids = self._mapped.pieces(self._values[batches] + 4 * first, 4 * np.asarray(lengths))
        return np.frombuffer(ids, np.int32)

    def trained(self, rows: np.ndarray, starts: np.ndarray, lengths: np.ndarray) -> np.ndarray:
        """Returns which tokens of pieces of rows a model learns to say, as `slices` gives them.

        Returns:
            uint8 `[sum of lengths]`, 1 or 0; all are 1 where the rows do not say.
        """
        if not self.has_trained:
            return np.ones(int(np.sum(lengths)), np.uint8)
        batches = self._batch_of(rows)
        first = self._ends_of(rows, batches)[0] + starts
        marks = self._mapped.pieces(self._marks[batches] + first, np.asarray(lengths))
        return np.frombuffer(marks, np.uint8)

    def _ends_of(self, rows: np.ndarray, batches: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Returns where rows begin and end among the tokens of their batches, int64 `[rows]`."""
        places = self._offsets[batches] + 4 * (np.asarray(rows) - self._first_rows[batches])
        ends = np.frombuffer(self._mapped.pieces(places, np.full(len(places), 8)), np.int32)
        starts, ends = ends.reshape(-1, 2).T.astype(np.int64)
        return starts, ends

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

    def _batch_of(self, rows: np.ndarray) -> np.ndarray:
        if len(rows) and not 0 <= rows.min() <= rows.max() < len(self):
            raise IndexError(
                f"The store has {len(self)} rows. Received: rows {rows.min()} to {rows.max()}"
            )
        return np.searchsorted(self._first_rows, rows, side="right") - 1


def _open(path: Path) -> tuple[TokenStore | None, str | None]:
    """Returns the store of an earlier run, or what is wrong with it, if anything is."""
    if not path.exists():
        return None, None
    try:
        return TokenStore(path, reused=True), None
    except DamagedFileError as error:
        return None, str(error)


@contextlib.contextmanager
def _one_at_a_time(folder: Path) -> Iterator[None]:
    """Lets the workers of a machine, who all want the same store, make it once."""
    lock = None
    # Where the folder cannot be made or locked, writing the store will tell, or go well.
    with contextlib.suppress(OSError):
        folder.mkdir(parents=True, exist_ok=True)
        lock = os.open(folder, os.O_RDONLY)
        fcntl.flock(lock, fcntl.LOCK_EX)
    try:
        yield
    finally:
        if lock is not None:
            os.close(lock)


def _encode(source: Source, tokenizer: Tokenizer, max_length: int) -> Iterator[pa.RecordBatch]:
    for batch in source.batches():
        ids, offsets = tokenizer.encode(batch.texts, max_length)
        yield row_batch(ids, offsets, batch.file, batch.lines, labels=batch.labels)
