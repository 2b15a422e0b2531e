"""`kerasllm finetune`: fine-tune a model from a recipe."""

from __future__ import annotations

import json
import shlex
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

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
    help="Resume from the latest checkpoint, or start if there is none. With more epochs, train a "
    "finished run further.",
)
@click.option(
    "--accept-changes",
    is_flag=True,
    help="Resume even if the recipe or the data have changed.",
)
@click.option(
    "--profile",
    metavar="STEPS",
    help="Write a TensorBoard profile of these steps, e.g. 10:20 or 10.",
)
@click.option(
    "--seeds",
    type=click.IntRange(2),
    metavar="N",
    help="Train with N different seeds into one folder; show mean and standard deviation.",
)
@click.option("--dry-run", is_flag=True, help="Same as `kerasllm plan`.")
@click.option("--json", "as_json", is_flag=True, help="Print the metrics as one JSON object.")
def finetune(
    recipe: str | None,
    output: str | None,
    resume: bool,
    accept_changes: bool,
    profile: str | None,
    seeds: int | None,
    dry_run: bool,
    as_json: bool,
    verbose: bool,
    **options,
) -> None:
    """Fine-tune a model from a recipe.

    \b
    kerasllm finetune --recipe bert_cls
    kerasllm finetune --recipe bert_cls --train reviews.csv --set training.epochs=3
    kerasllm finetune --resume --output my_run
    kerasllm finetune --resume --output my_run --set training.epochs=5
    kerasllm finetune --recipe bert_cls --seeds 5 --output five_runs

    A file given with --train replaces all the data of the recipe.
    """
    started = time.perf_counter()
    steps = _steps(profile) if profile else None
    source = _recipe(recipe, resume, output)
    loaded = load_recipe(source, options, of_run=recipe is None)
    name = Path(recipe).stem if recipe else "finetune"
    title = title_of(source) if recipe or not is_address(output) else redact(f"{output}")

    if seeds and not dry_run:
        found = _seeds(loaded, seeds, name, output, resume, accept_changes, profile)
        if as_json:
            click.echo(json.dumps(found, ensure_ascii=False))
        return
    import_tensorflow(loaded.training.strategy)
    if dry_run:
        from kerasllm.workflows.plan import plan

        found = plan(loaded, name=name, title=title, output=output, verbose=verbose)
        if as_json:
            click.echo(json.dumps(found, ensure_ascii=False))
        if found["problems"]:
            sys.exit(1)
        return

    from kerasllm.workflows.finetune import finetune as run_finetune

    run = run_finetune(
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
    # Of several workers the first one tells.
    if as_json and run is not None:
        click.echo(json.dumps({"run": str(run.path), **run.read_metrics()}, ensure_ascii=False))


def _seeds(
    recipe: WholeRecipe,
    seeds: int,
    name: str,
    output: str | None,
    resume: bool,
    accept_changes: bool,
    profile: str | None,
) -> dict[str, Any]:
    """Trains several times, each time in a process that imports TensorFlow itself."""
    for option, given in (("--profile", profile), ("--accept-changes", accept_changes)):
        if given:
            raise click.UsageError(f"{option} is for a single run, and --seeds trains several.")
    from kerasllm.workflows.seeds import finetune_seeds

    return finetune_seeds(recipe, seeds, name=name, output=output, resume=resume)


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
            fix="start one with --recipe, or give its run directory with --output",
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
