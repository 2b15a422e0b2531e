"""Compressed files: which they are, and their bytes as a stream."""

from __future__ import annotations

import bz2
import gzip
import lzma
import os
import zipfile
import zlib
from collections.abc import Callable, Mapping
from typing import Any, BinaryIO


def _zstandard(stream: BinaryIO) -> Any:
    import pyarrow

    return pyarrow.CompressedInputStream(stream, "zstd")


_OPENERS: Mapping[str, Callable[[BinaryIO], Any]] = {
    ".gz": lambda stream: gzip.GzipFile(fileobj=stream),
    ".zst": _zstandard,
    ".bz2": bz2.BZ2File,
    ".xz": lzma.LZMAFile,
}

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


def is_damage(error: Exception) -> bool:
    """Whether an error says that compressed bytes are damaged, and not that reading them failed."""
    if isinstance(error, DAMAGE):
        return True
    # bz2 and Arrow raise OSErrors too, without the number that the system's own have.
    return isinstance(error, OSError) and error.errno is None
