"""From what a user writes (a path, a glob, an address, a bundled name) to files of bytes."""

from __future__ import annotations

import contextlib
import dataclasses
import difflib
import fnmatch
import glob
import gzip
import io
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, BinaryIO

from kerasllm.data import starters
from kerasllm.data.tables import shown_name
from kerasllm.errors import DataError

BLOCK = 1 << 20
"""Bytes that are read at a time: 1 MB."""

REMOTE = ("s3", "gs", "hdfs", "file")
"""The schemes of addresses that pyarrow's file systems open here."""

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+)://")


@dataclasses.dataclass(frozen=True)
class DataFile:
    """One file, here or on a remote file system.

    Args:
        name: The name that messages show: the path, the address, or `starter:NAME/PART`.
        path: The path within its file system.
        filesystem: A `pyarrow.fs.FileSystem`. Defaults to `None`: this machine's own.
        label_names: What the labels mean, where the file is a bundled one. Defaults to `None`.
        encoding: The encoding of its text. Defaults to `None`: UTF-8.
    """

    name: str
    path: str
    filesystem: Any = None
    label_names: Mapping[str, str] | None = None
    encoding: str | None = None

    @property
    def compressed(self) -> bool:
        """Whether the name ends in .gz."""
        return self.path.lower().endswith(".gz")

    @property
    def suffix(self) -> str:
        """The lower-case suffix, without .gz: `.csv`."""
        path = self.path.lower().removesuffix(".gz")
        return os.path.splitext(path)[1]

    def open(self) -> BinaryIO:
        """Opens the bytes as they are stored; they can be read at any position.

        Raises:
            DataError: The file cannot be opened.
        """
        try:
            if self.filesystem is None:
                return open(self.path, "rb", buffering=BLOCK)
            return self.filesystem.open_input_file(self.path)
        except OSError as error:
            raise DataError(
                f"The file cannot be opened: {error.strerror or error}",
                where=self.name,
                fix="check that it exists and that you may read it",
            ) from error

    @contextlib.contextmanager
    def open_unpacked(self) -> Iterator[BinaryIO]:
        """Opens the bytes for reading in order, and unpacks them if the name ends in .gz."""
        with contextlib.ExitStack() as stack:
            stream = stack.enter_context(self.open())
            if self.compressed:
                stream = stack.enter_context(gzip.GzipFile(fileobj=stream))
            if not isinstance(stream, io.BufferedReader):
                stream = stack.enter_context(io.BufferedReader(stream, BLOCK))
            yield stream


def read_as(files: Sequence[DataFile], encoding: str | None) -> list[DataFile]:
    """Returns files whose text is read in an encoding; `None` leaves them as they are."""
    if encoding is None:
        return list(files)
    return [dataclasses.replace(file, encoding=encoding) for file in files]


def find_files(spec: str | os.PathLike | Sequence[str | os.PathLike], split: str) -> list[DataFile]:
    """Finds the files that a spec means.

    Args:
        spec: A path, a glob (`*`, `?`, `[...]`, `**`), an address (`s3://`, `gs://`, `hdfs://`,
            `file://`, with `*`, `[...]` and `**`), `starter:NAME`, or a sequence of these.
        split: `"train"`, `"validation"` or `"test"`: the part of a bundled data set.

    Returns:
        The files: specs in the order given, the files of one glob sorted by name.

    Raises:
        DataError: A spec that is no file, matches none, or gives a file a second time.
    """
    specs = [spec] if isinstance(spec, (str, os.PathLike)) else list(spec)
    if not specs or not all(os.fspath(one) for one in specs):
        raise DataError("No data file is given", fix="give a file, a glob, or starter:NAME")
    files = [file for one in specs for file in _find(os.fspath(one), split)]
    seen = set()
    for file in files:
        place = os.path.realpath(file.path) if file.filesystem is None else file.name
        if place in seen:
            raise DataError(
                "The same file is given twice, which would train on its rows twice",
                where=file.name,
                fix="name each file once; a glob beside it may match it too",
            )
        seen.add(place)
    return files


def _find(spec: str, split: str) -> list[DataFile]:
    if spec.startswith(starters.PREFIX):
        name, path, label_names = starters.find_starter(spec, split)
        return [DataFile(name, str(path), label_names=label_names)]
    scheme = _SCHEME.match(spec)
    if scheme:
        return _find_remote(spec, scheme[1].lower())
    return _find_local(os.path.expanduser(spec))


def _find_local(path: str) -> list[DataFile]:
    if os.path.isfile(path):
        return [DataFile(shown_name(path), path)]
    if os.path.isdir(path):
        raise _directory(path)
    if os.path.exists(path):
        raise DataError(
            "This is a pipe or a device, not a file; data is read more than once",
            where=path,
            fix="write the data to a file first",
        )
    if any(character in path for character in "*?["):
        matches = sorted(filter(os.path.isfile, glob.glob(path, recursive=True)))
        if not matches:
            raise _no_match(path)
        return [DataFile(match, match) for match in matches]
    folder = os.path.dirname(path) or "."
    if not os.path.isdir(folder):
        raise DataError(
            "The file does not exist, nor does its folder",
            where=path,
            fix=f"paths start from the current folder, {os.getcwd()}",
        )
    near = difflib.get_close_matches(os.path.basename(path), os.listdir(folder), n=1, cutoff=0.7)
    raise DataError(
        "The file does not exist",
        where=path,
        fix=f"did you mean {os.path.join(os.path.dirname(path), near[0])}?"
        if near
        else "check the name; a bundled data set is written starter:NAME",
    )


def _find_remote(uri: str, scheme: str) -> list[DataFile]:
    if scheme not in REMOTE:
        raise DataError(
            f"Addresses that start with {scheme}:// cannot be read",
            where=uri,
            fix=f"download the file first, or use {', '.join(f'{one}://' for one in REMOTE)}",
        )
    import pyarrow
    from pyarrow import fs

    # What follows "?" in an address is options of the file system (`?region=eu-west-1`).
    address, mark, options = uri.partition("?")
    magic = re.search(r"[*\[]", address)
    base = address[: address.rindex("/", 0, magic.start()) + 1] if magic else address
    try:
        filesystem, path = fs.FileSystem.from_uri(base + mark + options)
        if magic:
            path = path.rstrip("/")
            found = _match_remote(filesystem, path, address[len(base) :])
            if not found:
                raise _no_match(uri)
            return [DataFile(base + inner, f"{path}/{inner}", filesystem) for inner in found]
        kind = filesystem.get_file_info([path])[0].type
    except (OSError, pyarrow.ArrowException) as error:
        raise DataError(
            f"The address cannot be opened: {str(error).splitlines()[0]}",
            where=uri,
            fix="check the address, the network and the credentials "
            "(a space is written %20 in an address)",
        ) from error
    if kind == fs.FileType.Directory:
        raise _directory(uri)
    if kind != fs.FileType.File:
        raise DataError("The file does not exist", where=uri, fix="check the address")
    return [DataFile(uri, path, filesystem)]


def _match_remote(filesystem: Any, folder: str, pattern: str) -> list[str]:
    """The files under a folder that match, as paths relative to it."""
    from pyarrow import fs

    selector = fs.FileSelector(folder, allow_not_found=True, recursive="/" in pattern)
    paths = (
        info.path[len(folder) + 1 :]
        for info in filesystem.get_file_info(selector)
        if info.type == fs.FileType.File
    )
    return sorted(path for path in paths if _matches(path.split("/"), pattern.split("/")))


def _matches(parts: list[str], pattern: list[str]) -> bool:
    if not pattern:
        return not parts
    if pattern[0] == "**":
        return any(_matches(parts[skip:], pattern[1:]) for skip in range(len(parts) + 1))
    return (
        bool(parts)
        and fnmatch.fnmatchcase(parts[0], pattern[0])
        and _matches(parts[1:], pattern[1:])
    )


def _directory(name: str) -> DataError:
    return DataError(
        "This is a directory, not a data file",
        where=name,
        fix=f"name the files, for example '{name.rstrip('/')}/*.csv'",
    )


def _no_match(pattern: str) -> DataError:
    return DataError(
        "The pattern matches no file",
        where=pattern,
        fix="check the folder and the suffix; `**/` reaches into sub-folders",
    )
