"""Where recipes lie: those shipped with kerasllm, by name, and the user's own files.

Apart from `kerasllm.recipe`, because `kerasllm recipes list` must not wait for pydantic.
"""

from __future__ import annotations

import difflib
import os
from pathlib import Path

from kerasllm.errors import RecipeError

_PACKAGE = Path(__file__).resolve().parents[1]


def names() -> list[str]:
    """Returns the names of the shipped recipes, in alphabetical order."""
    return sorted(path.stem for path in _folder().glob("*.yaml"))


def path_of(name: str) -> Path:
    """Returns the file of a shipped recipe.

    Args:
        name: One of `names()`.

    Returns:
        The path of the recipe's YAML file inside the installed package or the checkout.

    Raises:
        RecipeError: If no shipped recipe has this name.
    """
    if name not in names():
        raise _unknown(name, f"no recipe is named {name!r}")
    return _folder() / f"{name}.yaml"


def find(name_or_file: str | os.PathLike[str]) -> Path:
    """Returns the file that `--recipe` means: a shipped recipe's name first, else a path.

    Args:
        name_or_file: One of `names()`, or the path of a YAML file.

    Returns:
        The path of the file, which exists.

    Raises:
        RecipeError: If it is neither.
    """
    received = os.fspath(name_or_file)
    if received in names():
        return path_of(received)
    path = Path(received)
    if not os.path.exists(path):  # unlike Path.exists, no error for a name that is too long
        raise _unknown(path.stem, f"no recipe is named {received!r}, and there is no such file")
    return path


def describe(path: Path) -> str:
    """Returns what a recipe says it is for: its first line, a comment; empty if it is none."""
    with path.open(encoding="utf-8", errors="replace") as file:
        line = file.readline()
    return line.lstrip("# ").rstrip() if line.startswith("#") else ""


def _folder() -> Path:
    """Returns the folder of the shipped recipes: inside a wheel, beside it in a checkout."""
    inside = _PACKAGE / "recipes"
    return inside if inside.is_dir() else _PACKAGE.parent / "recipes"


def _unknown(name: str, what: str) -> RecipeError:
    near = difflib.get_close_matches(name, names(), n=1)
    known = f"did you mean {near[0]}?" if near else f"the recipes are: {', '.join(names())}."
    return RecipeError(what, fix=f"{known} A recipe of your own is given by its path")
