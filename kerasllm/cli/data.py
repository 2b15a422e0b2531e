"""`kerasllm data`: what is in data before a training, and data in other forms."""

from __future__ import annotations

import json
from collections.abc import Callable

import click

from kerasllm.cli.recipe_options import load_recipe

_COLUMNS = (
    click.option("--text", metavar="COLUMN", help="Column of the texts."),
    click.option("--text-pair", metavar="COLUMN", help="Column of the second texts."),
    click.option(
        "--label",
        multiple=True,
        metavar="COLUMN",
        help="Column of the labels. Repeatable, for a column of 0 and 1 a label.",
    ),
)


def column_options(command: Callable) -> Callable:
    """Adds the options that name columns."""
    for option in reversed(_COLUMNS):
        command = option(command)
    return command


@click.group()
def data() -> None:
    """Report on data, clean and convert them."""


@data.command()
@click.argument("files", nargs=-1, metavar="[FILE]...")
@click.option(
    "--recipe",
    metavar="NAME|FILE",
    help="Read the data as this recipe does, and count its tokens; without FILE its own data.",
)
@click.option("--validation", multiple=True, metavar="FILE", help="Validation data.")
@click.option("--test", multiple=True, metavar="FILE", help="Test data.")
@column_options
@click.option(
    "--set",
    "overrides",
    multiple=True,
    metavar="KEY=VALUE",
    help="Change a key of the recipe, as data.max_length=64.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the report as one JSON object.")
def report(
    files: tuple[str, ...],
    recipe: str | None,
    validation: tuple[str, ...],
    test: tuple[str, ...],
    text: str | None,
    text_pair: str | None,
    label: tuple[str, ...],
    overrides: tuple[str, ...],
    as_json: bool,
) -> None:
    """Show what is in data, and what is wrong with them.

    \b
    kerasllm data report reviews.csv
    kerasllm data report reviews.csv --test test.csv --recipe bert_cls

    Labels, lengths, languages; duplicates, leaks between the parts, labels in conflict, damaged
    texts, tokens that give labels away, personal data. No model is needed, and nothing is changed.
    """
    if not files and not recipe:
        raise click.UsageError("Name the files to report on, or a recipe with --recipe.")
    loaded = None
    if recipe:
        options = {
            **dict(train=files, validation=validation, test=test, overrides=overrides),
            **dict(text=text, text_pair=text_pair, label=label, seed=None, strategy=None),
        }
        loaded = load_recipe(recipe, options)
    elif overrides:
        raise click.UsageError("--set changes a recipe: name one with --recipe.")
    from kerasllm.workflows.data_report import data_report, show
    from kerasllm.workflows.report import Report

    parts = {"train": files, "validation": validation, "test": test}
    found = data_report(
        {part: spec for part, spec in parts.items() if spec},
        loaded,
        columns={"text": text, "text_pair": text_pair, "label": list(label) or None},
    )
    if as_json:
        click.echo(json.dumps(found.as_json(), ensure_ascii=False, indent=2))
    else:
        from rich.console import Console

        show(found, Report(Console(highlight=False)))
