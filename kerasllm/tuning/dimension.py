"""One key of a search space, and what it varies over."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from kerasllm import recipe as recipes
from kerasllm.errors import RecipeError
from kerasllm.recipe import WholeRecipe

FORMS = (
    "log:1e-5:1e-3, float:0:0.3, int:1:5, a list such as 1,2,3, or around:5 (from a fifth of the "
    "recipe's value to five times as much)"
)
"""What a range may be, in words."""

_KINDS = ("log", "float", "int", "around", "choice")
_SIGNIFICANT_DIGITS = 3


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


def value_at(recipe: WholeRecipe, key: str) -> Any:
    """Returns the value of a dotted key; `None` where a section above it is null."""
    value: Any = recipe.model_dump()
    for part in key.split("."):
        value = value.get(part) if isinstance(value, Mapping) else None
    return value


def parsed(recipe: WholeRecipe, key: str, value: Any) -> Dimension:
    """Returns what a key varies over, by what was written.

    Args:
        recipe: The recipe, whose value `around` is of.
        key: The dotted key.
        value: A text such as `log:1e-5:1e-3`, or a list.

    Raises:
        RecipeError: If it is not a range, or an empty one.
    """
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
        raise RecipeError(f"{key}: there is no range type {kind!r}", fix=f"give {FORMS}")
    if not text:
        raise RecipeError(f"{key} has no range", fix=f"give {FORMS}")
    raise RecipeError(
        f"{key}: a single value leaves nothing to search. Received: {text}",
        fix=f"give {FORMS}; or set it: --set {key}={text}",
    )


def _choice(key: str, choices: Sequence[str]) -> Dimension:
    twice = next((each for each in choices if choices.count(each) > 1), None)
    if twice is not None:
        raise RecipeError(f"{key}: {twice} is listed twice", fix="list it once")
    if len(choices) < 2:
        raise RecipeError(
            f"{key}: a list of {len(choices)} leaves nothing to search",
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
    low, high = (
        float(f"{end:.{_SIGNIFICANT_DIGITS}g}") for end in (value / factor, value * factor)
    )
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
            f"{key}: a logarithmic range must start above 0. Received: {kind}:{rest}",
            fix=f"start above 0, or give float:{rest}",
        )
    whole = int if kind == "int" else float
    return Dimension(key, kind, whole(low), whole(high))


def _number(key: str, text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise RecipeError(f"{key}: expected a number. Received: {text!r}", fix=f"give {FORMS}")
    return number


def _flow(value: Any) -> str:
    """Returns a value of a list as `--set` takes it."""
    if value is None:
        return "null"
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def as_setting(value: Any) -> str:
    """Returns a value of a trial as `--set` takes it."""
    return value if isinstance(value, str) else repr(value)


def as_yaml(dimension: Dimension) -> str:
    """Returns a dimension as a file that `--space` takes has it."""
    if dimension.kind != "choice":
        return str(dimension)
    return f"[{', '.join(_scalar(each) for each in dimension.choices)}]"


def _scalar(text: str) -> str:
    """Returns a choice as an item of a YAML list: a plain word or a flow mapping as it is."""
    if text.startswith(("{", "[")) or re.fullmatch(r"[\w.+-]+", text):
        return text
    return json.dumps(text, ensure_ascii=False)
