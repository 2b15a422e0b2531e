"""`kerasllm sign`: sign a folder with a key."""

from __future__ import annotations

import json
import os
import shlex
import sys
from pathlib import Path

import click


@click.command()
@click.argument("folder", metavar="FOLDER")
@click.option("--key", required=True, metavar="FILE", help="Your private key, in PEM.")
@click.option("--json", "as_json", is_flag=True, help="Print what was signed as one JSON object.")
def sign(folder: str, key: str, as_json: bool) -> None:
    """Sign a run, an export or a preset with your key.

    \b
    openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out my.key
    openssl pkey -in my.key -pubout -out my.pub
    kerasllm sign my_run --key my.key
    kerasllm verify my_run --key my.pub

    model.sig in the folder lists the sha256 of each file, in the format of OpenSSF model signing.
    For a run it covers the files its model is loaded from. If the variable KERASLLM_TRUST names
    public keys, only models signed with them are loaded. The password of a key is prompted for, or
    read from KERASLLM_SIGN_PASSWORD.
    """
    from kerasllm.plurals import counted
    from kerasllm.signing import SIGNATURE
    from kerasllm.workflows.sign import sign as run_sign

    command = shlex.join(["kerasllm", *sys.argv[1:]])
    signed = run_sign(folder, key, password_of(key), command=command)
    if as_json:
        facts = {"file": str(Path(folder) / SIGNATURE), "key": signed.key.fingerprint}
        click.echo(json.dumps({**facts, "files": dict(signed.files)}))
        return
    files = counted(len(signed.files), "file")
    click.echo(f"Signed {files} with the key {signed.key.fingerprint[:16]}")
    click.echo(f"{Path(folder) / SIGNATURE}")


def password_of(key: str) -> str | None:
    """Asks for the password of a key that is encrypted, where somebody is there to answer."""
    from kerasllm.signing.keys import is_encrypted
    from kerasllm.workflows.sign import PASSWORD_VARIABLE

    if os.environ.get(PASSWORD_VARIABLE) or not sys.stdin.isatty() or not is_encrypted(key):
        return None
    return click.prompt(f"Password of {key}", hide_input=True, err=True)
