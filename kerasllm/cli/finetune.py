"""`kerasllm finetune`: train a model by a recipe."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

import click

from kerasllm.cli.quiet import import_tensorflow


@click.command()
@click.option(
    "--recipe", required=True, metavar="NAME|FILE", help="A recipe's name, or a YAML file."
)
@click.option(
    "--train",
    multiple=True,
    metavar="FILE",
    help="Training data: csv, tsv, jsonl, parquet, .gz, glob.",
)
@click.option(
    "--validation",
    multiple=True,
    metavar="FILE",
    help="Validation data; without it a part of train.",
)
@click.option("--test", multiple=True, metavar="FILE", help="Test data, measured at the end.")
@click.option(
    "--output", metavar="DIR", help="The run directory.  [default: runs/RECIPE/DATE-TIME]"
)
@click.option(
    "--set",
    "overrides",
    multiple=True,
    metavar="KEY=VALUE",
    help="Change a key of the recipe, as training.epochs=3.",
)
@click.option("--seed", type=int, metavar="N", help="The same as --set training.seed=N.")
@click.option("--dry-run", is_flag=True, help="Stop before the first step: show what would run.")
def finetune(
    recipe: str,
    train: tuple[str, ...],
    validation: tuple[str, ...],
    test: tuple[str, ...],
    output: str | None,
    overrides: tuple[str, ...],
    seed: int | None,
    dry_run: bool,
) -> None:
    """Train a model by a recipe.

    \b
    kerasllm finetune --recipe bert_cls
    kerasllm finetune --recipe bert_cls --train reviews.csv --set training.epochs=3

    A file given with --train takes the place of all the recipe's data.
    """
    from kerasllm import recipe as recipes

    options = {"data.train": train, "data.validation": validation, "data.test": test}
    given = [f"{key}={_as_yaml(files)}" for key, files in options.items() if files]
    if seed is not None:
        given.append(f"training.seed={seed}")
    loaded = recipes.load(recipe, [*overrides, *given])

    import_tensorflow()
    from kerasllm.workflows.finetune import finetune as run_finetune

    run_finetune(
        loaded,
        name=Path(recipe).stem,
        output=output,
        dry_run=dry_run,
        command=shlex.join(["kerasllm", *sys.argv[1:]]),
    )


def _as_yaml(files: tuple[str, ...]) -> str:
    """Returns files as a YAML value: a text, or a list of texts."""
    import json

    return json.dumps(list(files) if len(files) > 1 else files[0], ensure_ascii=False)
