"""The search space: which keys of a recipe vary, and over what."""

from __future__ import annotations

import itertools
import json
import math
import random
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kerasllm import recipe as recipes
from kerasllm.errors import RecipeError
from kerasllm.recipe import WholeRecipe, yaml_file
from kerasllm.recipe.yaml_file import Setting, parse_setting
from kerasllm.tasks.task import task_of

Params = dict[str, Any]
"""A value for each key of a space: a number, or the text of a choice."""

# What decides which rows a trial is measured on, and by what: all trials share it.
_SHARED = {
    "task": "a search has one task",
    "data.train": "validation may be a part of it, and trials are compared on the same rows",
    "data.validation": "trials are compared on the same rows",
    "data.validation_split": "trials are compared on the same rows",
    "data.test": "the test data are not used by a search",
    "training.seed": "another seed is no better setting, and may split off other validation rows",
}
_FORMS = (
    "log:1e-5:1e-3, float:0:0.3, int:1:5, a list such as 1,2,3, or around:5 (from a fifth of the "
    "recipe's value to five times as much)"
)
_KINDS = ("log", "float", "int", "around", "choice")
_SIGNIFICANT_DIGITS = 3
# Where a discrete space is enumerated, to find what is left of it.
_MOST_ENUMERATED = 100_000


@dataclass(frozen=True)
class Dimension:
    """One key that varies.

    Attributes:
        key: The dotted key of the recipe.
        kind: `"float"`, `"log"` (even in the logarithm), `"int"` or `"choice"`.
        low: The least value of a range. Defaults to `0`.
        high: The greatest value of a range. Defaults to `0`.
        choices: The values of a choice, as `--set` takes them. Defaults to none.
    """

    key: str
    kind: str
    low: float = 0
    high: float = 0
    choices: tuple[str, ...] = ()

    def __str__(self) -> str:
        """The dimension as `--space` takes it, without the key."""
        if self.kind != "choice":
            return f"{self.kind}:{self.low!r}:{self.high!r}"
        if any(re.search(r"[,\[\]{}\"':]|^$", choice) for choice in self.choices):
            return f"[{', '.join(self.choices)}]"
        return ",".join(self.choices)

    @property
    def count(self) -> float:
        """How many values there are; infinite for numbers that are not whole."""
        if self.kind == "choice":
            return len(self.choices)
        return self.high - self.low + 1 if self.kind == "int" else math.inf

    @property
    def values(self) -> Sequence[Any]:
        """All values, where they can be counted."""
        return self.choices or range(int(self.low), int(self.high) + 1)

    def distribution(self) -> Any:
        """Returns the dimension as optuna has it."""
        from optuna import distributions

        if self.kind == "choice":
            return distributions.CategoricalDistribution(self.choices)
        if self.kind == "int":
            return distributions.IntDistribution(int(self.low), int(self.high))
        return distributions.FloatDistribution(self.low, self.high, log=self.kind == "log")

    def suggest(self, trial: Any) -> Any:
        """Returns the value of an optuna trial."""
        if self.kind == "choice":
            return trial.suggest_categorical(self.key, self.choices)
        if self.kind == "int":
            return trial.suggest_int(self.key, int(self.low), int(self.high))
        return trial.suggest_float(self.key, self.low, self.high, log=self.kind == "log")

    def rounded(self, value: Any) -> Any:
        """Returns a value with the digits that count, so that a recipe can be read."""
        if self.kind in ("choice", "int"):
            return value
        digits = float(f"{value:.{_SIGNIFICANT_DIGITS}g}")
        return min(max(digits, self.low), self.high)

    def samples(self) -> Iterator[Any]:
        """Yields values that stand for all: each choice, or both ends and one in between."""
        if self.choices:
            yield from self.choices
            return
        # No whole number, unless the range is one of them.
        between = self.low + (self.high - self.low) * 0.61803
        yield from (self.low, self.high, round(between) if self.kind == "int" else between)


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
        return [f"{key}={_text(value)}" for key, value in params.items()]

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
        lines = [f"{dimension.key}: {_yaml(dimension)}" for dimension in self.dimensions]
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
        written = [(Setting(tuple(key.split(".")), text, f"{key}={text}"))
                   for key, text in task.search_space.items()]  # fmt: skip
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
        found.append(
            RecipeError("The search space is empty", where="--space", fix=f"give KEY=RANGE: {_FORMS}")
        )
    if found:
        from kerasllm.recipe import together

        raise together(found)
    return Space(recipe, tuple(dimensions.values()))


def value_at(recipe: WholeRecipe, key: str) -> Any:
    """Returns the value of a dotted key; `None` where a section above it is null."""
    value: Any = recipe.model_dump()
    for part in key.split("."):
        value = value.get(part) if isinstance(value, Mapping) else None
    return value


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
            found.append(RecipeError(error.what, where=place, fix=f"give {_FORMS}"))
            return
        yield Setting(tuple(key.split(".")), listed, place)
        return
    if not Path(text).exists():
        found.append(
            RecipeError(
                f"--space takes KEY=RANGE or a file, and there is no file {text!r}",
                where=f"--space {text}",
                fix=f"give {_FORMS}",
            )
        )
        return
    try:
        file = yaml_file.read(Path(text))
    except RecipeError as error:
        what = error.what.replace("the recipe", "the search space")
        found.append(RecipeError(what, where=error.where, fix=f"give KEY: RANGE, with {_FORMS}"))
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
        raise RecipeError(f"{key} cannot be searched: {_SHARED[key]}", fix=f"set it: --set {key}=")
    dimension = _parsed(recipe, key, value)
    for sample in dimension.samples():
        setting = f"{key}={_text(sample)}"
        for error in recipes.validate(recipe, [setting]):
            # A value of one key, beside which another of the space may have another value.
            where = None if error.where == f"--set {setting}" else error.where
            raise RecipeError(error.what, where=where, fix=_fix_of(error))
    return dimension


def _fix_of(error: RecipeError) -> str | None:
    if error.fix is None and "whole number" in error.what:
        return "give int:LOW:HIGH, or a list such as 1,2,3"
    # What to type in place of another tool's key is a setting there, and not a range.
    return error.fix and error.fix.partition(" type --set ")[0]


def _parsed(recipe: WholeRecipe, key: str, value: Any) -> Dimension:
    if isinstance(value, list):
        return _choice(key, [_flow(each) for each in value])
    text = (value or "").strip()
    kind, colon, rest = text.partition(":")
    if colon and kind in _KINDS:
        if kind == "choice":
            return _choice(key, [part.strip() for part in rest.split(",")])
        if kind == "around":
            return _around(recipe, key, rest)
        return _range(key, kind, rest)
    if "," in text:
        return _choice(key, [part.strip() for part in text.split(",")])
    if colon and re.fullmatch(r"[a-z]+", kind) and re.fullmatch(r"[-+.\deE:]+", rest):
        raise RecipeError(f"{key}: no range is called {kind!r}", fix=f"give {_FORMS}")
    if not text:
        raise RecipeError(f"{key} has no range", fix=f"give {_FORMS}")
    raise RecipeError(
        f"{key}: a single value is nothing to search over. Received: {text}",
        fix=f"give {_FORMS}; or set it: --set {key}={text}",
    )


def _choice(key: str, choices: Sequence[str]) -> Dimension:
    twice = next((each for each in choices if choices.count(each) > 1), None)
    if twice is not None:
        raise RecipeError(f"{key}: {twice} is listed twice", fix="list it once")
    if len(choices) < 2:
        raise RecipeError(
            f"{key}: a list of {len(choices)} is nothing to search over",
            fix="list two values or more",
        )
    return Dimension(key, "choice", choices=tuple(choices))


def _around(recipe: WholeRecipe, key: str, rest: str) -> Dimension:
    factor, value = _number(key, rest), value_at(recipe, key)
    if factor <= 1:
        raise RecipeError(f"{key}: the range is empty: around:{rest}", fix="give more than 1")
    if not isinstance(value, int | float) or value <= 0:
        unknown = recipes.validate(recipe, [f"{key}=1"])
        if unknown and unknown[0].what.startswith("unknown key"):
            raise RecipeError(unknown[0].what, fix=unknown[0].fix)
        raise RecipeError(
            f"{key}: around:{rest} needs a value above 0 in the recipe. Received: {value}",
            fix="give log:LOW:HIGH",
        )
    low, high = (float(f"{each:.{_SIGNIFICANT_DIGITS}g}") for each in (value / factor, value * factor))
    return Dimension(key, "log", low, high)


def _range(key: str, kind: str, rest: str) -> Dimension:
    ends = rest.split(":")
    if len(ends) != 2:
        raise RecipeError(
            f"{key}: a range has two ends. Received: {kind}:{rest}", fix=f"as {kind}:LOW:HIGH"
        )
    low, high = (_number(key, end) for end in ends)
    if kind == "int" and not (low.is_integer() and high.is_integer()):
        raise RecipeError(f"{key}: int takes whole numbers. Received: {kind}:{rest}")
    if low >= high:
        raise RecipeError(
            f"{key}: the range is empty: {kind}:{rest}", fix="give the lower end first"
        )
    if kind == "log" and low <= 0:
        raise RecipeError(
            f"{key}: a logarithmic range begins above 0. Received: {kind}:{rest}",
            fix=f"begin above 0, or give float:{rest}",
        )
    whole = int if kind == "int" else float
    return Dimension(key, kind, whole(low), whole(high))


def _number(key: str, text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise RecipeError(f"{key}: expected a number. Received: {text!r}", fix=f"give {_FORMS}")
    return number


def _flow(value: Any) -> str:
    """Returns a value of a list as `--set` takes it."""
    if value is None:
        return "null"
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _text(value: Any) -> str:
    return value if isinstance(value, str) else repr(value)


def _yaml(dimension: Dimension) -> str:
    if dimension.kind != "choice":
        return str(dimension)
    return f"[{', '.join(_scalar(each) for each in dimension.choices)}]"


def _scalar(text: str) -> str:
    """Returns a choice as an item of a YAML list: a plain word or a flow mapping as it is."""
    if text.startswith(("{", "[")) or re.fullmatch(r"[\w.+-]+", text):
        return text
    return json.dumps(text, ensure_ascii=False)
