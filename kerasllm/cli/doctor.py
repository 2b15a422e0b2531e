"""`kerasllm doctor`: check the installation."""

from __future__ import annotations

import json

import click

from kerasllm.cli.startup import import_tensorflow
from kerasllm.environment import keras_problem


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object on stdout.")
def doctor(as_json: bool) -> None:
    """Check the installation: versions, devices, what works.

    Every check is actually run. A failed check says what to do, and the exit status is 1.
    """
    if keras_problem() is None:
        import_tensorflow()
    from kerasllm.workflows.doctor import diagnose

    checks = diagnose()
    if as_json:
        click.echo(json.dumps([check.__dict__ for check in checks], ensure_ascii=False))
    else:
        width = max(len(check.name) for check in checks)
        for check in checks:
            mark = {True: "ok  ", False: "FAIL", None: "    "}[check.passed]
            click.echo(f"{mark}  {check.name:<{width}}  {check.result}")
            if check.fix:
                click.echo(f"      {'':<{width}}  do: {check.fix}")
    if any(check.passed is False for check in checks):
        raise SystemExit(1)
