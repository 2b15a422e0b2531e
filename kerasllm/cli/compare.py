"""`kerasllm compare`: compare runs, and test whether differences are significant."""

from __future__ import annotations

import json

import click

from kerasllm.cli.run_argument import RUN


@click.command()
@click.argument("runs", nargs=-1, required=True, metavar="RUN RUN...", type=RUN)
@click.option("--output", metavar="FILE", help="Write an HTML page with all curves and examples.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object on stdout.")
def compare(runs: tuple[str, ...], output: str | None, as_json: bool) -> None:
    """Compare runs with the first one.

    \b
    kerasllm compare my_run other_run
    kerasllm compare my_run other_run third_run --output compared.html
    kerasllm compare five_seeds other_five_seeds

    Metrics and the significance of their differences on the same test examples; differences between
    the recipes; examples on which the runs disagree; curves. Runs whose test data differ are
    refused. A folder that `finetune --seeds` wrote is compared by the mean of its runs.
    """
    from kerasllm.workflows.compare_runs import compare_runs, show_comparison

    found = compare_runs(runs, output)
    if as_json:
        click.echo(json.dumps(found, ensure_ascii=False))
        return
    from rich.console import Console

    from kerasllm.workflows.report import Report

    show_comparison(found, Report(Console(highlight=False)))
    if output:
        click.echo(f"the comparison is in {output}", err=True)
