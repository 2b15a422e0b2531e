"""`kerasllm runs`: the runs in a folder, with their metrics."""

from __future__ import annotations

import json

import click


@click.command()
@click.argument("folders", nargs=-1, metavar="[FOLDER]...")
@click.option(
    "--json", "as_json", is_flag=True, help="Print one JSON object per line, one per run."
)
def runs(folders: tuple[str, ...], as_json: bool) -> None:
    """List runs with their metrics, the newest first.

    \b
    kerasllm runs
    kerasllm runs experiments --json

    FOLDER defaults to runs/, where finetune puts them.
    """
    from kerasllm.workflows.compare_runs import list_runs, show_runs

    found = list_runs(folders or ("runs",))
    if as_json:
        for run in found:
            click.echo(json.dumps(run, ensure_ascii=False))
        return
    if not found:
        click.echo(f"there are no runs in {', '.join(folders or ('runs',))}", err=True)
        return
    from rich.console import Console

    from kerasllm.workflows.report import Report

    show_runs(found, Report(Console(highlight=False)))
