"""`kerasllm finetune`: train a model by a recipe."""

from __future__ import annotations

import shlex
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from kerasllm.addresses import is_address, redact
from kerasllm.cli.recipe_options import load_recipe, missing_recipe, recipe_options, title_of
from kerasllm.cli.startup import import_tensorflow

if TYPE_CHECKING:
    from kerasllm.recipe import WholeRecipe


@click.command()
@recipe_options
@click.option(
    "--output",
    metavar="DIR",
    help="The run directory, or its address (s3://...).  [default: runs/RECIPE/DATE-TIME]",
)
@click.option(
    "--resume",
    is_flag=True,
    help="Continue from the newest checkpoint; start if there is none. A finished run is trained "
    "further, with more epochs.",
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
@click.option(
    "--seeds",
    type=click.IntRange(2),
    metavar="N",
    help="Train N times, with as many seeds, into a folder of runs; show mean and spread.",
)
@click.option("--dry-run", is_flag=True, help="Do what `kerasllm plan` does.")
def finetune(
    recipe: str | None,
    output: str | None,
    resume: bool,
    accept_changes: bool,
    profile: str | None,
    seeds: int | None,
    dry_run: bool,
    verbose: bool,
    **options,
) -> None:
    """Train a model by a recipe.

    \b
    kerasllm finetune --recipe bert_cls
    kerasllm finetune --recipe bert_cls --train reviews.csv --set training.epochs=3
    kerasllm finetune --resume --output my_run
    kerasllm finetune --resume --output my_run --set training.epochs=5
    kerasllm finetune --recipe bert_cls --seeds 5 --output five_runs

    A file given with --train takes the place of all the recipe's data.
    """
    started = time.perf_counter()
    steps = _steps(profile) if profile else None
    source = _recipe(recipe, resume, output)
    loaded = load_recipe(source, options, of_run=recipe is None)
    name = Path(recipe).stem if recipe else "finetune"
    title = title_of(source) if recipe or not is_address(output) else redact(f"{output}")

    if seeds and not dry_run:
        _seeds(loaded, seeds, name, output, resume, accept_changes, profile)
        return
    import_tensorflow(loaded.training.strategy)
    if dry_run:
        from kerasllm.workflows.plan import plan

        if plan(loaded, name=name, title=title, output=output, verbose=verbose)["problems"]:
            sys.exit(1)
        return

    from kerasllm.workflows.finetune import finetune as run_finetune

    run_finetune(
        loaded,
        name=name,
        title=title,
        verbose=verbose,
        output=output,
        resume=resume,
        accept_changes=accept_changes,
        profile=steps,
        command=shlex.join(["kerasllm", *sys.argv[1:]]),
        started=started,
    )


def _seeds(
    recipe: WholeRecipe,
    seeds: int,
    name: str,
    output: str | None,
    resume: bool,
    accept_changes: bool,
    profile: str | None,
) -> None:
    """Trains several times, each time in a process that imports TensorFlow itself."""
    for option, given in (("--profile", profile), ("--accept-changes", accept_changes)):
        if given:
            raise click.UsageError(f"{option} is for one training, and --seeds asks for several.")
    from kerasllm.workflows.seeds import finetune_seeds

    finetune_seeds(recipe, seeds, name=name, output=output, resume=resume)


def _recipe(recipe: str | None, resume: bool, output: str | None) -> str | Path:
    """Returns the recipe to load: what was named, or that of the run to resume."""
    if recipe:
        return recipe
    if not (resume and output):
        raise click.UsageError(missing_recipe())
    from kerasllm.errors import RunError
    from kerasllm.run import Run
    from kerasllm.workflows import remote_run

    if remote_run.is_remote(output):
        return remote_run.read_recipe(output)
    run = Run(output)
    if not run.recipe.is_file():
        raise RunError(
            "There is no run to resume",
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
