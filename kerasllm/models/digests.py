"""sha256 digests of the files of a model: written with them, checked each time it is used."""

from __future__ import annotations

import functools
import hashlib
import os
from collections.abc import Mapping
from pathlib import Path, PurePosixPath

from kerasllm.errors import PresetError

# Beside the files, in the format of `sha256sum --check`.
RECORD = "SHA256SUMS"


def sha256_of(file: Path) -> str:
    """Returns the sha256 of a file, in hex."""
    with open(file, "rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def write_record(*folders: Path) -> None:
    """Writes down the digests of all files of folders; leaves out folders that are not there."""
    for folder in folders:
        if folder.is_dir():
            _write_record(folder)


def _write_record(folder: Path) -> None:
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != RECORD)
    lines = [f"{sha256_of(file)}  {file.relative_to(folder).as_posix()}\n" for file in files]
    (folder / RECORD).write_text("".join(lines), encoding="utf-8")


def fingerprint_of(digests: Mapping[str, str]) -> str:
    """Returns one digest for the files of a model, by their names and digests."""
    lines = "".join(f"{digest}  {name}\n" for name, digest in sorted(digests.items()))
    return hashlib.sha256(lines.encode()).hexdigest()


def fingerprint(place: Path) -> str:
    """Returns one digest for the files of a model: a folder, or a single file.

    What was written down is taken as it is; where nothing was, the files are read.
    """
    if place.is_file():
        return sha256_of(place)
    if (place / RECORD).is_file():
        return fingerprint_of(_recorded(place, "write it again"))
    files = [path for path in place.rglob("*") if path.is_file() and path.name != RECORD]
    return fingerprint_of({file.relative_to(place).as_posix(): sha256_of(file) for file in files})


def verify(folder: Path, pinned: Mapping[str, str], fix: str) -> None:
    """Checks every file of a cached preset.

    Args:
        folder: The cached preset.
        pinned: Digests that are known beforehand, by name; they go before what was written down.
        fix: What to do when a file does not match, for the message.

    Raises:
        PresetError: A file is missing, was changed or does not belong there.
    """
    expected = {**_recorded(folder, fix), **pinned}
    present = {
        path.relative_to(folder).as_posix()
        for path in folder.rglob("*")
        if path.is_file() and not path.name.startswith(".") and path.name != RECORD
    }
    for name in sorted(present - expected.keys()):
        raise PresetError(
            f"{name} does not belong to the cached preset", where=str(folder / name), fix=fix
        )
    for name, digest in expected.items():
        check_file(folder / name, digest, fix)


def verify_recorded(folder: Path) -> int:
    """Checks the files of a model that has a record; files that it does not name are left out.

    Returns:
        How many files were checked.

    Raises:
        PresetError: A file is missing or was changed since.
    """
    expected: Mapping[str, str] = {}
    if (folder / RECORD).is_file():
        fix = f"restore the file; if you changed it yourself, delete {RECORD} beside it"
        expected = _recorded(folder, fix)
        for name in expected:
            if not _is_inside(name):
                raise PresetError(
                    f"{RECORD} names a file outside the folder: {name[:80]!r}",
                    where=str(folder / RECORD),
                    fix=fix,
                )
        states = tuple(_state(folder / name) for name in (RECORD, *expected))
        _verify_once(Path(os.path.realpath(folder)), tuple(expected.items()), fix, states)
    return len(expected)


@functools.lru_cache(maxsize=32)
def _verify_once(folder: Path, expected: tuple, fix: str, states: tuple) -> None:
    """Checks files; not again in this process, where all are as they were."""
    for name, digest in expected:
        check_file(folder / name, digest, fix)


def _state(file: Path) -> tuple[int, int, int] | None:
    try:
        found = file.stat()
    except OSError:
        return None
    return found.st_size, found.st_mtime_ns, found.st_ino


def _is_inside(name: str) -> bool:
    path = PurePosixPath(name)
    return not path.is_absolute() and ".." not in path.parts


def check_file(file: Path, digest: str, fix: str) -> None:
    """Checks the digest of one file."""
    if not file.is_file():
        raise PresetError(f"{file.name} is missing", where=str(file), fix=fix)
    found = sha256_of(file)
    if found != digest:
        raise PresetError(
            f"{file.name} has a wrong checksum: sha256 is {found}, expected {digest}",
            where=str(file),
            fix=fix,
        )


def _recorded(folder: Path, fix: str) -> dict[str, str]:
    try:
        lines = (folder / RECORD).read_text(encoding="utf-8").splitlines()
        return {name: digest for digest, name in (line.split("  ", 1) for line in lines)}
    except (OSError, ValueError) as error:
        raise PresetError(
            f"the folder has no readable {RECORD}: it was not written completely",
            where=str(folder),
            fix=fix,
        ) from error
