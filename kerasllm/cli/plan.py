"""`kerasllm plan`: check a training run before it starts."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import click

from kerasllm.cli.recipe_options import load_recipe, missing_recipe, recipe_options, title_of
from kerasllm.cli.startup import import_tensorflow
from kerasllm.recipe.sizes import bytes_of


@click.command()
@recipe_options
@click.option(
    "--replicas",
    type=click.IntRange(1),
    metavar="N",
    help="Number of replicas on the target machines, if this is not one of them.",
)
@click.option(
    "--memory",
    metavar="SIZE",
    help="Memory of each target device, e.g. 16GB or 16GiB.",
)
@click.option(
    "--output", metavar="DIR", help="The run directory to be: its free disk space is checked."
)
@click.option("--no-step", is_flag=True, help="Skip the training step.")
@click.option("--json", "as_json", is_flag=True, help="Print the plan as JSON.")
def plan(
    recipe: str | None,
    replicas: int | None,
    memory: str | None,
    output: str | None,
    no_step: bool,
    as_json: bool,
    verbose: bool,
    **options,
) -> None:
    """Check a training run before it starts: steps, memory, errors.

    \b
    kerasllm plan --recipe bert_cls
    kerasllm plan --recipe bert_cls --strategy tpu --replicas 8 --memory 16GB

    Devices, batches, steps, shapes, memory, disk, and one real step on virtual devices: a machine
    without accelerators can check a job that is meant for one.
    """
    if not recipe:
        raise click.UsageError(missing_recipe())
    device_bytes = parse_size(memory) if memory else None
    loaded = load_recipe(recipe, options)
    import_tensorflow(loaded.training.strategy)
    from kerasllm.workflows.plan import plan as make_plan

    found = make_plan(
        loaded,
        name=Path(recipe).stem,
        title=title_of(recipe),
        verbose=verbose,
        replicas=replicas,
        device_bytes=device_bytes,
        output=output,
        step=not no_step,
    )
    if as_json:
        click.echo(json.dumps(found, ensure_ascii=False, indent=2))
    if found["problems"]:
        sys.exit(1)


def parse_size(text: str, option: str = "--memory") -> int:
    """Returns the bytes of `16GB`, `16GiB` or a number.

    Raises:
        click.BadParameter: If it is none of these.
    """
    size = bytes_of(text)
    if size is None:
        raise click.BadParameter(
            f"expected a size such as 16GB or 16GiB. Received: {text}", param_hint=option
        )
    return size
