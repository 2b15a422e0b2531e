"""The options that choose a recipe and change it, which several verbs share."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import TYPE_CHECKING

import click

from kerasllm.errors import RecipeError

if TYPE_CHECKING:
    from pathlib import Path

    from kerasllm.recipe import WholeRecipe

_OPTIONS = (
    click.option(
        "--recipe",
        metavar="NAME|FILE",
        help="A recipe's name, or a YAML file; with --resume by default the run's own.",
    ),
    click.option(
        "--train",
        multiple=True,
        metavar="FILE",
        help="Training data: csv, tsv, jsonl, parquet, .gz, glob.",
    ),
    click.option(
        "--validation",
        multiple=True,
        metavar="FILE",
        help="Validation data; without it a part of train.",
    ),
    click.option(
        "--test", multiple=True, metavar="FILE", help="Test data, measured at the end."
    ),
    click.option(
        "--set",
        "overrides",
        multiple=True,
        metavar="KEY=VALUE",
        help="Change a key of the recipe, as training.epochs=3.",
    ),
    click.option("--seed", type=int, metavar="N", help="The same as --set training.seed=N."),
    click.option(
        "--strategy",
        metavar="NAME",
        help="auto, one_device, mirrored, multi_worker, tpu, tpu:NAME or virtual:N: the same "
        "as --set training.strategy=NAME.",
    ),
)


def recipe_options(command: Callable) -> Callable:
    """Adds the options to a command, which gets `recipe` and, in `**options`, the others."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def load_recipe(recipe: str | Path, options: dict, *, of_run: bool = False) -> WholeRecipe:
    """Loads a recipe with the options over it.

    Args:
        recipe: Its name or file.
        options: What the options of `recipe_options` gave, but for `recipe`.
        of_run: Whether it is the recipe of a run, perhaps of an older version. Defaults to `False`.

    Raises:
        RecipeError: If the recipe or an option is refused.
    """
    from kerasllm import recipe as recipes

    settings = [*(recipes.older_settings(recipe) if of_run else ()), *options["overrides"]]
    for part in ("train", "validation", "test"):
        if files := options[part]:
            settings.append(f"data.{part}={_as_yaml(files)}")
    for key in ("seed", "strategy"):
        if options[key] is not None:
            settings.append(f"training.{key}={options[key]}")
    loaded = recipes.load(recipe, settings)
    if not hasattr(loaded, "data"):
        raise RecipeError(
            f"The recipe is of the task {loaded.task}, which begins with a trained model",
            where=str(recipe),
            fix=f"kerasllm compress RUN --recipe {recipe}",
        )
    return loaded


def _as_yaml(files: tuple[str, ...]) -> str:
    """Returns files as a YAML value: a text, or a list of texts."""
    return json.dumps(list(files) if len(files) > 1 else files[0], ensure_ascii=False)
