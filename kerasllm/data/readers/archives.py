"""Zip archives: their members are read as files, and none is written to the disk."""

from __future__ import annotations

import zipfile
from pathlib import PurePosixPath
from typing import IO

from kerasllm.data.readers.folders import choose
from kerasllm.errors import DataError

SUFFIX = ".zip"


def members(path: str, name: str, split: str, preferred: str | None) -> tuple[list[str], list[str]]:
    """Chooses the members of an archive that are data, as those of a folder are chosen.

    Args:
        path: The archive.
        name: Its name, for messages.
        split: As for `choose`.
        preferred: As for `choose`.

    Returns:
        The members, sorted, and remarks on what was left out.

    Raises:
        DataError: It is not a readable zip archive, or holds no data, or data of several
            kinds.
    """
    with _opened(path, name) as archive:
        infos = [info for info in archive.infolist() if not info.is_dir()]
    names: set[str] = set()
    for info in infos:
        parts = PurePosixPath(info.filename.replace("\\", "/")).parts
        leads_out = ".." in parts or info.filename.startswith("/")
        if leads_out or info.filename in names:
            why = "with a path that leads outside it" if leads_out else "twice"
            raise DataError(
                f"The archive holds {info.filename!r} {why}",
                where=name,
                fix="pack it again, from the folder that holds the files",
            )
        names.add(info.filename)
    chosen, remarks = choose(names, split, name, preferred)
    if any(info.filename in chosen and info.flag_bits & 1 for info in infos):
        raise DataError(
            "The archive is encrypted", where=name, fix="unpack it with its password first"
        )
    return chosen, remarks


def open_member(path: str, name: str, member: str) -> IO[bytes]:
    """Opens a member; it can be read at any position.

    Args:
        path: The archive.
        name: Its name, for messages.
        member: The member.

    Raises:
        DataError: The archive or the member cannot be read.
    """
    archive = _opened(path, name)
    try:
        # The member keeps the file open after the archive is closed.
        return archive.open(member)
    except (KeyError, RuntimeError, NotImplementedError, zipfile.BadZipFile) as error:
        raise DataError(
            f"The archive cannot be read: {error}", where=f"{name}/{member}", fix="pack it again"
        ) from error
    finally:
        archive.close()


def _opened(path: str, name: str) -> zipfile.ZipFile:
    try:
        return zipfile.ZipFile(path)
    except (zipfile.BadZipFile, OSError) as error:
        raise DataError(
            f"The archive cannot be opened: {error}",
            where=name,
            fix="copy or download it again; `unzip -t FILE` checks it",
        ) from error
