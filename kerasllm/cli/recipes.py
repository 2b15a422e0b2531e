"""`kerasllm recipes`: the recipes that are shipped, and checks of your own."""

from __future__ import annotations

import os
from pathlib import Path

import click

from kerasllm.errors import CommandError, RecipeError
from kerasllm.recipe import files as recipe_files
from kerasllm.run import shell_word

# `list` must be instant: pydantic, which the schema needs, is imported by the other commands.


@click.group()
def recipes() -> None:
    """List, show, copy and validate recipes."""


@recipes.command("list")
def list_recipes() -> None:
    """List the recipes that come with kerasllm."""
    names = recipe_files.names()
    width = max(map(len, names), default=0)
    for name in names:
        click.echo(f"{name:{width}}  {recipe_files.describe(recipe_files.path_of(name))}")


@recipes.command()
@click.argument("recipe", metavar="NAME|FILE")
@click.option(
    "--set",
    "overrides",
    multiple=True,
    metavar="KEY=VALUE",
    help="Override a key of the recipe, e.g. training.epochs=3. Repeatable.",
)
def show(recipe: str, overrides: tuple[str, ...]) -> None:
    """Print a resolved recipe: every key, its description and the value a run would use."""
    from kerasllm.recipe import load

    click.echo(load(recipe, overrides).to_yaml(explain=True), nl=False)


@recipes.command()
@click.argument("name")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--overwrite", is_flag=True, help="Replace FILE if it exists.")
def copy(name: str, file: Path, overwrite: bool) -> None:
    """Copy the recipe NAME to FILE, to edit it."""
    content = recipe_files.path_of(name).read_bytes()
    if os.path.isdir(file):
        raise CommandError(f"{file} is a folder", fix=f"name a file: {file / f'{name}.yaml'}")
    if os.path.exists(file) and not overwrite:
        raise CommandError(f"{file} exists", fix="choose another name, or add --overwrite")
    try:
        _write_whole(file, content)
    except OSError as error:
        raise CommandError(f"{file} cannot be written: {error.strerror}") from error
    click.echo(f"Written: {file}")
    verb = "compress RUN" if name.startswith("compress_") else "finetune"
    click.echo(f"Next:    kerasllm {verb} --recipe {shell_word(click.format_filename(file))}")


@recipes.command()
@click.argument("files", nargs=-1, required=True, metavar="FILE...")
def validate(files: tuple[str, ...]) -> None:
    """Validate recipes against the schema, and print every problem."""
    from kerasllm.recipe import together
    from kerasllm.recipe import validate as problems_of

    found: list[RecipeError] = []
    for file in files:
        problems = problems_of(file)
        found += problems
        if not problems:
            click.echo(f"{file}: ok")
    if found:
        raise together(found)


def _write_whole(file: Path, content: bytes) -> None:
    """Writes a file under another name first, so that it is whole or not there."""
    file.parent.mkdir(parents=True, exist_ok=True)
    temporary = file.with_name(f".{file.name}.{os.getpid()}")
    try:
        temporary.write_bytes(content)
        temporary.replace(file)
    finally:
        temporary.unlink(missing_ok=True)
