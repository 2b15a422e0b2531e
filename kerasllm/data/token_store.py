"""The token store: the token ids of a source, written once and reused."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from kerasllm.data import shards
from kerasllm.data.readers.sources import RowBatch, Source
from kerasllm.data.stored_tokens import LABEL, SEGMENT_START, TokenStore
from kerasllm.data.token_file import (
    COLUMN_PREFIX,
    TOKEN_FIELDS,
    TRAINED_FIELD,
    DamagedFileError,
    write_token_file,
)

if TYPE_CHECKING:
    # Importing it imports TensorFlow.
    from kerasllm.data.tokenizers import Tokenizer

# Raise it when the layout of the file changes: older files are then left alone, not misread.
_VERSION = 1
# The same for the layout of the columns. A store without columns keeps its fingerprint, by which
# an unfinished training of a language model tells its data.
_COLUMNS_VERSION = 2


# Truncation of pairs of texts, as tokenizers name it.
_TRUNCATION = "longest_first"

# Enough of the skipped rows to show where to look.
SKIPPED_KEPT = 10


def source_labels(batch: RowBatch) -> dict[str, pa.Array]:
    """Returns the string labels of a batch as the column `label`, if its source has labels."""
    return {} if batch.labels is None else {LABEL: pa.array(batch.labels, pa.string())}


def open_or_build(
    source: Source,
    tokenizer: Tokenizer,
    max_length: int,
    *,
    folder: str | os.PathLike,
    progress: Callable[[int], None] | None = None,
    truncation: str = _TRUNCATION,
    columns: Callable[[RowBatch], Mapping[str, pa.Array]] = source_labels,
    identity: object = None,
) -> TokenStore:
    """Returns the token ids of a source's rows, from an earlier store if there is one.

    A store is a file in `folder`, named by a fingerprint of the source, the tokenizer and the
    other arguments. A file that is damaged is never used: it is built again, and `damage` of the
    store says what was wrong with it.

    Where the source has pairs of texts (`batch.pairs`), each row holds both, and the column
    `segment_start` says where the second one begins.

    Args:
        source: The rows.
        tokenizer: Turns their texts into token ids.
        max_length: The maximum number of tokens in a row, special tokens included.
        folder: Where stores are kept; it is made if it is not there.
        progress: Called with the number of rows done, after each batch of rows. Defaults to
            `None`.
        truncation: How a pair that is too long is cut; see `Tokenizer.encode_pairs`. Defaults to
            `"longest_first"`.
        columns: Returns the columns of a batch of rows by name; see `row_batch`. Its module and
            its name are part of the fingerprint. Defaults to `source_labels`: the string labels,
            as the column `label`.
        identity: What else decides the columns, as JSON values: settings, and a number to raise
            when `columns` would return something else than before. Defaults to `None`.

    Raises:
        DataError: If a row of the source is refused.
        JobError: If the store cannot be written, for one because the disk is full.
        TypeError: If `columns` has no name of its own, as a `functools.partial` has none, and
            there is no `identity`.
        ValueError: If a column has another number of values than the batch has rows.

    Example:

    ```python
    store = open_or_build(Source("starter:movie_reviews"), tokenizer, 128, folder="tokens")
    store.gather([0, 1], length=32, pad_id=tokenizer.pad_token_id)  # int32 [2, 32]
    store.column("label")[0].as_py()  # "1"
    ```
    """
    # The names of the files too: a message names the place of a row by them.
    read = [source.fingerprint, source.files, source.on_bad_row]
    if source.on_bad_row == "skip":
        # Stores of earlier versions do not know what was skipped.
        read.append("skipped labels are counted")
    if not hasattr(columns, "__qualname__") and identity is None:
        raise TypeError(
            "columns must be a function, or identity must tell it from others. "
            f"Received: columns={columns!r}"
        )
    named = [getattr(columns, name, None) for name in ("__module__", "__qualname__")]
    made_by = [named, identity, truncation]
    return open_or_write(
        [read, tokenizer.fingerprint, max_length, _COLUMNS_VERSION, made_by],
        lambda: _encode(source, tokenizer, max_length, truncation, columns),
        source.files,
        folder=folder,
        progress=progress,
        remarks=lambda: [
            source.bad_row_count,
            source.bad_rows[:SKIPPED_KEPT],
            {
                "revised": False,
                **getattr(source, "noted", {}),
                "skipped_labels": dict(getattr(source, "bad_row_labels", {})),
                "unlabelled": dict(getattr(source, "unlabelled", {})),
            },
        ],
        is_revised=lambda store: store.noted.get("revised"),
    )


def open_or_write(
    identity: object,
    batches: Callable[[], Iterator[pa.RecordBatch]],
    files: Sequence[str],
    *,
    folder: str | os.PathLike,
    progress: Callable[[int], None] | None = None,
    remarks: Callable[[], object] = lambda: [0, []],
    is_revised: Callable[[TokenStore], bool | None] | None = None,
) -> TokenStore:
    """Returns the store of an identity, written now if there is none.

    Where a reader has learned to read some rows in another way, `is_revised` keeps the stores of
    all others, and with them the fingerprints by which unfinished runs tell their data.

    Args:
        identity: All that decides what is in the store, as JSON values.
        batches: Called if it has to be written; gives the rows, see `row_batch`.
        files: The names of the files that the rows are of.
        folder: Where stores are kept; it is made if it is not there.
        progress: Called with the number of rows done. Defaults to `None`.
        remarks: Called after the last row: `[bad rows left out, the first of them, ...]`, and
            anything else to keep as `TokenStore.remarks`. Defaults to none left out.
        is_revised: Takes a store and tells whether its rows are others than earlier versions read
            of the same identity; its fingerprint is then another. `None` of a store that was
            written by such a version: it is written again. Defaults to `None`: all versions read
            the same rows.

    Raises:
        JobError: If the store cannot be written, for one because the disk is full.
    """
    path = Path(folder) / f"{_fingerprint(identity)}.arrow"

    def find() -> tuple[TokenStore | None, str | None]:
        store, damage = _open(path)
        by_earlier = store is not None and is_revised is not None and is_revised(store) is None
        return (None, damage) if by_earlier else (store, damage)

    store, damage = find()
    if store is None:
        shards.write_shards(path, batches, files, remarks)
        with _one_at_a_time(path.parent):
            # While this process waited, another may have made it.
            store, damage = find()
            if store is None:
                batches, remarks = shards.join_shards(path, files) or (batches, remarks)
                write_token_file(path, batches(), list(files), progress, remarks=remarks)
                shards.remove_shards(path)
                store = TokenStore(path, damage=damage)
    if is_revised is not None and is_revised(store):
        store.fingerprint = _fingerprint([identity, "revised"])
    return store


def _fingerprint(identity: object) -> str:
    return hashlib.sha256(json.dumps([_VERSION, identity]).encode()).hexdigest()


def row_batch(
    ids: np.ndarray,
    offsets: np.ndarray,
    file: int,
    lines: np.ndarray,
    *,
    columns: Mapping[str, pa.Array] | None = None,
    trained: np.ndarray | None = None,
) -> pa.RecordBatch:
    """Returns rows as a store holds them.

    Args:
        ids: int32, the ids of all rows, one after the other.
        offsets: int64 `[rows + 1]`, where each row begins and ends.
        file: The number of the file that they are of.
        lines: int64 `[rows]`, the line that each begins in.
        columns: What a task keeps of each row besides its tokens, by name: an Arrow array of a
            value for each row, of any type, such as `pa.string()`, `pa.int32()`, `pa.float32()`,
            or `pa.list_(pa.int32())` for classes, spans and further token ids. All batches of a
            store must have the same. Defaults to `None`: nothing.
        trained: uint8, 1 for each id that counts in the loss of a language model. Defaults to
            `None`: all.

    Raises:
        ValueError: If a column has another number of values than there are rows.

    Example:

    ```python
    row_batch(ids, offsets, 0, lines, columns={"stars": pa.array([4.5, 2.0], pa.float32())})
    ```
    """
    offsets = pa.array(offsets.astype(np.int32))
    arrays = [
        pa.ListArray.from_arrays(offsets, pa.array(ids)),
        pa.array(np.full(len(lines), file, np.int32)),
        pa.array(np.asarray(lines, np.int64)),
    ]
    fields = list(TOKEN_FIELDS)
    if trained is not None:
        arrays.append(pa.ListArray.from_arrays(offsets, pa.array(trained)))
        fields.append(TRAINED_FIELD)
    for name, values in (columns or {}).items():
        if len(values) != len(lines):
            raise ValueError(
                f"The column {name!r} must have a value for each row. Received: {len(values)} "
                f"values, {len(lines)} rows"
            )
        arrays.append(values)
        fields.append((COLUMN_PREFIX + name, values.type))
    return pa.record_batch(arrays, schema=pa.schema(fields))


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


def _encode(
    source: Source,
    tokenizer: Tokenizer,
    max_length: int,
    truncation: str,
    columns: Callable[[RowBatch], Mapping[str, pa.Array]],
) -> Iterator[pa.RecordBatch]:
    for batch in source.batches() if shards.mine() is None else source.batches(file=shards.mine()):
        kept = dict(columns(batch))
        pairs = getattr(batch, "pairs", None)
        if pairs is None:
            ids, offsets = tokenizer.encode(batch.texts, max_length)
        else:
            found = tokenizer.encode_pairs(batch.texts, pairs, max_length, truncation=truncation)
            ids, offsets = found.ids, found.offsets
            kept[SEGMENT_START] = pa.array(segment_starts_of(found.segments, offsets), pa.int32())
        yield row_batch(ids, offsets, batch.file, batch.lines, columns=kept)


def segment_starts_of(segments: np.ndarray, offsets: np.ndarray) -> np.ndarray:
    """Returns how many tokens of each row come before its second segment, int64 `[rows]`."""
    starts = np.diff(offsets)
    second = np.flatnonzero(segments)
    rows, first = np.unique(np.searchsorted(offsets, second, side="right") - 1, return_index=True)
    starts[rows] = second[first] - offsets[rows]
    return starts
