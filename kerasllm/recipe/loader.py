"""Loads recipes: the file, settings over it, and every problem that the schema finds.

Defaults, ranges and what each key means stand in the schemas: what recipes share in
`kerasllm.recipe`, the rest in the file of each task. Nothing here imports TensorFlow, so that a
mistake in a recipe is told at once.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from kerasllm.errors import RecipeError
from kerasllm.recipe import files as recipe_files
from kerasllm.recipe import yaml_file as recipe_yaml
from kerasllm.recipe.compression import RECIPES as COMPRESSION
from kerasllm.recipe.files import names, path_of  # noqa: F401 - part of `kerasllm.recipe`
from kerasllm.recipe.python_values import settings_of, written_mapping
from kerasllm.recipe.schema import WholeRecipe, problems, together
from kerasllm.recipe.types import Section

Recipe = str | os.PathLike[str] | Mapping[str, Any] | WholeRecipe
"""A name or a file, a mapping of sections, or a recipe that was loaded before."""

Overrides = Sequence[str] | Mapping[str, Any]
"""Settings, each `"dotted.key=VALUE"`; or a mapping of sections and dotted keys to values."""

# A setting sets one key; to say so of a section needs no schema.
_SECTIONS = (
    *("model", "data", "training"),
    *("quantization", "pruning", "student", "distillation"),
)


def schema_of(task: str) -> type[WholeRecipe]:
    """Returns the schema of the recipes of a task, or of a way to make models smaller.

    Args:
        task: The value of `task:` in a recipe.

    Raises:
        RecipeError: If there is no such task, with the nearest name that there is.
    """
    # Tasks stand above recipes: each brings its schema, and none is known here by name.
    from kerasllm.tasks import task as tasks

    if task in COMPRESSION:
        return COMPRESSION[task]
    if task not in tasks.names():
        raise tasks.unknown(task, known=list(COMPRESSION))
    return tasks.find(task).Recipe


def load(recipe: Recipe, overrides: Overrides = ()) -> WholeRecipe:
    """Loads a recipe and checks it against the schema.

    Args:
        recipe: The name of a shipped recipe, the path of a YAML file, a mapping as such a file
            would hold it, or a recipe that was loaded before.
        overrides: Settings over it, each `"dotted.key=VALUE"`; the last one wins; or a
            mapping, `{"training": {"epochs": 3}}` or `{"training.epochs": 3}`. Where `data.train`
            is set, the recipe's own validation and test data are dropped, unless they are set
            too: they belong to the other data. Defaults to `()`.

    Returns:
        The recipe, with each key that nobody wrote at its default.

    Raises:
        RecipeError: With every problem found, each with its place and what was expected.

    Example:

    >>> load("bert_cls", ["data.train=mine.csv"]).data.test is None
    True
    >>> load("bert_cls", {"training": {"epochs": 3}}).training.epochs
    3
    """
    loaded, found = _check(recipe, overrides)
    if loaded is None:
        raise together(found)
    return loaded


def refuse_missing_data(recipe: Recipe, loaded: WholeRecipe) -> None:
    """Refuses a shipped recipe that comes without data, where nobody gave any.

    Args:
        recipe: What `loaded` was loaded from.
        loaded: The recipe with the settings over it.

    Raises:
        RecipeError: If its training data are still the name of a file that is not there.
    """
    if not isinstance(recipe, (str, os.PathLike)) or os.fspath(recipe) not in names():
        return
    train = loaded.data.train
    if train != load(recipe).data.train or not isinstance(train, str):
        return
    if ":" not in train and not os.path.exists(train):
        raise RecipeError(
            f"The recipe {recipe} has no bundled data, and there is no file {train} in the "
            "current folder",
            where="data.train",
            fix="give the training data: --train FILE",
        )


def older_settings(file: str | os.PathLike[str]) -> list[str]:
    """Returns settings for the keys that the recipe of a run lacks, as it was trained without them.

    Args:
        file: `recipe.yaml` of a run, which has all keys that there were when it began.
    """
    written = recipe_yaml.read(Path(file)).values
    if not written.get("task"):
        return []
    from kerasllm.tasks import task as tasks

    older = tasks.find(written["task"]).older if written["task"] in tasks.names() else {}
    return [
        f"{key}={value}"
        for key, value in older.items()
        if key.partition(".")[2] not in (written.get(key.partition(".")[0]) or {})
    ]


def validate(recipe: Recipe, overrides: Overrides = ()) -> list[RecipeError]:
    """Returns every problem of a recipe, none if `load` would take it.

    Args:
        recipe: As for `load`.
        overrides: As for `load`. Defaults to `()`.

    Returns:
        The problems. What stops the file from being read at all hides those that come after.
    """
    return _check(recipe, overrides)[1]


def _check(recipe: Recipe, overrides: Overrides) -> tuple[WholeRecipe | None, list[RecipeError]]:
    """Returns the recipe and no problems, or no recipe and all the problems."""
    try:
        written = _read(recipe)
    except RecipeError as error:
        return None, [error]
    _override(written, overrides)
    try:
        schema = _schema_of(written)
    except RecipeError as error:
        # What the other keys should be is not known then.
        return None, [*written.problems, error]
    for section in _sections(schema):
        # Absent, or all its keys are commented out.
        if written.values.get(section) is None:
            written.values[section] = {}
    try:
        loaded = schema.model_validate(written.values, context=written)
    except ValidationError as error:
        written.problems += problems(schema, error, written)
    if written.problems:
        return None, sorted(written.problems, key=_line_in_file)
    return loaded, []


def _read(recipe: Recipe) -> recipe_yaml.Written:
    if isinstance(recipe, WholeRecipe):
        recipe = recipe.model_dump()
    if isinstance(recipe, Mapping):
        return written_mapping(recipe)
    if isinstance(recipe, (str, os.PathLike)):
        return recipe_yaml.read(recipe_files.find(recipe))
    raise RecipeError(
        f"a recipe is a name, a file or a dict. Received: {recipe!r}",
        fix=f"the recipes are: {', '.join(names())}",
    )


def _schema_of(written: recipe_yaml.Written) -> type[WholeRecipe]:
    task, where = written.values.get("task"), written.place_of(("task",))
    if task is None or task == "":
        from kerasllm.tasks import task as tasks

        known = [*tasks.names(), *COMPRESSION]
        raise RecipeError(
            f"task is missing. Expected: {' or '.join(known)}",
            where=where,
            fix="name it at the top of the recipe, as `task: NAME`",
        )
    if not isinstance(task, str):
        raise RecipeError(f"task: expected a name. Received: {task}", where=where)
    try:
        return schema_of(task)
    except RecipeError as error:
        raise RecipeError(error.what, where=where, fix=error.fix) from None


def _sections(schema: type[WholeRecipe]) -> list[str]:
    """Returns the names of the sections of a schema."""
    return [
        name
        for name, field in schema.model_fields.items()
        if isinstance(field.annotation, type) and issubclass(field.annotation, Section)
    ]


def _line_in_file(problem: RecipeError) -> float:
    """Orders problems as they appear in the file, followed by those of settings."""
    where = problem.where or ""
    line = re.search(r":(\d+)$", where)
    return int(line[1]) if line and not where.startswith("--set ") else math.inf


def _settings(overrides: Overrides, problems_found: list[RecipeError]) -> list[recipe_yaml.Setting]:
    """Returns the settings, and notes those that are none."""
    if isinstance(overrides, Mapping):
        try:
            return list(settings_of(overrides))
        except RecipeError as error:
            problems_found.append(error)
            return []
    settings = []
    for text in [overrides] if isinstance(overrides, str) else overrides:
        try:
            settings.append(recipe_yaml.parse_setting(text))
        except RecipeError as error:
            problems_found.append(error)
    return settings


def _override(written: recipe_yaml.Written, overrides: Overrides) -> None:
    """Puts the settings over the file's values, and notes those that are none."""
    settings = _settings(overrides, written.problems)
    keys = [setting.key for setting in settings]
    if ("data", "train") in keys:
        for other in (("data", "validation"), ("data", "test")):
            if other not in keys:
                written.drop(other)
    for setting in settings:
        if len(setting.key) == 1 and setting.key[0] in _SECTIONS:
            what = f"{setting.key[0]} is a section, and a setting sets one key"
            fix = f"name the key, such as --set {setting.key[0]}.KEY=VALUE"
            written.problems.append(RecipeError(what, where=setting.place, fix=fix))
        else:
            written.set(setting)
