"""Token stores that several processes make together: a shard for each file, then all joined.

`kerasllm data prepare` starts the processes (see `kerasllm.workflows.prepare`). Each of them loads
the same data as a training would, and when it comes to the store that is wanted, it writes shards
of its own files and goes no further. Shards that are there already are kept, so that what was
broken off is continued. The store that is joined from them is the one that a training would make.
"""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pyarrow as pa

from kerasllm.data.token_file import DamagedFileError, read_token_file, write_token_file

Make = Callable[[str, Sequence[int]], None]
"""Lets other processes write the shards of a store, by its fingerprint and the files' numbers."""

# What this process is for: in a worker the store and the files that it writes shards of.
_wanted: tuple[str, tuple[int, ...]] | None = None
_mine: int | None = None
_make: Make | None = None
# As many of the first bad rows as a store keeps.
_BAD_ROWS = 10


class ShardsWritten(Exception):
    """Raised in a worker that has written its shards."""


@contextlib.contextmanager
def made_by(make: Make) -> Iterator[None]:
    """Within the block, stores of several files are made by other processes."""
    global _make
    _make = make
    try:
        yield
    finally:
        _make = None


@contextlib.contextmanager
def writing(fingerprint: str, files: Sequence[int]) -> Iterator[None]:
    """Within the block, this process is a worker, which writes the shards of some files.

    Args:
        fingerprint: That of the store.
        files: The numbers of the files.
    """
    global _wanted
    _wanted = fingerprint, tuple(files)
    try:
        yield
    except ShardsWritten:
        pass
    finally:
        _wanted = None


def mine() -> int | None:
    """Returns the number of the only file that a reader is to read; `None`: all."""
    return _mine


def write_shards(
    path: Path,
    batches: Callable[[], Iterator[pa.RecordBatch]],
    files: Sequence[str],
    remarks: Callable[[], object],
) -> None:
    """Writes the shards of a store, if this process is a worker that was started for it.

    Args:
        path: The file of the store.
        batches: Gives the rows of the file that `mine` names.
        files: The names of all files.
        remarks: What there is to say after the last of these rows.

    Raises:
        ShardsWritten: When they are written.
    """
    global _mine
    if _wanted is None or _wanted[0] != path.stem:
        return
    for number in _wanted[1]:
        _mine = number
        try:
            write_token_file(_shard(path, number), batches(), list(files), remarks=remarks)
        finally:
            _mine = None
    raise ShardsWritten


def join_shards(
    path: Path, files: Sequence[str]
) -> tuple[Callable[[], Iterator[pa.RecordBatch]], Callable[[], object]] | None:
    """Has other processes write the shards of a store, if there are any, and joins them.

    Args:
        path: The file of the store.
        files: The names of its files.

    Returns:
        The rows of all shards, and what there is to say of them; `None` where this process makes
        stores by itself.
    """
    if _make is None or len(files) < 2:
        return None
    missing = [number for number in range(len(files)) if _read(path, number) is None]
    if missing:
        _make(path.stem, missing)
    told: list[object] = []

    def batches() -> Iterator[pa.RecordBatch]:
        for number in range(len(files)):
            found = _read(path, number)
            if found is None:
                raise DamagedFileError(f"{_shard(path, number)} no longer exists")
            mapped, shard_batches, remarks = found
            told.append(remarks)
            yield from shard_batches
            mapped.let_go()

    return batches, lambda: _together(told)


def remove_shards(path: Path) -> None:
    """Removes the shards of a store that is whole."""
    shutil.rmtree(_folder(path), ignore_errors=True)


def count_shards(folder: Path, fingerprint: str) -> int:
    """Returns how many shards of a store are written, in the folder of the stores."""
    return len(list(_folder(folder / f"{fingerprint}.arrow").glob("*.arrow")))


def _folder(path: Path) -> Path:
    return path.with_name(f"{path.stem}.shards")


def _shard(path: Path, number: int) -> Path:
    return _folder(path) / f"{number}.arrow"


def _read(path: Path, number: int):
    try:
        mapped, _, batches, _, remarks = read_token_file(_shard(path, number))
    except DamagedFileError:
        return None
    return mapped, batches, remarks


def _together(remarks: Sequence) -> object:
    """Returns what there is to say of all files, by what there is to say of each."""
    count, bad_rows, *others = (_sum(each) for each in zip(*remarks, strict=True))
    return [count, bad_rows[:_BAD_ROWS], *others]


def _sum(values: Sequence) -> object:
    first = values[0]
    if isinstance(first, bool):
        return any(values)
    if isinstance(first, list):
        return [
            one
            for number, each in enumerate(values)
            for one in each
            if not any(one in other for other in values[:number])
        ]
    if isinstance(first, dict):
        keys = dict.fromkeys(key for each in values for key in each)
        return {key: _sum([each[key] for each in values if key in each]) for key in keys}
    return sum(values) if isinstance(first, (int, float)) else first
