"""`kerasllm compress`: quantize, prune or distill a trained model."""

from __future__ import annotations

import json
import shlex
import sys
from pathlib import Path
from typing import Any

import click

from kerasllm import aliases
from kerasllm.cli import completion
from kerasllm.cli.run_argument import RUN
from kerasllm.cli.startup import import_tensorflow
from kerasllm.errors import CommandError


@click.command()
@click.argument("run", type=RUN)
@click.option(
    "--method",
    metavar="NAME",
    shell_complete=completion.methods,
    help="int8, int4, gptq, awq, prune or distill: short for --recipe compress_NAME.",
)
@click.option(
    "--recipe",
    metavar="NAME|FILE",
    shell_complete=completion.recipes,
    help="Name of a recipe, or a YAML file.",
)
@click.option(
    "--output", metavar="DIR", help="The new run directory.  [default: runs/RECIPE/DATE-TIME]"
)
@click.option(
    "--set",
    "overrides",
    multiple=True,
    metavar="KEY=VALUE",
    help="Override a key of the recipe, e.g. student.layers=2. Repeatable.",
)
@click.option(
    "--limit",
    metavar="SHARE",
    help="Largest share of the quality that may be lost: same as --set limit=SHARE.",
)
@click.option("--json", "as_json", is_flag=True, help="Print what was measured as one JSON object.")
def compress(
    run: str,
    method: str | None,
    recipe: str | None,
    output: str | None,
    overrides: tuple[str, ...],
    limit: str | None,
    as_json: bool,
) -> None:
    """Quantize, prune or distill a trained model.

    \b
    kerasllm compress my_run --method int8 --output smaller
    kerasllm compress my_run --method distill --set student.layers=3
    kerasllm compress my_run --recipe mine.yaml

    The result is a run like any other. Size, speed and quality before and after are measured on the
    test data of the run; if the model lost more than the limit, the exit status is 1.
    """
    from kerasllm import recipe as recipes
    from kerasllm.run import Run

    name = _recipe(method, recipe)
    settings = [*overrides, *([] if limit is None else [f"limit={limit}"])]
    # What else there is, `compress` refuses.
    loaded: Any = recipes.load(name, settings)
    Run.open(run)
    if output is not None:
        Run(output).refuse_existing()

    import_tensorflow()
    from kerasllm.workflows.compress import compress as run_compress

    made = run_compress(
        run,
        loaded,
        output=output,
        name=Path(name).stem,
        command=shlex.join(["kerasllm", *sys.argv[1:]]),
    )
    if as_json:
        measured = made.read_metrics()["compression"]
        click.echo(json.dumps({"run": str(made.path), **measured}, ensure_ascii=False))


def _recipe(method: str | None, recipe: str | None) -> str:
    """Returns the recipe that is meant."""
    from kerasllm.recipe.compression import METHODS

    if (method is None) == (recipe is None):
        raise click.UsageError("Give either --method or --recipe.")
    if recipe is not None:
        return recipe
    if method not in METHODS:
        if ours := aliases.METHODS.get(method.lower()):
            raise CommandError(
                f"No method is named {method!r}: here it is {ours}",
                where="--method",
                fix=f"type --method {ours}",
            )
        raise CommandError(
            f"No method is named {method!r}", where="--method", fix=f"use {', '.join(METHODS)}"
        )
    return f"compress_{method}"
