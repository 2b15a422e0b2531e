"""sha256 digests of a cached preset: written when it is fetched, checked each time it is used."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

from kerasllm.errors import PresetError

# Beside the files, in the format of `sha256sum --check`.
RECORD = "SHA256SUMS"


def sha256_of(file: Path) -> str:
    """Returns the sha256 of a file, in hex."""
    with open(file, "rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def write_record(folder: Path) -> None:
    """Writes down the digests of all files of a folder."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    lines = [f"{sha256_of(file)}  {file.relative_to(folder).as_posix()}\n" for file in files]
    (folder / RECORD).write_text("".join(lines), encoding="utf-8")


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


def check_file(file: Path, digest: str, fix: str) -> None:
    """Checks the digest of one file."""
    if not file.is_file():
        raise PresetError(f"{file.name} is missing", where=str(file), fix=fix)
    found = sha256_of(file)
    if found != digest:
        raise PresetError(
            f"{file.name} is not the file it should be: sha256 is {found}, expected {digest}",
            where=str(file),
            fix=fix,
        )


def _recorded(folder: Path, fix: str) -> dict[str, str]:
    try:
        lines = (folder / RECORD).read_text(encoding="utf-8").splitlines()
        return {name: digest for digest, name in (line.split("  ", 1) for line in lines)}
    except (OSError, ValueError) as error:
        raise PresetError(
            f"the cached preset has no readable {RECORD}: it was not fetched whole",
            where=str(folder),
            fix=fix,
        ) from error
