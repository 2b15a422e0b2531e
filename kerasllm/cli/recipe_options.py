"""The options that choose and override a recipe, shared by several verbs."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import TYPE_CHECKING

import click

from kerasllm.cli import completion
from kerasllm.errors import RecipeError

if TYPE_CHECKING:
    from pathlib import Path

    from kerasllm.recipe import WholeRecipe

_OPTIONS = (
    click.option(
        "--recipe",
        metavar="NAME|FILE",
        shell_complete=completion.recipes,
        help="Name of a recipe, or a YAML file.  [default with --resume: the run's own]",
    ),
    click.option(
        "--train",
        multiple=True,
        metavar="FILE",
        help="Training data: a file, folder, glob or address (s3://, https://, hf://datasets/...).",
    ),
    click.option(
        "--validation",
        multiple=True,
        metavar="FILE",
        help="Validation data.  [default: split from the training data]",
    ),
    click.option("--test", multiple=True, metavar="FILE", help="Test data, evaluated at the end."),
    click.option("--text", metavar="COLUMN", help="Column of the texts: sets data.text."),
    click.option(
        "--text-pair", metavar="COLUMN", help="Column of the second texts: sets data.text_pair."
    ),
    click.option(
        "--label",
        multiple=True,
        metavar="COLUMN",
        help="Column of the labels: sets data.label. Repeat it for one 0/1 column per label.",
    ),
    click.option(
        "--encoding", metavar="NAME", help="Encoding of the files, e.g. cp1252: sets data.encoding."
    ),
    click.option(
        "--delimiter",
        metavar="CHARACTER",
        help="Field delimiter of csv files: sets data.delimiter.",
    ),
    click.option(
        "--set",
        "overrides",
        multiple=True,
        metavar="KEY=VALUE",
        help="Override a key of the recipe, e.g. training.epochs=3. Repeatable.",
    ),
    click.option(
        "--verbose", is_flag=True, help="Print all keys of the recipe, not only the changed ones."
    ),
    click.option("--seed", type=int, metavar="N", help="Same as --set training.seed=N."),
    click.option(
        "--strategy",
        metavar="NAME",
        shell_complete=completion.strategies,
        help="auto, one_device, mirrored, multi_worker, tpu, tpu:NAME, virtual:N, sharded or "
        "sharded:DATAxMODEL: same as --set training.strategy=NAME.",
    ),
    click.option(
        "--track",
        multiple=True,
        metavar="NAME",
        help="Experiment tracker: mlflow, wandb, trackio or tensorboard. Repeatable; same as --set "
        "training.track=NAME.",
    ),
)
# The options that name columns, and how files are read, by the key of `data` that they set.
_COLUMNS = ("text", "text_pair", "label")
_OF_DATA = (*_COLUMNS, "encoding", "delimiter")


def recipe_options(command: Callable) -> Callable:
    """Adds the options to a command, which gets `recipe` and, in `**options`, the others."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def missing_recipe() -> str:
    """Returns what to tell who named no recipe."""
    return (
        "Missing option '--recipe'. It defines what is trained: --recipe bert_cls classifies "
        "texts, "
        "--recipe gpt_sft_lora tunes on conversations; `kerasllm recipes list` shows all."
    )


def title_of(recipe: str | Path) -> str | None:
    """Returns the file of a recipe, to be shown; `None` of those that are shipped."""
    from kerasllm.recipe.files import names

    return None if str(recipe) in names() else str(recipe)


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
    if trackers := options.get("track"):
        settings.append(f"training.track={_as_yaml(trackers)}")
    loaded = recipes.load(recipe, settings)
    if not hasattr(loaded, "data"):
        raise RecipeError(
            f"The recipe is of the task {loaded.task}, which starts from a trained model",
            where=str(recipe),
            fix=f"kerasllm compress RUN --recipe {recipe}",
        )
    if not any(setting.startswith("data.train=") for setting in settings):
        recipes.refuse_missing_data(recipe, loaded)
    columns = {key: options[key] for key in _OF_DATA if options.get(key)}
    if not columns:
        return loaded
    _refuse_columns(columns, loaded, str(recipe))
    return recipes.load(recipe, settings + [f"data.{k}={_as_yaml(v)}" for k, v in columns.items()])


def _refuse_columns(columns: dict, recipe: WholeRecipe, where: str) -> None:
    """Refuses options for columns that the data of the recipe's task do not have."""
    known = type(recipe.data).model_fields
    for key in columns:
        if key in known:
            continue
        takes = [_option(name) for name in _COLUMNS if name in known]
        raise RecipeError(
            f"The recipe is of the task {recipe.task}, whose data have no data.{key}",
            where=f"{_option(key)}, {where}",
            fix=f"leave {_option(key)} out"
            + (f"; {' and '.join(takes)} names a column" if takes else ""),
        )


def _option(key: str) -> str:
    return f"--{key.replace('_', '-')}"


def _as_yaml(given: str | tuple[str, ...]) -> str:
    """Returns what an option was given as a YAML value: a text, or a list of texts."""
    one = given[0] if isinstance(given, tuple) and len(given) == 1 else given
    return json.dumps(one, ensure_ascii=False)
