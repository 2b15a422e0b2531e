"""`kerasllm report`: write the report of a run."""

from __future__ import annotations

import json
from pathlib import Path

import click

from kerasllm.cli.run_argument import RUN
from kerasllm.run import Run


@click.command()
@click.argument("run", metavar="RUN", type=RUN)
@click.option("--output", metavar="FILE", help="The file to write.  [default: RUN/report.html]")
@click.option(
    "--format",
    type=click.Choice(["html", "md"]),
    default="html",
    show_default=True,
    help="A page that opens offline, or a model card.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the report as one JSON object.")
def report(run: str, output: str | None, format: str, as_json: bool) -> None:
    """Write the report of a run.

    \b
    kerasllm report my_run
    kerasllm report my_run --output somewhere/my_run.html
    kerasllm report my_run --format md
    kerasllm report my_run --json

    The model and its data, metrics with confidence intervals, where the model fails, its most
    confident mistakes, curves, and the command that trains it again. With --json alone no file is
    written. A few of the mistakes are explained, where that takes only some seconds; all of them by
    `kerasllm explain RUN --mistakes`.
    """
    from kerasllm.workflows.report_run import report_run

    if as_json and output is None:
        from kerasllm.reports.damaged import damaged_run_refused
        from kerasllm.reports.run_facts import facts_for_report

        with damaged_run_refused(run):
            click.echo(json.dumps(facts_for_report(run), ensure_ascii=False))
        return
    path, facts = report_run(run, output, format=format)
    if format == "html" and facts["finished"] and facts["mistakes"]:
        path, facts = _explained(run, output, path, facts)
    if as_json:
        click.echo(json.dumps(facts, ensure_ascii=False))
    else:
        if best := facts["headline"]:
            low_high = best["interval"]
            between = f", 95% interval {low_high[0]:.4f} to {low_high[1]:.4f}" if low_high else ""
            click.echo(f"{best['name']} {best['value']:.4f} on the {best['part']} data{between}")
        click.echo(f"the report is in {path}", err=True)


def _explained(run: str, output: str | None, path: Path, facts: dict) -> tuple[Path, dict]:
    """Explains a few mistakes of a run where nothing has, and writes its report again."""
    from rich.console import Console

    from kerasllm.workflows.explain_mistakes import explain_for_report
    from kerasllm.workflows.report_run import report_run

    explanations = Run(run).explanations
    if explanations.is_file():
        return path, facts
    with Console(stderr=True).status("explaining mistakes"):
        why_not = explain_for_report(Run(run))
    if why_not:
        click.echo(f"the mistakes are not explained: {why_not}", err=True)
    return report_run(run, output) if explanations.is_file() else (path, facts)
