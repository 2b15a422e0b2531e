"""The file of a token store: written whole or not at all, and checked when it is opened."""

from __future__ import annotations

import contextlib
import errno
import io
import itertools
import json
import mmap
import os
import uuid
import weakref
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa

from kerasllm.data.readers.data_file import BLOCK
from kerasllm.errors import JobError
from kerasllm.json_files import parse_json

TOKEN_FIELDS = (("token_ids", pa.list_(pa.int32())), ("file", pa.int32()), ("line", pa.int64()))
TRAINED_FIELD = ("trained", pa.list_(pa.uint8()))
# The columns of a task: their own names follow.
COLUMN_PREFIX = "column:"

# An Arrow file is a stream of messages between these two, with a table of contents after it.
_STREAM_START = 8
_MAGIC = b"ARROW1"

_HEAD = b"kerasllm_tokens"
# The last batch has no rows. Its metadata says how many bytes come before it, their CRC-32, and
# that of the remarks, which come after them.
_SEAL_SIZE = b"size"
_SEAL_CHECKSUM = b"crc32"
_SEAL_REMARKS = b"remarks"
_SEAL_REMARKS_CHECKSUM = b"remarks_crc32"


class DamagedFileError(ValueError):
    """A file is not the whole, unchanged token file that it should be."""


def write_token_file(
    path: Path,
    batches: Iterator[pa.RecordBatch],
    files: list[str],
    progress: Callable[[int], None] | None = None,
    remarks: Callable[[], object] = dict,
) -> None:
    """Writes record batches to an Arrow file, as they come.

    The file gets its name when it is whole and on the disk; until then it has a name that nobody
    else uses, so that several processes may write the same file at once. If anything fails,
    nothing is left.

    Args:
        path: The file, `FINGERPRINT.arrow`.
        batches: Batches of `TOKEN_FIELDS`; then of `TRAINED_FIELD` and of the task's columns, if
            there are any.
        files: The names of the files that the column `file` counts.
        progress: Called with the number of rows written, after each batch. Defaults to `None`.
        remarks: Called after the last batch; gives a JSON value to keep with the rows. Defaults to
            `dict`, an empty one.

    Raises:
        JobError: If the file cannot be written.
    """
    with _as_job_error(path.parent):
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f"{path.stem}.{uuid.uuid4().hex}.tmp")
        file = _SummingWriter(open(temporary, "xb", buffering=0))
    try:
        _write_batches(file, path, batches, files, progress, remarks)
        with _as_job_error(path.parent):
            file.flush()
            os.fsync(file.fileno())
            file.close()
            os.replace(temporary, path)
    except BaseException:
        # Closing writes what is still held back, which fails again on a full disk.
        with contextlib.suppress(OSError):
            file.close()
        temporary.unlink(missing_ok=True)
        raise


class MappedFile:
    """A file that is mapped into memory, and from which pieces can be read.

    Pages of the map that were looked at count as memory of the process until `let_go`; what is read
    by `pieces` never does.

    Args:
        path: The file, not empty.

    Attributes:
        content: The mapped bytes.
    """

    def __init__(self, path: str | os.PathLike):
        file = open(path, "rb", buffering=0)
        weakref.finalize(self, file.close)
        self._file = file
        self._map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        self.content = pa.py_buffer(self._map)

    def pieces(self, starts: np.ndarray, sizes: np.ndarray) -> bytes:
        """Returns pieces of the file, one after the other, by their first bytes and their sizes."""
        file = self._file.fileno()
        # As lists: Python's own numbers are quicker to go through.
        return b"".join(
            os.pread(file, size, start) for start, size in zip(starts.tolist(), sizes.tolist())
        )

    def let_go(self) -> None:
        """Counts no page as this process' memory any more; what is looked at again comes back."""
        self._map.madvise(mmap.MADV_DONTNEED)


def read_token_file(
    path: Path,
) -> tuple[MappedFile, pa.Schema, list[pa.RecordBatch], list[str], object]:
    """Maps a token file into memory and checks all of it.

    Args:
        path: The file, `FINGERPRINT.arrow`.

    Returns:
        The mapped file, its schema, its batches that have rows (whose buffers lie in the mapped
        file), the names of the files that the column `file` counts, and the remarks.

    Raises:
        DamagedFileError: If the file is truncated, was changed, or is another file.
    """
    try:
        mapped = MappedFile(path)
        schema, batches, remarks = _checked_batches(path, mapped.content)
        facts = parse_json(schema.metadata[_HEAD])
        if facts["fingerprint"] != path.stem:
            raise DamagedFileError(f"it holds the tokens of {facts['fingerprint']}")
    # A changed byte can make Arrow fail in many ways, and all of them mean the same.
    except (pa.ArrowException, OSError, ValueError, KeyError) as error:
        raise DamagedFileError(f"{path}: {error}") from error
    return mapped, schema, batches, facts["files"], remarks


def _checked_batches(
    path: Path, content: pa.Buffer
) -> tuple[pa.Schema, list[pa.RecordBatch], object]:
    """Reads the batches one after the other, so that nothing that the seal does not cover (the
    table of contents at the end) can lead astray."""
    if content.size < len(_MAGIC) or content[-len(_MAGIC) :].to_pybytes() != _MAGIC:
        raise DamagedFileError("the file is truncated")
    reader = pa.ipc.open_stream(content[_STREAM_START:])
    batches = []
    while True:
        try:
            batch, seal = reader.read_next_batch_with_custom_metadata()
        except StopIteration:
            raise DamagedFileError("the file has no seal") from None
        if seal is not None:
            break
        if len(batch):
            batches.append(batch)
    if seal[_SEAL_CHECKSUM] != b"%08x" % _crc32(path, int(seal[_SEAL_SIZE])):
        raise DamagedFileError("the content does not match the checksum")
    remarks = seal[_SEAL_REMARKS]
    # Files of earlier versions have no checksum of the remarks.
    if seal.get(_SEAL_REMARKS_CHECKSUM, checksum := b"%08x" % zlib.crc32(remarks)) != checksum:
        raise DamagedFileError("the remarks do not match their checksum")
    return reader.schema, batches, parse_json(remarks)


def _crc32(path: Path, size: int) -> int:
    """Returns the CRC-32 of the first bytes of a file."""
    total = 0
    # Read, not mapped: no byte of it stays in memory.
    with open(path, "rb", buffering=0) as file:
        while size > 0 and (block := file.read(min(size, BLOCK))):
            total = zlib.crc32(block, total)
            size -= len(block)
    return total


class _SummingWriter(io.BufferedWriter):
    """A file that knows the CRC-32 of what was written to it."""

    crc32 = 0

    def write(self, data: bytes | memoryview) -> int:
        self.crc32 = zlib.crc32(data, self.crc32)
        return super().write(data)


def _write_batches(
    file: _SummingWriter,
    path: Path,
    batches: Iterator[pa.RecordBatch],
    files: list[str],
    progress: Callable[[int], None] | None,
    remarks: Callable[[], object],
) -> None:
    # The first batch has the columns of all.
    first = list(itertools.islice(batches, 1))
    head = json.dumps({"fingerprint": path.stem, "files": files})
    schema = pa.schema(first[0].schema if first else TOKEN_FIELDS, metadata={_HEAD: head})
    with _as_job_error(path.parent):
        writer = pa.ipc.new_file(file, schema)
    rows = 0
    for batch in itertools.chain(first, batches):
        # Only what writes: an `OSError` of a source is about another file.
        with _as_job_error(path.parent):
            writer.write_batch(batch)
        rows += len(batch)
        if progress:
            progress(rows)
    with _as_job_error(path.parent):
        # Only now is known what a whole file holds: it ends with an empty batch that says so.
        kept = json.dumps(remarks()).encode()
        seal = {
            _SEAL_SIZE: b"%d" % file.tell(),
            _SEAL_CHECKSUM: b"%08x" % file.crc32,
            _SEAL_REMARKS: kept,
            _SEAL_REMARKS_CHECKSUM: b"%08x" % zlib.crc32(kept),
        }
        writer.write_batch(pa.RecordBatch.from_pylist([], schema=schema), custom_metadata=seal)
        writer.close()


@contextlib.contextmanager
def _as_job_error(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            what, fix = "There is no space left for the token ids of the data", "free some space"
        else:
            what = f"The token ids of the data cannot be written: {error.strerror or error}"
            fix = "make the folder writable"
        raise JobError(
            what,
            where=str(folder),
            fix=f"{fix}, or set KERASLLM_CACHE to a folder on another disk",
        ) from error
