"""Signs the files of a folder, and verifies them."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kerasllm.errors import SignatureError
from kerasllm.plurals import counted
from kerasllm.signing.bundle import SIGNATURE, read_bundle, write_bundle
from kerasllm.signing.keys import PublicKey, public_half

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric import ec

# What git keeps in a folder: no signature of this format covers it, and nothing here reads it.
_GIT = (".git", ".gitattributes", ".github", ".gitignore")
_MOST_NAMED = 5


@dataclass(frozen=True)
class Signed:
    """What a signature says, and whose it is.

    Attributes:
        files: sha256 of each file, by its path in the folder.
        key: The key that it was verified with.
        notes: What else was signed.
    """

    files: Mapping[str, str]
    key: PublicKey
    notes: Mapping[str, Any]


def sign(
    folder: Path,
    key: ec.EllipticCurvePrivateKey,
    *,
    name: str | None = None,
    only: Collection[str] | None = None,
    notes: Mapping[str, Any] | None = None,
) -> Signed:
    """Signs the files of a folder, in `model.sig` in it; a signature that is there is replaced.

    Args:
        folder: The folder.
        key: What `read_private_key` gave.
        name: What the folder is called in the signature. Defaults to `None`: its name.
        only: The names in the folder that are signed. Defaults to `None`: all.
        notes: What else is signed, as JSON. Defaults to nothing.

    Raises:
        SignatureError: If there is nothing to sign, or a link leads out of the folder.
    """
    files = files_of(folder, only)
    if not files:
        raise SignatureError("There are no files to sign", where=str(folder), fix="check the path")
    digests = {file: _sha256(folder / file) for file in files}
    left_out = {SIGNATURE, *_GIT, *(name for name in os.listdir(folder) if not _counts(name, only))}
    write_bundle(
        folder,
        key,
        digests,
        name=name or os.path.basename(os.path.realpath(folder)) or "model",
        left_out=sorted(left_out),
        links=any((folder / file).is_symlink() for file in files),
        notes=notes or {},
    )
    return Signed(digests, public_half(key), notes or {})


def verify(folder: Path, keys: Sequence[PublicKey], only: Collection[str] | None = None) -> Signed:
    """Checks that the files of a folder are those that were signed, and no others.

    Nothing of a file but its digest is looked at, and nothing of the signature before its key is
    known to be one of `keys`.

    Args:
        folder: The folder.
        keys: The keys that are trusted.
        only: The names in the folder that must be signed. Defaults to `None`: all.

    Raises:
        SignatureError: If there is no signature, it is by none of the keys, or a file was added,
            changed or removed.
    """
    expected, notes, key = read_bundle(folder / SIGNATURE, keys)
    found = files_of(folder, only)
    expected = {name: each for name, each in expected.items() if _counts(name, only)}
    missing = sorted(expected.keys() - found)
    added = sorted(found - expected.keys())
    changed = sorted(
        name for name in found & expected.keys() if _sha256(folder / name) != expected[name]
    )
    wrong = [
        f"{counted(len(names), 'file')} {what}: {_named(names)}"
        for what, names in (
            ("changed", changed),
            ("missing", missing),
            ("not covered by the signature", added),
        )
        if names
    ]
    if wrong:
        raise SignatureError(
            f"The files differ from the signed ones; {'; '.join(wrong)}",
            where=str(folder),
            fix="get a complete copy from its source; if you changed it yourself, sign it again",
        )
    return Signed(expected, key, notes)


def files_of(folder: Path, only: Collection[str] | None = None) -> set[str]:
    """Returns the paths, in a folder, of all files in it but the signature and those of git.

    Args:
        folder: The folder.
        only: The names in the folder that count. Defaults to `None`: all.

    Raises:
        SignatureError: If something in it is neither a file nor a folder, or a link that leads out
            of it.
    """
    top, found = os.fspath(folder), set()
    inside = _roots(folder)
    for here, folders, names in os.walk(top, onerror=_raise):
        if here == top:
            folders[:] = [name for name in folders if _counts(name, only)]
            names = [name for name in names if _counts(name, only)]
        for name in folders:
            if os.path.islink(path := os.path.join(here, name)):
                raise _refused(folder, path, "is a link to a folder, which no signature covers")
        for name in names:
            path = os.path.join(here, name)
            real = os.path.realpath(path)
            if os.path.islink(path) and not any(real.startswith(root) for root in inside):
                raise _refused(folder, path, "is a link that leads outside the folder")
            try:
                regular = stat.S_ISREG(os.stat(path).st_mode)
            except OSError:
                regular = False
            if not regular:
                raise _refused(folder, path, "is not a regular file, or cannot be read")
            found.add(os.path.relpath(path, top).replace(os.sep, "/"))
    return found


def _counts(name: str, only: Collection[str] | None) -> bool:
    top = name.partition("/")[0]
    return top not in (SIGNATURE, *_GIT) and (only is None or top in only)


def _roots(folder: Path) -> list[str]:
    """Returns what links of a folder may lead into: itself, and in a hub's cache its blobs."""
    real = Path(os.path.realpath(folder))
    roots = [real]
    if real.parent.name == "snapshots":
        roots.append(real.parents[1] / "blobs")
    return [os.path.join(root, "") for root in roots]


def _refused(folder: Path, path: str, why: str) -> SignatureError:
    return SignatureError(
        f"{os.path.relpath(path, folder)} {why}",
        where=str(folder),
        fix="replace it with the file itself, or remove it",
    )


def _raise(error: OSError) -> None:
    raise SignatureError(
        f"The folder cannot be read: {error.strerror}", where=str(error.filename), fix="check it"
    ) from error


def _sha256(file: Path) -> str:
    with open(file, "rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def _named(names: list[str]) -> str:
    more = f" and {len(names) - _MOST_NAMED:,} more" if len(names) > _MOST_NAMED else ""
    return ", ".join(names[:_MOST_NAMED]) + more
