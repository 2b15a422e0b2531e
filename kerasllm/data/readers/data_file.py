"""One file of data on this machine: its bytes, plain or unpacked."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import io
import json
import os
import stat
from collections.abc import Iterator, Mapping
from typing import IO, Any

from kerasllm.data.readers import archives, compression
from kerasllm.errors import DataError

BLOCK = 1 << 20
"""Bytes that are read at a time: 1 MB."""


@dataclasses.dataclass(frozen=True)
class DataFile:
    """One file on this machine; one from elsewhere was downloaded into the cache.

    Args:
        name: The name that messages show: the path, the address, or `starter:NAME/PART`.
        path: The path.
        label_names: What the labels mean, where the file is a bundled one. Defaults to `None`.
        member: The member that is meant, where the path is that of a zip archive. Defaults to
            `None`.
        encoding: The encoding of its text. Defaults to `None`: UTF-8.
        delimiter: What separates the fields of a csv or tsv file. Defaults to `None`: detected.
        label: The class of all its texts, where it is a folder of a class. Defaults to `None`.
        members: The files of a folder of a class, a text each. Defaults to `()`.
        partitions: Columns that its folders name (`label=pos/part-0.csv`), and their values.
            Defaults to none.
    """

    name: str
    path: str
    label_names: Mapping[str, str] | None = None
    member: str | None = None
    encoding: str | None = None
    delimiter: str | None = None
    label: str | None = None
    members: tuple[DataFile, ...] = ()
    partitions: Mapping[str, str | None] = dataclasses.field(default_factory=dict)

    @property
    def compression(self) -> str:
        """The lower-case suffix of compression, without its dot: `gz`; `""` of a plain file."""
        if self.members:
            return ""
        return compression.split_name(self.member or self.path)[1].removeprefix(".")

    @property
    def compressed(self) -> bool:
        """Whether the bytes must be unpacked before they can be read at any position."""
        return bool(self.compression or self.member)

    @property
    def suffix(self) -> str:
        """The lower-case suffix, without that of compression: `.csv`."""
        return os.path.splitext(compression.split_name(self.member or self.path)[0])[1]

    def open(self) -> IO[bytes]:
        """Opens the bytes as they are stored; they can be read at any position.

        Raises:
            DataError: The file cannot be opened.
        """
        try:
            if self.member is not None:
                return archives.open_member(self.path, self.name, self.member)
            if not stat.S_ISREG(os.stat(self.path).st_mode):
                # Opening a pipe blocks until another process writes to it.
                raise DataError(
                    "This is a pipe or a device, not a file; data is read more than once",
                    where=self.name,
                    fix="write the data to a file first",
                )
            return open(self.path, "rb", buffering=BLOCK)
        except OSError as error:
            raise DataError(
                f"The file cannot be opened: {error.strerror or error}",
                where=self.name,
                fix="check that it exists and that you may read it",
            ) from error

    @contextlib.contextmanager
    def open_unpacked(self) -> Iterator[io.BufferedReader]:
        """Opens the bytes for reading in order, and unpacks them if the name says so."""
        with contextlib.ExitStack() as stack:
            stream: Any = stack.enter_context(self.open())
            if self.compression:
                packed = compression.unpacked(stream, f".{self.compression}")
                stream = stack.enter_context(packed)
            if self.compressed:
                # Of a member of an archive no more is known than the size of the archive.
                stored = os.stat(self.path).st_size
                stream = stack.enter_context(compression.Bounded(stream, stored, self.name))
            if not isinstance(stream, io.BufferedReader):
                stream = stack.enter_context(io.BufferedReader(stream, BLOCK))
            yield stream

    def sha256(self) -> str:
        """Returns the sha256, in hex, of the bytes as they are stored.

        Raises:
            DataError: They cannot be read.
        """
        if self.members:
            read = [self.label, *(member.sha256() for member in self.members)]
            return hashlib.sha256(json.dumps(read).encode()).hexdigest()
        try:
            opened: Any = self.open()
            with opened as stream:
                return hashlib.file_digest(stream, "sha256").hexdigest()
        except (OSError, *compression.DAMAGE) as error:
            raise DataError(
                f"Reading failed: {getattr(error, 'strerror', None) or error}",
                where=self.name,
                fix="check the disk or the network, then try again",
            ) from error
