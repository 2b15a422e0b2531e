"""`kerasllm finetune`: train a model by a recipe."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

import click

from kerasllm.cli.quiet import import_tensorflow


@click.command()
@click.option(
    "--recipe",
    metavar="NAME|FILE",
    help="A recipe's name, or a YAML file; with --resume by default the run's own.",
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
@click.option(
    "--strategy",
    metavar="NAME",
    help="auto, one_device, mirrored, multi_worker, tpu, tpu:NAME or virtual:N: the same as "
    "--set training.strategy=NAME.",
)
@click.option(
    "--resume", is_flag=True, help="Go on from the newest checkpoint; begin if there is none."
)
@click.option(
    "--accept-changes",
    is_flag=True,
    help="Resume although the recipe or the data were changed.",
)
@click.option(
    "--profile",
    metavar="STEPS",
    help="Write a TensorBoard profile of some steps, as 10:20 or 10.",
)
@click.option("--dry-run", is_flag=True, help="Stop before the first step: show what would run.")
def finetune(
    recipe: str | None,
    train: tuple[str, ...],
    validation: tuple[str, ...],
    test: tuple[str, ...],
    output: str | None,
    overrides: tuple[str, ...],
    seed: int | None,
    strategy: str | None,
    resume: bool,
    accept_changes: bool,
    profile: str | None,
    dry_run: bool,
) -> None:
    """Train a model by a recipe.

    \b
    kerasllm finetune --recipe bert_cls
    kerasllm finetune --recipe bert_cls --train reviews.csv --set training.epochs=3
    kerasllm finetune --resume --output my_run

    A file given with --train takes the place of all the recipe's data.
    """
    from kerasllm import recipe as recipes

    options = {"data.train": train, "data.validation": validation, "data.test": test}
    given = [f"{key}={_as_yaml(files)}" for key, files in options.items() if files]
    if seed is not None:
        given.append(f"training.seed={seed}")
    if strategy is not None:
        given.append(f"training.strategy={strategy}")
    steps = _steps(profile) if profile else None
    loaded = recipes.load(_recipe(recipe, resume, output), [*overrides, *given])

    import_tensorflow()
    if dry_run:
        from kerasllm.workflows.plan import plan

        plan(loaded, name=Path(recipe).stem if recipe else "finetune")
        return

    from kerasllm.workflows.finetune import finetune as run_finetune

    run_finetune(
        loaded,
        name=Path(recipe).stem if recipe else "finetune",
        output=output,
        resume=resume,
        accept_changes=accept_changes,
        profile=steps,
        command=shlex.join(["kerasllm", *sys.argv[1:]]),
    )


def _recipe(recipe: str | None, resume: bool, output: str | None) -> str | Path:
    """Returns the recipe to load: what was named, or that of the run to go on with."""
    if recipe:
        return recipe
    if not (resume and output):
        raise click.UsageError("Missing option '--recipe'.")
    from kerasllm.errors import RunError
    from kerasllm.run import Run

    run = Run(output)
    if not run.recipe.is_file():
        raise RunError(
            "There is no run to go on with",
            where=output,
            fix="begin one with --recipe, or name the run directory with --output",
        )
    return run.recipe


def _steps(profile: str) -> tuple[int, int]:
    """Returns the first and the last step of `10:20` or `10`."""
    first, _, last = profile.partition(":")
    last = last or first
    if not (first.isdecimal() and last.isdecimal() and 1 <= int(first) <= int(last)):
        raise click.BadParameter(
            f"expected a step or FIRST:LAST, counted from 1. Received: {profile}",
            param_hint="--profile",
        )
    return int(first), int(last)


def _as_yaml(files: tuple[str, ...]) -> str:
    """Returns files as a YAML value: a text, or a list of texts."""
    import json

    return json.dumps(list(files) if len(files) > 1 else files[0], ensure_ascii=False)
