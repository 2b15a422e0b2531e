"""`kerasllm evaluate`: measure a trained model on labelled data."""

from __future__ import annotations

import json

import click

from kerasllm.cli.quiet import import_tensorflow


@click.command()
@click.argument("run", metavar="RUN")
@click.option(
    "--data",
    multiple=True,
    required=True,
    metavar="FILE",
    help="Labelled data: csv, tsv, jsonl, parquet, .gz, glob.",
)
@click.option("--text", metavar="COLUMN", help="Column of the texts.  [default: the recipe's]")
@click.option("--label", metavar="COLUMN", help="Column of the labels.  [default: the recipe's]")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object on stdout.")
def evaluate(
    run: str, data: tuple[str, ...], text: str | None, label: str | None, as_json: bool
) -> None:
    """Measure a trained model on labelled data.

    \b
    kerasllm evaluate my_run --data reviews.csv
    kerasllm evaluate my_run --data starter:movie_reviews --json
    """
    from kerasllm.run import Run

    Run.open(run)

    import_tensorflow()
    from rich.console import Console

    from kerasllm.evaluation.tables import ConfusionTable, metrics_table, per_class_table
    from kerasllm.workflows.evaluate import evaluate as run_evaluate

    metrics = run_evaluate(run, list(data), text=text, label=label)
    if as_json:
        click.echo(json.dumps(metrics, ensure_ascii=False))
        return
    console = Console()
    with console.capture() as tables:
        for table in (
            metrics_table({", ".join(data): metrics}),
            per_class_table(metrics),
            ConfusionTable(metrics["confusion_matrix"], list(metrics["per_class"])),
        ):
            console.print(table)
            console.print()
    click.echo(tables.get(), nl=False)
