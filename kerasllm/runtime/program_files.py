"""The folder of programs that XLA compiled: whole files, that nobody else can have written.

TensorFlow reads a program without looking at it: a damaged one ends every training that needs it,
and one that somebody else wrote is run.
"""

from __future__ import annotations

import hashlib
import os
import stat
from pathlib import Path

SUM_SUFFIX = ".sha256"
_PROGRAMS = "*.pb"
_NOTES = "compiled.txt"


def why_not_trusted(folder: Path) -> str | None:
    """Returns why a folder is not used, in words; `None` where only this user can write there."""
    if not hasattr(os, "getuid"):
        return None
    state = os.stat(folder)
    if state.st_uid != os.getuid():
        return f"XLA's programs are not kept: {folder} belongs to another user"
    if state.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        return (
            f"XLA's programs are not kept: others can write to {folder}, and its contents are "
            f"executed; chmod go-w {folder}"
        )
    return None


def note(folder: Path, program: str) -> None:
    """Notes that a program was compiled, by a name that says its shapes as well."""
    try:
        with _notes(folder).open("a", encoding="utf-8") as file:
            file.write(f"{program}\n")
    except OSError:
        # It is then taken for one that is not there.
        return


def noted(folder: Path) -> set[str]:
    """Returns the names of the programs that were noted and are still there."""
    try:
        return set(_notes(folder).read_text(encoding="utf-8", errors="replace").splitlines())
    except OSError:
        return set()


def record(folder: Path) -> None:
    """Writes the checksum of each program that has none."""
    known = {path.name for path in folder.glob(f"*{SUM_SUFFIX}")}
    for path in folder.glob(_PROGRAMS):
        if path.name + SUM_SUFFIX not in known:
            try:
                _sum_of(path).write_text(_checksum(path), encoding="ascii")
            except OSError:
                # Another process has forgotten it, or there is no room.
                continue


def check(folder: Path) -> list[str]:
    """Deletes the programs that were changed, or about which nothing is known.

    Returns:
        Their names. XLA compiles them again.
    """
    deleted = []
    for path in sorted(folder.glob(_PROGRAMS)):
        try:
            known = _sum_of(path).read_text(encoding="ascii", errors="replace")
            if known == _checksum(path):
                continue
        except OSError:
            pass
        forget(path)
        deleted.append(path.name)
    return deleted


def forget(path: Path) -> None:
    """Deletes a program, its checksum, and all notes: which program it was is not known."""
    for each in (path, _sum_of(path), _notes(path.parent)):
        try:
            each.unlink(missing_ok=True)
        except OSError:
            continue


def forget_old(folder: Path, most_bytes: int) -> None:
    """Deletes the programs not used for longest, until the rest fill at most `most_bytes`."""
    files = {}
    for path in folder.glob(_PROGRAMS):
        try:
            files[path] = path.stat()
        except OSError:
            continue
    there = sum(state.st_size for state in files.values())
    # Where the file system keeps no times of access, the oldest.
    used = {path: max(state.st_atime, state.st_mtime) for path, state in files.items()}
    for path in sorted(files, key=used.__getitem__):
        if there <= most_bytes:
            break
        forget(path)
        there -= files[path].st_size


def _notes(folder: Path) -> Path:
    return folder / _NOTES


def _sum_of(path: Path) -> Path:
    return path.with_name(path.name + SUM_SUFFIX)


def _checksum(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
