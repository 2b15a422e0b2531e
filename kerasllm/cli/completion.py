"""What a shell completes: the names of recipes, runs, formats, methods and presets.

A shell asks each time that Tab is pressed: nothing slow is imported here.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import click
from click.shell_completion import CompletionItem

_Complete = Callable[[click.Context, click.Parameter, str], list[CompletionItem]]
# Runs lie in runs/RECIPE/DATE-TIME; with --seeds one folder deeper.
_DEPTH = 4
_MOST_FOLDERS = 2000


def _completes(names: Callable[[str], Iterable[str]], otherwise: str = "") -> _Complete:
    def complete(
        context: click.Context, parameter: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        found = [CompletionItem(name) for name in names(incomplete) if name.startswith(incomplete)]
        # The shell completes files and folders by itself, where it is told that there may be one.
        return found or ([CompletionItem(incomplete, type=otherwise)] if otherwise else [])

    return complete


def _recipe_names(_: str) -> Iterable[str]:
    from kerasllm.recipe import files

    return files.names()


def _runs(incomplete: str) -> Iterator[str]:
    """Gives the run directories that lie in what was typed, or here and in runs/."""
    start = incomplete.rpartition("/")[0]
    if start:
        folders = [start + "/"]
    elif incomplete.startswith("/"):
        return
    else:
        folders = [""]
    left = _MOST_FOLDERS
    for depth in range(_DEPTH):
        inside: list[str] = []
        for folder in folders:
            # In other places than runs/ a look at each folder of the machine is not meant.
            if not depth or start or folder.startswith("runs/"):
                inside += _folders_in(folder)
        left -= len(inside)
        if left < 0:
            return
        folders = []
        for name in inside:
            if (Path(name) / "recipe.yaml").is_file():
                yield name
            else:
                folders.append(f"{name}/")


def _folders_in(folder: str) -> list[str]:
    try:
        with os.scandir(folder or ".") as entries:
            names = sorted(e.name for e in entries if e.is_dir() and not e.name.startswith("."))
    except OSError:
        return []
    return [folder + name for name in names]


def _formats(_: str) -> Iterable[str]:
    from kerasllm.export.formats import FORMATS

    return FORMATS


def _methods(_: str) -> Iterable[str]:
    from kerasllm.recipe.compression import METHODS

    return METHODS


def _preset_names(_: str) -> Iterable[str]:
    from kerasllm.models.presets import PRESETS

    return PRESETS


recipe_names = _completes(_recipe_names)
recipes = _completes(_recipe_names, otherwise="file")
runs = _completes(_runs, otherwise="dir")
formats = _completes(_formats)
methods = _completes(_methods)
presets = _completes(_preset_names)
strategies = _completes(
    lambda _: ("auto", "one_device", "mirrored", "multi_worker", "tpu", "sharded", "virtual:2")
)
launched_strategies = _completes(lambda _: ("multi_worker", "sharded"))
sharded_strategies = _completes(lambda _: ("sharded", "sharded:fsdp", "sharded:1x2"))
