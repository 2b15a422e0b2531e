"""Sign the files of a model with a key, and verify what others have signed."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from kerasllm import audit
from kerasllm.addresses import is_address
from kerasllm.errors import CommandError, RunError, SignatureError
from kerasllm.models import digests
from kerasllm.run import Run
from kerasllm.signing import SIGNATURE, Signed, trust
from kerasllm.signing import sign as sign_folder
from kerasllm.signing import verify as verify_folder
from kerasllm.signing.keys import read_private_key

PASSWORD_VARIABLE = "KERASLLM_SIGN_PASSWORD"


@dataclass(frozen=True)
class Verified:
    """What was found of a folder that is as it should be.

    Attributes:
        signed: What its signature says; `None` where it has none, and nobody asked for one.
        recorded: How many files agree with the checksums that were written with them, by the name
            of their folder.
        trail: The audit trail of a run; `None` where there is none.
    """

    signed: Signed | None
    recorded: dict[str, int]
    trail: audit.Trail | None


def sign(
    folder: str | Path, key: str | Path, password: str | None = None, *, command: str = ""
) -> Signed:
    """Signs a run, an export or another folder of a model: `model.sig` in it.

    Of a run that is signed which its model is opened from: `model/`, `adapter/`, `recipe.yaml`,
    `environment.json` and `metrics.json`, and what its audit trail holds by then. Of all else every
    file is.

    Args:
        folder: The folder.
        key: The file of a private key.
        password: What the key is encrypted with. Defaults to `None`: `KERASLLM_SIGN_PASSWORD`.
        command: The command that was typed, for the record. Defaults to `""`.

    Raises:
        KerasllmError: If the key or the folder is refused, or the files of the folder are not those
            that were written.

    Example:

    ```python
    sign("my_run", "my.key").key.fingerprint
    ```
    """
    folder = _folder(folder)
    private = read_key_for(folder, key, password)
    run = Run(folder)
    if run.recipe.is_file() and not run.metrics.is_file():
        Run.open(folder)  # which says that it did not finish
    _recorded(folder)
    trail = audit.read(folder) if run.recipe.is_file() else None
    notes = {"audit": {"lines": trail.lines, "sha256": trail.sha256}} if trail else None
    signed = sign_folder(folder, private, only=trust.signed_names(folder), notes=notes)
    if trail:
        audit.note(folder, "sign", command=command, key=signed.key.fingerprint)
    return signed


def read_key_for(folder: Path, key: str | Path, password: str | None = None):
    """Reads a private key, and refuses one that lies in what is signed with it."""
    if password is None:
        password = os.environ.get(PASSWORD_VARIABLE) or None
    private = read_private_key(key, password)
    if Path(os.path.realpath(key)).is_relative_to(os.path.realpath(folder)):
        raise CommandError(
            "The private key is inside the folder, and would be published with it",
            where=str(key),
            fix="move it elsewhere",
        )
    return private


def verify(folder: str | Path, keys: Sequence[str] = ()) -> Verified:
    """Checks the signature of a folder, and the checksums and the audit trail of a run.

    Args:
        folder: The folder: a run, an export, or another folder of a model.
        keys: The files of the public keys that are trusted, or folders of them. Defaults to `()`:
            those of `KERASLLM_TRUST`.

    Raises:
        SignatureError: If it is not signed by one of them, or a file was added, changed or removed.
        KerasllmError: If a key cannot be read, a checksum does not agree, or the audit trail was
            changed.

    Example:

    ```python
    len(verify("my_run", ["my.pub"]).signed.files)
    ```
    """
    folder = _folder(folder)
    trusted = trust.keys_of(list(keys)) if keys else trust.keys_of_environment()
    root = trust.root_of(folder)
    signed = None
    if trusted:
        signed = verify_folder(root, trusted, trust.signed_names(root))
    elif (root / SIGNATURE).is_file():
        raise CommandError(
            "The folder is signed, but no trusted key was given",
            where=str(folder),
            fix=f"name the public key with --key FILE, or in {trust.VARIABLE}",
        )
    recorded, trail = _recorded(root), audit.read(root)
    if signed and "audit" in signed.notes:
        audit.refuse_other(root, signed.notes["audit"])
    if not signed and not recorded and not trail:
        raise SignatureError(
            "There is nothing to verify: no signature, no checksums and no audit trail",
            where=str(folder),
            fix="sign it: kerasllm sign FOLDER --key KEY",
        )
    return Verified(signed, recorded, trail)


def _folder(folder: str | Path) -> Path:
    if is_address(folder):
        raise CommandError(
            "Only a local folder can be signed and verified",
            where=str(folder),
            fix="copy it here; models are also verified when loaded, if KERASLLM_TRUST names keys",
        )
    path = Path(folder)
    if not path.is_dir():
        what = "This is a file" if path.exists() else "There is no such folder"
        raise RunError(what, where=str(folder), fix="give a run, an export or a folder of a model")
    return path


def _recorded(folder: Path) -> dict[str, int]:
    found = {}
    for each in (folder, folder / "model", folder / "adapter"):
        if (each / digests.RECORD).is_file():
            found[f"{each.name}/"] = digests.verify_recorded(each)
    return found
