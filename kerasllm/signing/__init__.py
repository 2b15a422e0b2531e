"""Signatures over the files of a model, and the trusted keys."""

from kerasllm.signing.bundle import SIGNATURE
from kerasllm.signing.folder import Signed, sign, verify
from kerasllm.signing.keys import PublicKey, read_private_key, read_public_key

__all__ = [
    "SIGNATURE",
    "PublicKey",
    "Signed",
    "read_private_key",
    "read_public_key",
    "sign",
    "verify",
]
