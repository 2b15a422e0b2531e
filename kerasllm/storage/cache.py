"""Files from elsewhere in the cache: whole or not there, checked, and resumed after a break."""

from __future__ import annotations

import contextlib
import contextvars
import errno
import fcntl
import hashlib
import json
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from kerasllm.environment import cache_dir
from kerasllm.errors import StorageError
from kerasllm.json_files import read_json_file

PIECE = 8 << 20
"""Bytes per request to an object store."""

_ATTEMPTS = 4
_PAUSE = 0.2
_OF_THIS_MACHINE = (errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EPERM, errno.EROFS)
_PART, _RECORD, _LOCK = ".part", ".record.json", ".lock"
_MOST_NAME = 100

Opened = tuple[Any, int]
"""A stream, and the place in the file that it begins at."""

_notify: contextvars.ContextVar[Callable[[str], None] | None] = contextvars.ContextVar(
    "notify", default=None
)
# Whose sha256 this process has checked: its name with its date.
_checked: set[tuple[str, int]] = set()


@contextlib.contextmanager
def told(notify: Callable[[str], None] | None) -> Iterator[None]:
    """Tells what is downloaded until the block ends.

    Args:
        notify: Called with a line of text.
    """
    token = _notify.set(notify)
    try:
        yield
    finally:
        _notify.reset(token)


def tell(line: str) -> None:
    """Tells the user what is being done."""
    if notify := _notify.get():
        notify(line)


def folder_of(address: str) -> Path:
    """Returns the folder in the cache that keeps the versions of a file."""
    return cache_dir() / "remote" / _short(address)


def kept(
    address: str,
    name: str,
    version: str,
    size: int | None,
    open_at: Callable[[int], Opened],
    notify: Callable[[str], None] = tell,
) -> Path:
    """Returns a file from the cache, where it is downloaded to if it is not there yet.

    A download that breaks is tried again from where it broke, also by the next process.

    Args:
        address: The address, without credentials.
        name: The name to give the file, which tells its format.
        version: What changes when the file does, such as its ETag.
        size: Its bytes, if they are known.
        open_at: Opens the file at a place, or at its beginning where that is not possible.
        notify: Called with a line of text before and while it is downloaded. Defaults to `tell`.

    Raises:
        OSError: It cannot be read.
        StorageError: The cache cannot be written.
    """
    folder = folder_of(address) / _short(version)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with _locked(folder):
            return _kept(folder, _safe(name), address, version, size, open_at, notify)
    except OSError as error:
        if error.errno not in _OF_THIS_MACHINE:
            raise
        raise StorageError(
            f"The cache cannot be written: {error.strerror}",
            where=str(cache_dir()),
            fix="free some space and make sure it is writable, or set KERASLLM_CACHE to another "
            "folder; what was downloaded is kept",
        ) from error


def _kept(
    folder: Path,
    name: str,
    address: str,
    version: str,
    size: int | None,
    open_at: Callable[[int], Opened],
    notify: Callable[[str], None],
) -> Path:
    file, part = folder / name, folder / _PART
    if is_whole(file):
        return file
    for attempt in range(1, _ATTEMPTS + 1):
        before = part.stat().st_size if part.exists() else 0
        try:
            _download(part, address, size, open_at, notify)
            break
        except OSError as error:
            after = part.stat().st_size if part.exists() else 0
            passes = after != before or _may_pass(error)
            if attempt == _ATTEMPTS or error.errno in _OF_THIS_MACHINE or not passes:
                raise
            pause(attempt)
    record = {
        "address": address,
        "version": version,
        "bytes": part.stat().st_size,
        "sha256": _sha256(part),
    }
    write_text(folder / _RECORD, json.dumps(record))
    os.replace(part, file)
    _checked.add((str(file), file.stat().st_mtime_ns))
    return file


def is_whole(file: Path) -> bool:
    """Whether a file of the cache is there and is what was downloaded."""
    try:
        record = read_json_file(file.parent / _RECORD)
        status = file.stat()
        if status.st_size != record["bytes"]:
            return False
        key = (str(file), status.st_mtime_ns)
        if key not in _checked and _sha256(file) != record["sha256"]:
            return False
        _checked.add(key)
        return True
    except (OSError, ValueError, KeyError, TypeError):
        return False


class BrokenDownload(OSError):
    """The other side ended before the file did."""


def _may_pass(error: OSError) -> bool:
    return isinstance(error, (BrokenDownload, ConnectionError, TimeoutError))


def _download(
    part: Path,
    address: str,
    size: int | None,
    open_at: Callable[[int], Opened],
    notify: Callable[[str], None],
) -> None:
    done = part.stat().st_size if part.exists() else 0
    if size is not None and done == size and done:
        return
    if size is not None and done > size:
        done = 0
    stream, at = open_at(done)
    with contextlib.closing(stream), open(part, "r+b" if at else "wb") as file:
        file.seek(at)
        file.truncate()
        shown = time.monotonic()
        notify(f"downloading {address}" + f", {size / 1e6:,.1f} MB" * bool(size))
        while block := stream.read(PIECE):
            file.write(block)
            at += len(block)
            if time.monotonic() - shown > 1:
                shown = time.monotonic()
                of = f" of {size / 1e6:,.1f}" if size else ""
                notify(f"downloading {address}: {at / 1e6:,.1f}{of} MB")
        file.flush()
        os.fsync(file.fileno())
    if size is not None and at != size:
        raise BrokenDownload(f"the download ended after {at:,} of {size:,} bytes")


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Keeps other processes and threads from downloading the same."""
    with open(folder / _LOCK, "w", encoding="utf-8") as file:
        # A file system without locks.
        with contextlib.suppress(OSError):
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _short(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:24]


def _safe(name: str) -> str:
    """A name that is one within a folder, and keeps its suffixes."""
    name = "".join(c if c.isalnum() or c in " ._-()[]+=,@" else "_" for c in name).lstrip(". ")
    return name[-_MOST_NAME:].lstrip(". ") or "file"


def _sha256(file: Path) -> str:
    with open(file, "rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def pause(attempt: int) -> None:
    """Waits before what may have passed is tried again, longer each time."""
    time.sleep(_PAUSE * 2**attempt)


def write_text(path: Path, text: str) -> None:
    """Writes a small file of the cache, whole or not at all."""
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    temporary.write_text(text, encoding="utf-8")
    os.replace(temporary, path)
