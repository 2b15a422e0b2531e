"""From what a user writes (a path, a glob, an address, a bundled name) to files of bytes."""

from __future__ import annotations

import dataclasses
import difflib
import fnmatch
import glob
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from kerasllm.addresses import (
    WEB,
    Address,
    forget_credentials,
    is_address,
    take_credentials,
    with_credentials,
)
from kerasllm.data import starters
from kerasllm.data.readers import archives, compression, folders
from kerasllm.data.readers.data_file import DataFile
from kerasllm.data.tables import shown_name
from kerasllm.errors import DataError, StorageError
from kerasllm.languages import LANGUAGES
from kerasllm.storage import Place, fetch_all, open_place

Spec = str | os.PathLike | DataFile | Sequence[str | os.PathLike | DataFile]
"""What names files; see `find_files`."""


class FoundFiles(list[DataFile]):
    """The files that a spec means.

    Attributes:
        remarks: What a user should know of how they were found, such as what was left out.
    """

    def __init__(self, files: Iterable[DataFile] = (), remarks: Iterable[str] = ()):
        super().__init__(files)
        self.remarks = list(remarks)


def read_as(
    spec: Spec,
    split: str,
    *,
    encoding: str | None = None,
    delimiter: str | None = None,
    preferred: str | None = None,
    classes: bool | None = None,
) -> Spec:
    """Returns what stands for files that are read in an encoding, with a delimiter.

    Args:
        spec: As for `find_files`.
        split: As for `find_files`.
        encoding: The encoding of their text. Defaults to `None`: UTF-8.
        delimiter: Field delimiter of csv and tsv files. Defaults to `None`: detected.
        preferred: As for `find_files`. Defaults to `None`.
        classes: As for `find_files`. Defaults to `None`.

    Returns:
        The spec itself where nothing is said of its files, else the files.
    """
    if encoding is None and delimiter is None:
        return spec
    files = find_files(spec, split, preferred=preferred, classes=classes)
    named = (dataclasses.replace(file, encoding=encoding, delimiter=delimiter) for file in files)
    return FoundFiles(named, files.remarks)


def find_files(
    spec: Spec,
    split: str,
    *,
    preferred: str | None = None,
    classes: bool | None = None,
) -> FoundFiles:
    """Finds the files that a spec means.

    A folder means all files in it and below, which must be of one kind; so does a zip archive.
    Hidden files and folders (`.git`, `__MACOSX`, `_SUCCESS`) are left out, of globs too. Where all
    files of a folder name a split in their paths, those of the requested split are taken.
    A folder with a folder of texts for each class (`pos/*.txt`, `neg/*.txt`) gives a file for each
    class.

    Args:
        spec: A path, a folder, a glob (`*`, `?`, `[...]`, `**`), an address (`s3://`, `gs://`,
            `hdfs://`, `abfs://`, `file://`, `hf://datasets/`, with `*`, `[...]` and `**`, and
            `https://`), `starter:NAME`, a file that was found before, or a sequence of these.
        split: `"train"`, `"validation"` or `"test"`: the part of a bundled data set, or of a
            folder.
        preferred: The kind of files that is taken of a folder that holds several; see
            `folders.KINDS`. Defaults to `None`: such a folder is refused.
        classes: Whether a folder of texts for each class gives a file for each class. Defaults to
            `None`: unless a kind is preferred.

    Returns:
        The files: specs in the order given, the files of one glob or folder sorted by name.

    Raises:
        DataError: A spec that is not a file, matches none, or gives a file a second time.
    """
    specs = [spec] if isinstance(spec, (str, os.PathLike, DataFile)) else list(spec)
    if not specs or not all(isinstance(one, DataFile) or os.fspath(one) for one in specs):
        raise DataError("No data file was given", fix="give a file, a glob, or starter:NAME")
    wanted = _Wanted(split, preferred, preferred is None if classes is None else classes)
    files = FoundFiles()
    for one in specs:
        if isinstance(one, DataFile):
            files.append(one)
            continue
        found = _find(os.fspath(one), wanted)
        files += found
        files.remarks += found.remarks
    seen = set()
    for file in files:
        place = (os.path.realpath(file.path), file.member)
        if place in seen:
            raise DataError(
                "The same file is given twice, which would train on its rows twice",
                where=file.name,
                fix="name each file once; a glob may match it as well",
            )
        seen.add(place)
    return files


class _Wanted(NamedTuple):
    """What is wanted of a folder: see `find_files`."""

    split: str
    preferred: str | None
    classes: bool


def _find(spec: str, wanted: _Wanted) -> FoundFiles:
    if spec.startswith(starters.PREFIX):
        name, path, label_names = starters.find_starter(spec, wanted.split)
        return FoundFiles([DataFile(name, str(path), label_names=label_names)])
    if is_address(spec):
        return _find_remote(spec, wanted)
    return _find_local(os.path.expanduser(spec), wanted)


def _find_local(path: str, wanted: _Wanted) -> FoundFiles:
    if os.path.isfile(path):
        return _opened_archives([path], wanted)
    if os.path.isdir(path):
        chosen, remarks = folders.choose(_names_below(path), wanted.split, path, wanted.preferred)
        files = {
            name: DataFile(one, one, partitions=folders.partitions_below(path, name))
            for name, one in zip(chosen, _below(path, chosen))
        }
        return _read_as_one(files, wanted, remarks)
    if os.path.exists(path):
        raise DataError(
            "This is a pipe or a device, not a file; data is read more than once",
            where=path,
            fix="write the data to a file first",
        )
    if os.path.islink(path):
        raise DataError(
            f"This is a link to {os.readlink(path)!r}, which does not exist",
            where=path,
            fix="name the file itself",
        )
    if magic := re.search(r"[*?\[]", path):
        folder = path[: path.rfind("/", 0, magic.start()) + 1]
        matches = dict.fromkeys(_expanded(path))
        names = [match[len(folder) :] for match in matches if os.path.isfile(match)]
        kept, hidden = folders.without_hidden(names, path[len(folder) :])
        if not kept:
            raise _no_match(path, hidden)
        paths = [folder + name for name in kept]
        found = _opened_archives(paths, wanted, below=(folder, kept))
        found.remarks += folders.left_out(hidden, "hidden")
        return found
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


def _read_as_one(
    files: Mapping[str, DataFile], wanted: _Wanted, remarks: Iterable[str]
) -> FoundFiles:
    """The files of a folder by their paths in it; or the folders of its classes, each a file whose
    members are its texts."""
    classes, beside = folders.by_class(list(files)) if wanted.classes else ({}, [])
    if not classes:
        return FoundFiles(files.values(), remarks)
    found = FoundFiles(remarks=[*remarks, *folders.left_out(beside, "other")])
    for label, names in sorted(classes.items()):
        members = tuple(files[name] for name in names)
        start = members[0].name.rpartition(names[0])[0]
        folder = start + os.path.commonpath([os.path.dirname(name) for name in names])
        found.append(DataFile(folder, folder, label=label, members=members))
    return found


def _opened_archives(
    paths: Iterable[str],
    wanted: _Wanted,
    names: Iterable[str] | None = None,
    below: tuple[str, Sequence[str]] | None = None,
) -> FoundFiles:
    """The files; of a zip archive those in it. A glob found them below a folder, by these names."""
    found = FoundFiles()
    paths = list(paths)
    folder, inner = below or ("", [""] * len(paths))
    shown = names or map(shown_name, paths)
    for path, name, within in zip(paths, shown, inner, strict=True):
        if not path.lower().endswith(archives.SUFFIX):
            columns = folders.partitions_below(folder, within)
            found.append(DataFile(name, path, partitions=columns))
            continue
        chosen, remarks = archives.members(path, name, wanted.split, wanted.preferred)
        members = {
            member: DataFile(
                f"{name}/{member}",
                path,
                member=member,
                partitions=folders.partitions_below("", member),
            )
            for member in chosen
        }
        archive = _read_as_one(members, wanted, remarks)
        found += archive
        found.remarks += archive.remarks
    return found


def _expanded(pattern: str) -> Iterator[str]:
    """Yields what a pattern matches; `**` enters each folder once, however many links lead to it.

    Where two links lead up, a search that follows them as they are meets 2^40 folders.
    """
    if f"/{pattern}".endswith("/**"):
        pattern += "/*"
    before, stars, after = f"/{pattern}".partition("/**/")
    if not stars:
        yield from glob.iglob(pattern, include_hidden=True)
        return
    for top in glob.glob(before[1:], include_hidden=True) if before.strip("/") else [before]:
        for place in _folders(top):
            yield from _expanded(os.path.join(glob.escape(place), after))


def _folders(top: str) -> Iterator[str]:
    """Yields a folder and those below it, with those that links lead to, each by one path."""
    waiting, seen = [top], set()
    while waiting:
        for place, inner, _ in os.walk(waiting.pop(0) or os.curdir):
            real = os.path.realpath(place)
            if real in seen:
                inner.clear()
                continue
            seen.add(real)
            here = place if top else os.path.relpath(place)
            yield "" if here == os.curdir and not top else here
            paths = [os.path.join(place, name) for name in sorted(inner)]
            waiting += [path for path in paths if os.path.islink(path)]


def _names_below(folder: str) -> list[str]:
    """The paths of all files below a folder, relative to it; a hidden folder is one name."""
    names = []
    for place, inner, files in os.walk(folder):
        start = os.path.relpath(place, folder).replace(os.sep, "/") + "/"
        start = "" if start == "./" else start
        names += [start + name for name in files]
        names += [f"{start}{name}/" for name in inner if folders.is_hidden(name)]
        inner[:] = [name for name in inner if not folders.is_hidden(name)]
    return names


def _below(folder: str, names: Iterable[str]) -> list[str]:
    return [os.path.join(folder, name) for name in names]


def _find_remote(spec: str, wanted: _Wanted) -> FoundFiles:
    """The files at an address, downloaded into the cache where they are not on this machine."""
    spec = take_credentials(spec)
    address = Address.parse(with_credentials(spec))
    # A "?" begins the options.
    magic = re.search(r"[*\[]", address.path) if address.scheme not in WEB else None
    try:
        if magic:
            folder = address.path[: address.path.rindex("/", 0, magic.start()) + 1]
            parts = address.path[len(folder) :].split("/")
            place = open_place(dataclasses.replace(address, path=folder))
            found = [name for name in place.files() if _matches(name.split("/"), parts)]
            names, hidden = folders.without_hidden(found, "/".join(parts))
            if not names:
                raise _no_match(spec, hidden)
            remarks = folders.left_out(hidden, "hidden")
        else:
            place = open_place(address)
            names, remarks = [""], []
            if not place.is_file():
                names, remarks = _of_folder(place, spec, wanted)
        _refuse_unknown(place, names)
        paths = fetch_all(place.fetch, names)
    except StorageError as error:
        forget_credentials(spec)
        raise DataError(error.what, where=error.where, fix=error.fix) from error
    shown = [place.address_of(name) for name in names]
    if not magic and names != [""]:
        files = {
            name: DataFile(one, str(path), partitions=folders.partitions_below(address.path, name))
            for name, one, path in zip(names, shown, paths, strict=True)
        }
        return _read_as_one(files, wanted, remarks)
    below = (folder, names) if magic else None
    opened = _opened_archives(map(str, paths), wanted, shown, below)
    opened.remarks[:0] = remarks
    return opened


def _refuse_unknown(place: Place, names: Sequence[str]) -> None:
    """Refuses what cannot be read before it is downloaded; a web server may call a file
    otherwise."""
    if place.address.scheme in WEB or folders.in_classes(names):
        return
    for name in names:
        path = name or place.address.path
        if folders.kind_of(path) is None and not path.lower().endswith(archives.SUFFIX):
            suffix = os.path.splitext(compression.split_name(path)[0])[1]
            known = [each for each in folders.KINDS if each not in LANGUAGES]
            raise DataError(
                f"The format is given by the file's suffix, but '{suffix}' is not known",
                where=place.address_of(name),
                fix=f"known: {' '.join(known)}, languages such as .en, also compressed",
            )


def _of_folder(place: Place, where: str, wanted: _Wanted) -> tuple[list[str], list[str]]:
    names = place.files()
    if not names:
        what = "There is no such folder" if where.endswith("/") else "The file does not exist"
        raise DataError(what, where=where, fix="check the address")
    chosen, remarks = folders.choose(names, wanted.split, where, wanted.preferred)
    if where.startswith("hf://") and len(configurations := folders.branches(chosen)) > 1:
        raise DataError(
            f"The data set has several configurations: {', '.join(configurations)}",
            where=where,
            fix=f"name one of them: {where.rstrip('/')}/{configurations[0]}",
        )
    return chosen, remarks


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


def _no_match(pattern: str, hidden: Sequence[str] = ()) -> DataError:
    return DataError(
        "The pattern matches no file" + " but hidden ones" * bool(hidden),
        where=pattern,
        fix="check the folder and the suffix; `**/` includes sub-folders",
    )
