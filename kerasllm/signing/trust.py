"""The keys that a user trusts, and the check of a model before it is read.

Where `KERASLLM_TRUST` names keys, a model is signed by one of them, or none of its files is read.
"""

from __future__ import annotations

import functools
import os
import shlex
from collections.abc import Iterable, Sequence
from pathlib import Path

from kerasllm.errors import CommandError, SignatureError
from kerasllm.signing.bundle import SIGNATURE
from kerasllm.signing.folder import Signed, files_of, verify
from kerasllm.signing.keys import PublicKey, need_cryptography, read_public_key

VARIABLE = "KERASLLM_TRUST"

_SUFFIXES = (".pub", ".pem")
_RUN = "recipe.yaml"
# What a trained model is opened from. All else in a run grows after it was signed, or is not read.
_PARTS_OF_RUN = frozenset({_RUN, "environment.json", "metrics.json", "model", "adapter"})
_FOLDERS_OF_RUN = ("model", "adapter")

_own: set[str] = set()


def trust_own(folder: Path) -> None:
    """Lets this process read a folder that it is about to write."""
    _own.add(os.path.realpath(folder))


def signed_names(folder: Path) -> frozenset[str] | None:
    """Returns the names in a folder that are signed: of a run what its model is; `None`: all."""
    return _PARTS_OF_RUN if (folder / _RUN).is_file() else None


def keys_of(spec: str | Sequence[str]) -> tuple[PublicKey, ...]:
    """Reads the keys that are trusted.

    Args:
        spec: A file or a folder of files that end in .pub or .pem, or several of these.

    Raises:
        CommandError: If a key cannot be read, or there is none.
    """
    keys: dict[str, PublicKey] = {}
    for name in [spec] if isinstance(spec, str) else spec:
        path = Path(name).expanduser()
        files = [path]
        if path.is_dir():
            files = sorted(file for file in path.iterdir() if file.suffix in _SUFFIXES)
        for file in files:
            key = read_public_key(file)
            keys[key.fingerprint] = key
    if not keys:
        raise CommandError(
            "There is no public key",
            where=str(spec),
            fix="put files ending in .pub or .pem there",
        )
    return tuple(keys.values())


def keys_of_environment() -> tuple[PublicKey, ...]:
    """Returns the keys that `KERASLLM_TRUST` names; none where it is not set.

    Raises:
        CommandError: If it names what is no key.
    """
    spec = [each for each in os.environ.get(VARIABLE, "").split(os.pathsep) if each]
    if not spec:
        return ()
    need_cryptography(f"{VARIABLE} is set: checking models")
    try:
        return keys_of(spec)
    except CommandError as error:
        raise CommandError(error.what, where=f"{VARIABLE}: {error.where}", fix=error.fix) from None


def check(place: str | Path, keys: str | Sequence[str] | None = None) -> None:
    """Refuses a model that is not signed by a trusted key, before any of its files is read.

    Does nothing where no keys are named. What this process wrote itself is not checked, and what
    was checked once not again, while none of its files changed.

    Args:
        place: A run, a folder of a model or of an adapter, or a GGUF file.
        keys: Keys; one of them must have signed it as well, as a recipe names them. Defaults to
            `None`: only those of `KERASLLM_TRUST`.

    Raises:
        SignatureError: If it is not signed by one of them, or is not what was signed.
        CommandError: If the keys cannot be read.
    """
    for trusted, named_by in _demands(keys):
        root = root_of(Path(place))
        if os.path.realpath(root) in _own:
            return
        if not (root / SIGNATURE).is_file():
            raise _unsigned(str(place), named_by)
        path = Path(place)
        only = frozenset({path.name}) if path.is_file() else signed_names(root)
        files = [*sorted(files_of(root, only)), SIGNATURE]
        _check_once(root, trusted, only, tuple(_state(root / name) for name in files))


def is_demanded(keys: str | Sequence[str] | None = None) -> bool:
    """Whether models must be signed at all."""
    return any(True for _ in _demands(keys))


def refuse_unsigned(preset: str, keys: str | Sequence[str] | None = None) -> None:
    """Refuses a preset that cannot be checked, because another library downloads and reads it."""
    for _, named_by in _demands(keys):
        raise _unsigned(preset, named_by)


def root_of(place: Path) -> Path:
    """Returns the folder whose signature covers a place: of `model/` in a run, the run."""
    if not place.is_dir():
        return place.parent
    if not (place / SIGNATURE).is_file():
        real = Path(os.path.realpath(place))
        if real.name in _FOLDERS_OF_RUN and (real.parent / _RUN).is_file():
            return real.parent
    return place


def _demands(
    keys: str | Sequence[str] | None,
) -> Iterable[tuple[tuple[PublicKey, ...], str]]:
    """Yields what must be met: a recipe cannot widen what the environment allows."""
    if trusted := keys_of_environment():
        yield trusted, VARIABLE
    if keys:
        yield keys_of(keys), "model.trust"


@functools.lru_cache(maxsize=64)
def _check_once(
    root: Path,
    trusted: tuple[PublicKey, ...],
    only: frozenset[str] | None,
    states: tuple,
) -> Signed:
    return verify(root, trusted, only)


def _state(file: Path) -> tuple:
    found = file.stat()
    return str(file), found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino


def _unsigned(place: str, named_by: str) -> SignatureError:
    how = "keep it in a folder and sign that: kerasllm sign FOLDER"
    if os.path.isdir(place):
        how = f"sign it: kerasllm sign {shlex.quote(str(root_of(Path(place))))}"
    return SignatureError(
        f"The model is not signed, and {named_by} requires a signature by one of its keys",
        where=place,
        fix=f"get a signed copy; or, if you trust it yourself, {how} --key KEY",
    )
