"""Compressed files: which they are, and their bytes as a stream."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import os
import zipfile
import zlib
from collections.abc import Callable, Mapping
from typing import Any, BinaryIO

from kerasllm.errors import DataError


def _zstandard(stream: BinaryIO) -> Any:
    import pyarrow

    return pyarrow.CompressedInputStream(stream, "zstd")


_OPENERS: Mapping[str, Callable[[BinaryIO], Any]] = {
    ".gz": lambda stream: gzip.GzipFile(fileobj=stream),
    ".zst": _zstandard,
    ".bz2": bz2.BZ2File,
    ".xz": lzma.LZMAFile,
}

MOST_TIMES = 200
"""How many times its size a packed file may unpack to, where that is above 256 MB."""

_UNPACKED_BYTES = 1 << 28

SUFFIXES = tuple(_OPENERS)
"""What the name of a compressed file ends in."""


DAMAGE = (EOFError, zlib.error, lzma.LZMAError, gzip.BadGzipFile, zipfile.BadZipFile)
"""What reading damaged bytes raises, beside `OSError`."""

CHECKS = {"gz": "gzip -t", "zst": "zstd -t", "bz2": "bzip2 -t", "xz": "xz -t", "zip": "unzip -t"}
"""The command that checks a compressed file, by its suffix."""


def split_name(name: str) -> tuple[str, str]:
    """Splits the name of a file into the name without compression and the suffix of it.

    Args:
        name: The name of a file, or its path.

    Returns:
        The lower-case name without the suffix of compression, and this suffix; `""` if there is
        none.

    Example:

    >>> split_name("Reviews.CSV.gz")
    ('reviews.csv', '.gz')
    """
    stem, suffix = os.path.splitext(name.lower())
    return (stem, suffix) if suffix in SUFFIXES else (name.lower(), "")


def unpacked(stream: BinaryIO, suffix: str) -> Any:
    """Returns a stream of the bytes that a compressed stream holds.

    Args:
        stream: The bytes as they are stored.
        suffix: One of `SUFFIXES`.
    """
    return _OPENERS[suffix](stream)


class Bounded(io.RawIOBase):
    """The bytes of a stream, as long as they are not many more than those that are stored.

    A file of a megabyte can unpack to a terabyte. Text of people is packed to a tenth, tables that
    repeat themselves to a hundredth.

    Args:
        stream: The unpacked bytes.
        stored: How many bytes they were unpacked from.
        name: The file, for messages.
    """

    def __init__(self, stream: Any, stored: int, name: str):
        self._stream = stream
        self._most = max(_UNPACKED_BYTES, MOST_TIMES * stored)
        self._done = 0
        self._name = name

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        """Reads into a buffer, as `io.RawIOBase`.

        Raises:
            DataError: If more than so many bytes come.
        """
        found = self._stream.read(len(buffer))
        buffer[: len(found)] = found
        self._done += len(found)
        if self._done > self._most:
            raise DataError(
                f"The file unpacks to more than {MOST_TIMES} times its size",
                where=self._name,
                fix="if this is expected, unpack it first",
            )
        return len(found)


def is_damage(error: Exception) -> bool:
    """Whether an error says that compressed bytes are damaged, and not that reading them failed."""
    if isinstance(error, DAMAGE):
        return True
    # bz2 and Arrow raise OSErrors too, without the number that the system's own have.
    return isinstance(error, OSError) and error.errno is None
