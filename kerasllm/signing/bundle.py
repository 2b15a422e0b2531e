"""The file of a signature, in the format of OpenSSF model signing.

`model.sig` is a Sigstore bundle: a DSSE envelope, signed with an elliptic curve key, around an
in-toto statement that lists the sha256 of each file. `model_signing` verifies what is written here,
and its signatures are read here: https://github.com/sigstore/model-transparency. The format is
written out because that library cannot be imported as it is installed (1.1.1 misses pyOpenSSL),
brings clients of public logs along, and passes over files that a signature declares not to cover.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import os
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from kerasllm.errors import SignatureError
from kerasllm.json_files import parse_json, read_json_file
from kerasllm.signing.keys import PublicKey, algorithm, public_half

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric import ec

SIGNATURE = "model.sig"
"""The file in a folder that holds its signature."""

_BUNDLE = "application/vnd.dev.sigstore.bundle.v0.3+json"
_PAYLOAD = "application/vnd.in-toto+json"
_STATEMENT = "https://in-toto.io/Statement/v1"
_PREDICATE = "https://model_signing/signature/v1.0"
_MOST_BYTES = 1 << 28


def write_bundle(
    folder: Path,
    key: ec.EllipticCurvePrivateKey,
    digests: Mapping[str, str],
    *,
    name: str,
    left_out: Sequence[str],
    links: bool,
    notes: Mapping[str, Any],
) -> None:
    """Writes the signature of a folder.

    Args:
        folder: The folder.
        key: The key.
        digests: sha256 of each file, by its path in the folder.
        name: What the folder is called.
        left_out: What in it is not signed.
        links: Whether some of the files are links.
        notes: What else is signed, as JSON.
    """
    digests = dict(sorted(digests.items()))
    together = hashlib.sha256(b"".join(map(bytes.fromhex, digests.values())))
    predicate = {
        "serialization": {
            "method": "files",
            "hash_type": "sha256",
            "allow_symlinks": links,
            "ignore_paths": list(left_out),
        },
        "resources": [
            {"name": file, "algorithm": "sha256", "digest": digest}
            for file, digest in digests.items()
        ],
        **({"kerasllm": dict(notes)} if notes else {}),
    }
    statement = {
        "_type": _STATEMENT,
        "subject": [{"name": name, "digest": {"sha256": together.hexdigest()}}],
        "predicateType": _PREDICATE,
        "predicate": predicate,
    }
    payload = json.dumps(statement, indent=1).encode()
    signature = key.sign(_encoded(payload), algorithm(key))
    envelope = {
        "payload": base64.b64encode(payload).decode(),
        "payloadType": _PAYLOAD,
        "signatures": [{"sig": base64.b64encode(signature).decode(), "keyid": ""}],
    }
    hint = public_half(key).fingerprint
    bundle = {
        "mediaType": _BUNDLE,
        "verificationMaterial": {"publicKey": {"hint": hint}, "tlogEntries": []},
        "dsseEnvelope": envelope,
    }
    temporary = folder / f".{SIGNATURE}.{os.getpid()}.tmp"
    try:
        temporary.write_text(json.dumps(bundle), encoding="utf-8")
        os.replace(temporary, folder / SIGNATURE)
    finally:
        temporary.unlink(missing_ok=True)


def read_bundle(
    file: Path, keys: Sequence[PublicKey]
) -> tuple[dict[str, str], dict[str, Any], PublicKey]:
    """Reads a signature; what was signed is not looked at before its key is known to be trusted.

    Args:
        file: The signature.
        keys: The keys that are trusted.

    Returns:
        sha256 of each file by its path in the folder, what else was signed, and the key.

    Raises:
        SignatureError: If there is none, it is by none of the keys, or cannot be used.
    """
    payload, key = _payload_of(file, keys)
    return *_statement_of(payload, str(file)), key


def _payload_of(file: Path, keys: Sequence[PublicKey]) -> tuple[bytes, PublicKey]:
    """Returns what was signed, and the key that it was signed with."""
    try:
        if os.stat(file).st_size > _MOST_BYTES:
            raise ValueError("it is larger than any signature")
        bundle = read_json_file(file)
    except FileNotFoundError:
        raise SignatureError(
            f"The folder is not signed: there is no {SIGNATURE} in it",
            where=str(file.parent),
            fix="get a signed copy; or, if you trust these files, sign them yourself: "
            f"kerasllm sign {shlex.quote(str(file.parent))} --key KEY",
        ) from None
    except (OSError, ValueError) as error:
        raise _broken(file, f"cannot be read: {error}") from None
    material = _at(bundle, "verificationMaterial", file)
    if "publicKey" not in material:
        raise SignatureError(
            f"{SIGNATURE} was made with a certificate or an identity, and not with a key",
            where=str(file),
            fix="verify it with the signer's tool, and sign it with your own key",
        )
    hint = str(_at(material, "publicKey", file).get("hint", ""))
    envelope = _at(bundle, "dsseEnvelope", file)
    if bundle.get("mediaType") != _BUNDLE or envelope.get("payloadType") != _PAYLOAD:
        raise _broken(file, "is of another kind, or of another version of the format")
    payload = _decoded(envelope.get("payload"), file)
    signatures = envelope.get("signatures")
    if not isinstance(signatures, list) or not 0 < len(signatures) <= 16:
        raise _broken(file, "holds no signature")
    for each in signatures:
        signature = _decoded(each.get("sig") if isinstance(each, dict) else None, file)
        for key in keys:
            if key.has_signed(signature, _encoded(payload)):
                return payload, key
    trusted = ", ".join(f"{key.fingerprint[:16]} ({key.file})" for key in keys)
    if any(key.fingerprint == hint for key in keys):
        raise SignatureError(
            f"{SIGNATURE} was changed after it was signed, or forged",
            where=str(file),
            fix="get a complete copy from its source",
        )
    raise SignatureError(
        f"The folder is signed with another key, {hint[:16]!r}. Trusted: {trusted or 'none'}",
        where=str(file),
        fix="get it from a trusted source; or, if you trust that key, add its public key",
    )


def _statement_of(payload: bytes, where: str) -> tuple[dict[str, str], dict[str, Any]]:
    """Returns the digests that a statement lists, and its notes; by here its key is known."""
    try:
        statement = parse_json(payload.decode())
        predicate = statement["predicate"]
        if statement["_type"] != _STATEMENT or statement["predicateType"] != _PREDICATE:
            raise ValueError(f"it states {statement['predicateType']!r}")
        method, kind = (predicate["serialization"][key] for key in ("method", "hash_type"))
        if (method, kind) != ("files", "sha256"):
            raise ValueError(f"it lists {kind} of {method}, but kerasllm checks sha256 of files")
        listed = predicate["resources"]
        files = {str(each["name"]): bytes.fromhex(each["digest"]) for each in listed}
        if len(files) != len(listed):
            raise ValueError("it names a file twice")
        for name in files:
            path = PurePosixPath(name)
            if path.is_absolute() or ".." in path.parts or str(path) != name or "\0" in name:
                raise ValueError(f"it names a file outside the folder: {name[:80]!r}")
        together = hashlib.sha256(b"".join(files.values())).hexdigest()
        if together != statement["subject"][0]["digest"]["sha256"]:
            raise ValueError("its digests are inconsistent")
        notes = predicate.get("kerasllm", {})
        return {name: digest.hex() for name, digest in files.items()}, dict(notes)
    except (ValueError, KeyError, IndexError, TypeError, AttributeError) as error:
        raise SignatureError(
            f"What was signed cannot be used: {error}",
            where=where,
            fix="sign it again: kerasllm sign FOLDER --key KEY",
        ) from None


def _at(value: Any, key: str, file: Path) -> dict[str, Any]:
    found = value.get(key) if isinstance(value, dict) else None
    if not isinstance(found, dict):
        raise _broken(file, f"has no {key}")
    return found


def _decoded(text: object, file: Path) -> bytes:
    try:
        return base64.b64decode(str(text), validate=True)
    except (binascii.Error, ValueError):
        raise _broken(file, "is damaged") from None


def _broken(file: Path, why: str) -> SignatureError:
    return SignatureError(
        f"{SIGNATURE} {why}", where=str(file), fix="get a complete copy from its source"
    )


def _encoded(payload: bytes) -> bytes:
    """Returns what is signed in an envelope: DSSE's pre-authentication encoding."""
    return b"DSSEv1 %d %s %d %s" % (len(_PAYLOAD), _PAYLOAD.encode(), len(payload), payload)
