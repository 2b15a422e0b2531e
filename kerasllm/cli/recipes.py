"""`kerasllm recipes`: the recipes that are shipped, and checks of your own."""

from __future__ import annotations

import json
import os
from pathlib import Path

import click

from kerasllm.cli import completion
from kerasllm.errors import CommandError, RecipeError
from kerasllm.recipe import files as recipe_files
from kerasllm.run import shell_word

# `list` must be instant: pydantic, which the schema needs, is imported by the other commands.


@click.group()
def recipes() -> None:
    """List, show, copy and check recipes."""


@recipes.command("list")
@click.option(
    "--json", "as_json", is_flag=True, help="Print one JSON object a recipe, a line each."
)
def list_recipes(as_json: bool) -> None:
    """List the recipes that come with kerasllm."""
    names = recipe_files.names()
    width = max(map(len, names), default=0)
    for name in names:
        path = recipe_files.path_of(name)
        what = recipe_files.describe(path)
        if as_json:
            click.echo(json.dumps({"name": name, "description": what, "file": str(path)}))
        else:
            click.echo(f"{name:{width}}  {what}")


@recipes.command()
@click.argument("recipe", metavar="NAME|FILE", shell_complete=completion.recipes)
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
@click.argument("recipe", required=False, metavar="[NAME|FILE]", shell_complete=completion.recipes)
@click.option("--output", type=click.Path(path_type=Path), metavar="FILE", help="Write a file.")
def schema(recipe: str | None, output: Path | None) -> None:
    """Print the JSON schema of recipes, for editors.

    \b
    kerasllm recipes schema --output recipe.schema.json
    kerasllm recipes schema bert_cls

    Without a recipe, the schema covers all tasks. Editors with yaml-language-server use it if
    the first line of a recipe is

    \b
    # yaml-language-server: $schema=recipe.schema.json
    """
    from kerasllm.recipe.json_schema import json_schema
    from kerasllm.recipe.yaml_file import read

    task = None
    if recipe is not None:
        task = str(read(recipe_files.find(recipe)).values.get("task"))
    text = json.dumps(json_schema(task), indent=2, ensure_ascii=False) + "\n"
    if output is None:
        click.echo(text, nl=False)
        return
    try:
        _write_whole(output, text.encode())
    except OSError as error:
        raise CommandError(f"{output} cannot be written: {error.strerror}") from error
    click.echo(f"Written: {output}")


@recipes.command()
@click.argument("name", shell_complete=completion.recipe_names)
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
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object a file, a line each.")
def validate(files: tuple[str, ...], as_json: bool) -> None:
    """Validate recipes against the schema, and print every problem."""
    from kerasllm.recipe import together
    from kerasllm.recipe import validate as problems_of

    found: list[RecipeError] = []
    for file in files:
        problems = problems_of(file)
        found += problems
        if as_json:
            listed = [{"what": one.what, "where": one.where, "fix": one.fix} for one in problems]
            click.echo(json.dumps({"file": file, "problems": listed}, ensure_ascii=False))
        elif not problems:
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
