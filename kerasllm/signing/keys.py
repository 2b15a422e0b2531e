"""The keys of signatures: elliptic curve keys in PEM, as openssl makes them."""

from __future__ import annotations

import hashlib
import os
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kerasllm.errors import CommandError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric import ec

_CURVES = {"secp256r1": "SHA256", "secp384r1": "SHA384", "secp521r1": "SHA512"}
_MAKE_KEY = "make one: openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out my.key"
_MAKE_PUBLIC = "derive it from your private key: openssl pkey -in my.key -pubout -out my.pub"


@dataclass(frozen=True)
class PublicKey:
    """A key that signatures are verified with.

    Attributes:
        file: The file that it was read from.
        pem: The key.
    """

    file: str
    pem: bytes

    @property
    def fingerprint(self) -> str:
        """What a signature calls its key: the sha256 of the PEM text."""
        return hashlib.sha256(self.pem).hexdigest()

    def has_signed(self, signature: bytes, content: bytes) -> bool:
        """Whether a signature of some bytes is by this key."""
        from cryptography.exceptions import InvalidSignature
        from cryptography.hazmat.primitives.serialization import load_pem_public_key

        key: Any = load_pem_public_key(
            self.pem
        )  # Of an elliptic curve, as `read_public_key` checks.
        try:
            key.verify(signature, content, algorithm(key))
        except InvalidSignature:
            return False
        return True


def need_cryptography(why: str) -> None:
    """Refuses to continue where the package that computes signatures is not installed.

    Args:
        why: What needs it, as the beginning of a sentence.

    Raises:
        CommandError: If it is not.
    """
    try:
        import cryptography  # noqa: F401
    except ImportError:
        raise CommandError(
            f"{why} needs cryptography, which is not installed",
            fix='pip install "kerasllm[sign]"',
        ) from None


def is_encrypted(file: str | Path) -> bool:
    """Whether a private key can only be read with a password."""
    content = _read_key(file)
    return b"BEGIN ENCRYPTED PRIVATE KEY" in content or b"Proc-Type: 4,ENCRYPTED" in content


def read_private_key(file: str | Path, password: str | None = None) -> ec.EllipticCurvePrivateKey:
    """Reads a key to sign with.

    Args:
        file: A PEM file.
        password: What it is encrypted with. Defaults to `None`: it is not.

    Raises:
        CommandError: If it cannot be read, or is not such a key.
    """
    need_cryptography("Signing")
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    content = _read_key(file)
    try:
        key = load_pem_private_key(content, password.encode() if password else None)
    except TypeError:
        raise CommandError(
            "The key is encrypted" if password is None else "The key has no password",
            where=str(file),
            fix="set KERASLLM_SIGN_PASSWORD to its password"
            if password is None
            else "unset KERASLLM_SIGN_PASSWORD",
        ) from None
    except Exception:  # noqa: BLE001 - of many classes, by content of the file
        what, fix = "The file is not a private key in PEM format", _MAKE_KEY
        if b"PUBLIC KEY" in content:
            what = "The file is a public key, but signing needs the private one"
        elif password is not None:
            what, fix = "The key cannot be read with this password", "give the right one"
        raise CommandError(what, where=str(file), fix=fix) from None
    if not isinstance(key, ec.EllipticCurvePrivateKey) or key.curve.name not in _CURVES:
        raise CommandError(
            "The key is not on one of the curves P-256, P-384 and P-521",
            where=str(file),
            fix=_MAKE_KEY,
        )
    return key


def read_public_key(file: str | Path) -> PublicKey:
    """Reads a key to verify with.

    Raises:
        CommandError: If it cannot be read, or is not such a key.
    """
    need_cryptography("Verifying signatures")
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    content = _read_key(file)
    try:
        key = load_pem_public_key(content)
    except Exception:  # noqa: BLE001 - of many classes, by content of the file
        what = "The file is not a public key in PEM format"
        if b"PRIVATE KEY" in content:
            what = "The file is a private key, but verifying needs the public one"
        raise CommandError(what, where=str(file), fix=_MAKE_PUBLIC) from None
    if not isinstance(key, ec.EllipticCurvePublicKey) or key.curve.name not in _CURVES:
        raise CommandError(
            "The key is not on one of the curves P-256, P-384 and P-521",
            where=str(file),
            fix=_MAKE_KEY,
        )
    return PublicKey(str(file), _pem(key))


def algorithm(key: Any) -> ec.ECDSA:
    """Returns how a key signs."""
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec

    return ec.ECDSA(getattr(hashes, _CURVES[key.curve.name])())


def public_half(key: ec.EllipticCurvePrivateKey) -> PublicKey:
    """Returns the public key of a private one."""
    return PublicKey("", _pem(key.public_key()))


def _pem(key: ec.EllipticCurvePublicKey) -> bytes:
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    return key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def _read_key(file: str | Path) -> bytes:
    try:
        if not stat.S_ISREG(os.stat(file).st_mode):
            raise OSError(None, "it is not a regular file")
        with open(file, "rb") as opened:
            return opened.read(1 << 16)
    except OSError as error:
        raise CommandError(
            f"The key cannot be read: {error.strerror}", where=str(file), fix="check the path"
        ) from None
