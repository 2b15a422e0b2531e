"""Recipes and settings given in Python become what a recipe file or `--set` would have been.

Scalars become the text that would have been written, so that everything the schema says about a
file or of the command line holds of Python as well.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from typing import Any

from kerasllm.errors import RecipeError
from kerasllm.recipe.yaml_file import Key, Setting, Value, Written

_LONGEST_SHOWN = 80


def flat_settings(overrides: Mapping[str, Any]) -> dict[str, Any]:
    """Returns settings by their dotted keys: the mapping of a section becomes its keys.

    A mapping below a section is the value of a key, as in `--set model.lora={rank: 8}`.

    Args:
        overrides: Sections with their keys, and keys by their dotted path.

    Example:
        >>> flat_settings({"training": {"epochs": 2}, "model.lora": {"rank": 8}})
        {'training.epochs': 2, 'model.lora': {'rank': 8}}
    """
    flat: dict[str, Any] = {}
    for name, value in overrides.items():
        if isinstance(value, Mapping) and "." not in str(name):
            inner = {f"{name}.{key}": each for key, each in value.items()}
        else:
            inner = {str(name): value}
        for key, each in inner.items():
            if key in flat:
                raise RecipeError(f"{key} is given twice", fix="give it once")
            flat[key] = each
    return flat


def settings_of(overrides: Mapping[str, Any]) -> Iterator[Setting]:
    """Yields the settings of a mapping; see `flat_settings`.

    Raises:
        RecipeError: If a value is none that a recipe can hold.
    """
    for dotted, value in flat_settings(overrides).items():
        place = _shown(f"{dotted}={value!r}")
        key = tuple(dotted.split("."))
        if not all(key):
            raise RecipeError(f"not a key: {dotted!r}", fix="write it as training.epochs")
        yield Setting(key, _written(value, key, place), place)


def written_mapping(recipe: Mapping[str, Any]) -> Written:
    """Returns a recipe that is a mapping, as one that was read from a file.

    Raises:
        RecipeError: If a value is none that a recipe can hold.
    """
    place = "the recipe given as a mapping"
    if not recipe:
        raise RecipeError("the recipe is empty", fix='name its task: {"task": ...}')
    return Written(place, {str(key): _written(each, (key,), place) for key, each in recipe.items()})


def _written(value: Any, key: Key, place: str) -> Value:
    if hasattr(value, "tolist"):  # of NumPy and pandas
        value = value.tolist()
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (int, float)):
        return repr(value)
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if isinstance(value, Mapping):
        return {str(name): _written(each, (*key, name), place) for name, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_written(each, (*key, number), place) for number, each in enumerate(value)]
    kind = type(value)
    raise RecipeError(
        f"{'.'.join(map(str, key))}: a recipe holds texts, numbers, True, False, None, lists and "
        f"dicts. Received: {kind.__module__}.{kind.__qualname__}",
        where=place,
    )


def _shown(text: str) -> str:
    return text if len(text) <= _LONGEST_SHOWN else f"{text[:_LONGEST_SHOWN]}..."
