"""The search space: recipe keys and their ranges."""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kerasllm import recipe as recipes
from kerasllm.errors import RecipeError
from kerasllm.recipe import WholeRecipe, yaml_file
from kerasllm.recipe.yaml_file import Setting, parse_setting
from kerasllm.tasks.task import task_of
from kerasllm.tuning.dimension import FORMS, Dimension, as_setting, as_yaml, parsed, value_at

Params = dict[str, Any]
"""A value for each key of a space: a number, or the text of a choice."""

# What decides which rows a trial is measured on, and by what: all trials share it.
_SHARED = {
    "task": "a search has one task",
    "data.train": "validation may be split from it, and trials are compared on the same rows",
    "data.validation": "trials are compared on the same rows",
    "data.validation_split": "trials are compared on the same rows",
    **{
        f"data.{key}": "trials are compared on the same rows and labels"
        for key in ("ignore_labels", "label", "label_names", "label_separator", "on_bad_row")
    },
    "data.problem": "trials are compared by the same metric",
    "data.test": "the test data are not used by a search",
    "training.seed": "the seed is not a setting to optimize, and may change the validation split",
}
# Where a discrete space is enumerated, to find what is left of it.
_MOST_ENUMERATED = 100_000


@dataclass(frozen=True)
class Space:
    """What a search varies in a recipe.

    Attributes:
        recipe: The recipe.
        dimensions: The keys that vary.
    """

    recipe: WholeRecipe
    dimensions: tuple[Dimension, ...]

    @property
    def count(self) -> float:
        """How many settings there are; infinite where a number is not whole."""
        return math.prod(dimension.count for dimension in self.dimensions)

    def settings(self, params: Mapping[str, Any]) -> list[str]:
        """Returns the values of a trial as `--set` takes them."""
        return [f"{key}={as_setting(value)}" for key, value in params.items()]

    def recipe_of(self, params: Mapping[str, Any], *more: str) -> WholeRecipe:
        """Returns the recipe with the values of a trial.

        Args:
            params: The values.
            *more: Settings on top of them.

        Raises:
            RecipeError: If the values do not go together.
        """
        return recipes.load(self.recipe, [*self.settings(params), *more])

    def default(self) -> Params | None:
        """Returns the recipe's own values, or `None` where one of them is not in the space."""
        found: Params = {}
        for dimension in self.dimensions:
            value = value_at(self.recipe, dimension.key)
            if dimension.kind == "choice":
                same = [
                    choice
                    for choice in dimension.choices
                    if value_at(self.recipe_of({dimension.key: choice}), dimension.key) == value
                ]
                if not same:
                    return None
                found[dimension.key] = same[0]
            elif isinstance(value, int | float) and dimension.low <= value <= dimension.high:
                found[dimension.key] = int(value) if dimension.kind == "int" else float(value)
            else:
                return None
        return found

    def left(self, tried: Sequence[Mapping[str, Any]], seed: int) -> Params | None:
        """Returns settings that were not tried yet, at random; `None` where none is left.

        Args:
            tried: The settings that were tried.
            seed: Of the choice.
        """
        if self.count > _MOST_ENUMERATED:
            return None
        keys = [dimension.key for dimension in self.dimensions]
        known = {tuple(params[key] for key in keys) for params in tried}
        all_of_them = itertools.product(*(dimension.values for dimension in self.dimensions))
        rest = [values for values in all_of_them if values not in known]
        return dict(zip(keys, random.Random(seed).choice(rest))) if rest else None

    def as_yaml(self) -> str:
        """Returns the space as a file that `--space` takes."""
        lines = [f"{dimension.key}: {as_yaml(dimension)}" for dimension in self.dimensions]
        return "\n".join(lines) + "\n"


def space_of(recipe: WholeRecipe, given: Sequence[str] = ()) -> Space:
    """Returns the space that a search varies a recipe over.

    Args:
        recipe: The recipe.
        given: What `--space` was given: `KEY=RANGE`, or files of such. Defaults to none: the
            `search_space` of the recipe's task.

    Raises:
        RecipeError: With everything that is wrong: unknown keys, empty ranges, values that a key
            does not take.

    Example:

    >>> space = space_of(load("bert_cls"), ["training.epochs=1,2,3"])
    >>> space.count
    3
    """
    found: list[RecipeError] = []
    if given:
        written = [each for text in given for each in _written(text, found)]
    else:
        task = task_of(recipe)
        written = [
            Setting(tuple(key.split(".")), text, f"{key}={text}")
            for key, text in task.search_space.items()
        ]
    dimensions: dict[str, Dimension] = {}
    for setting in written:
        key = ".".join(map(str, setting.key))
        try:
            if key in dimensions:
                raise RecipeError(f"{key} is given twice", fix="give it once")
            dimensions[key] = _dimension(recipe, key, setting.value)
        except RecipeError as error:
            where = error.where if error.where and error.where != setting.place else setting.place
            found.append(RecipeError(error.what, where=where, fix=error.fix))
    if not found and not dimensions:
        found.append(RecipeError("The search space is empty", where="--space", fix=f"give {FORMS}"))
    if found:
        raise recipes.together(found)
    return Space(recipe, tuple(dimensions.values()))


def _written(text: str, found: list[RecipeError]) -> Iterator[Setting]:
    """Yields what one `--space` says, and notes what it does not."""
    if "=" in text and not Path(text).is_file():
        # The text before the first `=`: a value is read by what it may be, and not as YAML.
        key, _, value = (part.strip() for part in text.partition("="))
        place = f"--space {text}"
        if not all(key.split(".")):
            found.append(RecipeError(f"not a key: {key!r}", where=place, fix="as training.epochs"))
            return
        try:
            listed = parse_setting(f"{key}={value}").value if value.startswith("[") else value
        except RecipeError as error:
            found.append(RecipeError(error.what, where=place, fix=f"give {FORMS}"))
            return
        yield Setting(tuple(key.split(".")), listed, place)
        return
    if not Path(text).exists():
        found.append(
            RecipeError(
                f"--space takes KEY=RANGE or a file, and there is no file {text!r}",
                where=f"--space {text}",
                fix=f"give {FORMS}",
            )
        )
        return
    try:
        file = yaml_file.read(Path(text))
    except RecipeError as error:
        what = error.what.replace("the recipe", "the search space")
        found.append(RecipeError(what, where=error.where, fix=f"give KEY: RANGE, with {FORMS}"))
        return
    found.extend(file.problems)
    yield from _keys(file, (), file.values)


def _keys(file: yaml_file.Written, above: tuple, values: Mapping[str, Any]) -> Iterator[Setting]:
    """Yields the keys of a file, whose sections may be mappings or dotted."""
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from _keys(file, (*above, name), value)
        else:
            key = tuple(part for name in (*above, name) for part in str(name).split("."))
            yield Setting(key, value, file.place_of((*above, name)))


def _dimension(recipe: WholeRecipe, key: str, value: Any) -> Dimension:
    """Returns what a key varies over, if the recipe takes it."""
    if key in _SHARED:
        raise RecipeError(
            f"{key} cannot be searched: {_SHARED[key]}",
            fix=f"leave it out of --space; --set {key}=VALUE sets it for all trials",
        )
    dimension = parsed(recipe, key, value)
    for sample in dimension.samples():
        setting = f"{key}={as_setting(sample)}"
        for error in recipes.validate(recipe, [setting]):
            # A value of one key, beside which another of the space may have another value.
            where = None if error.where == f"--set {setting}" else error.where
            raise RecipeError(error.what, where=where, fix=_fix_of(error))
    return dimension


def _fix_of(error: RecipeError) -> str | None:
    if error.fix is None and "whole number" in error.what:
        return "give int:LOW:HIGH, or a list such as 1,2,3"
    # What to type instead of another tool's key is a setting there, and not a range.
    return error.fix and error.fix.partition(" type --set ")[0]
