"""`kerasllm verify`: check a folder's signature, checksums and audit trail."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from kerasllm.workflows.sign import Verified


@click.command()
@click.argument("folder", metavar="FOLDER")
@click.option(
    "--key",
    "keys",
    multiple=True,
    metavar="FILE",
    help="Trusted public key, or a folder of them. Repeatable.  [default: those of "
    "the variable KERASLLM_TRUST]",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def verify(folder: str, keys: tuple[str, ...], as_json: bool) -> None:
    """Verify the signature, checksums and audit trail of a run, an export or a preset.

    \b
    kerasllm verify my_run --key my.pub
    kerasllm verify downloaded --key trusted_keys/

    Files added, changed or removed after signing are named, as are changed lines of the audit
    trail; the exit status is then 2.
    """
    from kerasllm.workflows.sign import verify as run_verify

    found = run_verify(folder, keys)
    if as_json:
        click.echo(json.dumps(_as_json(found)))
        return
    for name, what in _lines(found):
        click.echo(f"{name:<10} {what}")


def _lines(found: Verified):
    from kerasllm.plurals import counted

    if found.signed:
        key = found.signed.key
        yield "signature", f"{counted(len(found.signed.files), 'file')} as they were signed"
        yield "", f"with the key {key.fingerprint[:16]}, {key.file}"
    else:
        yield "signature", "none"
    for folder, count in found.recorded.items():
        yield "checksums", f"{counted(count, 'file')} in {folder} as they were written"
    if found.trail:
        yield "audit", f"{counted(found.trail.lines, 'line')}, each after the one before it"
        for number in found.trail.cut_off:
            yield "", f"line {number} was cut off while it was written"


def _as_json(found: Verified) -> dict:
    signed = found.signed
    return {
        "signed": bool(signed),
        "key": signed and signed.key.fingerprint,
        "files": signed and dict(signed.files),
        "checksums": found.recorded,
        "audit_lines": found.trail and found.trail.lines,
    }
