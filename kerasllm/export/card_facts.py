"""The facts of a model card on how a model was made, without anything about the machine."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import PurePosixPath, PureWindowsPath
from typing import Any

from kerasllm.data.starters import PREFIX, STARTERS
from kerasllm.models.presets import PRESETS
from kerasllm.recipe import WholeRecipe
from kerasllm.recipe import yaml_file as recipe_yaml
from kerasllm.run import Run

_PARTS = ("train", "validation", "test")
# What begins like this is known to all, or to nobody but its owner.
_PUBLIC = (PREFIX, "hf://", "kaggle://", "pypi://")
_ADDRESS = re.compile(r"^[A-Za-z][A-Za-z0-9+.-]+://")
# Keys of a recipe whose values may be paths; other values are paths only where they look so.
_PATHS = {*_PARTS, "preset", "adapter", "chat_template", "teacher"}
# Names of labels are what they are.
_NEVER_PATHS = {"label_names", "class_weights"}


def facts_of_run(run: Run, recipe: WholeRecipe) -> dict:
    """Returns the facts of a finished run; see `Source.facts`."""
    environment = run.read_environment()
    fingerprints, rows = environment.get("data", {}), environment.get("rows", {})
    contents = environment.get("contents", {})
    specs = {part: getattr(recipe.data, part, None) for part in _PARTS}
    data = {
        part: {
            "files": [without_folder(one) for one in _listed(spec)],
            "fingerprint": fingerprints.get(part),
            "rows": rows.get(part),
            "contents": contents.get(part),
        }
        for part, spec in specs.items()
        if spec is not None or rows.get(part)
    }
    return {
        "recipe": recipe_without_paths(recipe),
        "metrics": run.read_metrics(),
        "data": data,
        "data_licences": _licences_of_data(specs.values()),
        "seed": environment.get("seed"),
        "versions": environment.get("versions", {}),
        **facts_of_preset(recipe.model.preset),
    }


def facts_of_preset(preset: str | None) -> dict:
    """Returns the facts of a pretrained model; see `Source.facts`."""
    if preset is None:
        return {"base": None}
    known = PRESETS.get(preset)
    return {"base": without_folder(preset), "licence": known.licence if known else None}


def without_folder(spec: str) -> str:
    """Returns a file, a glob, a folder or an address by the last part of its name.

    What is public stays whole: bundled data and handles of model hubs. So does a plain name. Of an
    address goes also what may hold a secret or a host: user, password, query and fragment.

    Example:

    >>> without_folder("/home/somebody/reviews/2026-*.csv"), without_folder("starter:chat/train")
    ('2026-*.csv', 'starter:chat/train')
    """
    spec = str(spec)
    if scheme := _ADDRESS.match(spec):
        rest = re.split("[?#]", spec.removeprefix(scheme[0]))[0]
        host, _, path = rest.partition("/")
        host = host.rpartition("@")[2]
        if spec.startswith(_PUBLIC):
            return f"{scheme[0]}{host}/{path}" if path else f"{scheme[0]}{host}"
        return PurePosixPath(path).name or scheme[0]
    if spec.startswith(_PUBLIC):
        return spec
    name = PurePosixPath(spec).name or spec
    return PureWindowsPath(name).name or name


def recipe_without_paths(recipe: WholeRecipe) -> str:
    """Returns the YAML of a recipe; of each path in it only the last part is left."""
    return recipe_yaml.dump(_cleaned(recipe.model_dump()), {})


def _cleaned(value: Any, key: str = "") -> Any:
    if key in _NEVER_PATHS:
        return value
    if isinstance(value, dict):
        return {name: _cleaned(one, name) for name, one in value.items()}
    if isinstance(value, list):
        return [_cleaned(one, key) for one in value]
    if isinstance(value, str) and (key in _PATHS or _looks_like_a_path(value)):
        return without_folder(value)
    return value


def _looks_like_a_path(value: str) -> bool:
    if value.startswith(_PUBLIC):
        return False
    whole = PurePosixPath(value).is_absolute() or PureWindowsPath(value).is_absolute()
    return whole or value.startswith(("~/", "./", "../")) or bool(_ADDRESS.match(value))


def _listed(spec: str | list[str] | None) -> list[str]:
    return [spec] if isinstance(spec, str) else list(spec or ())


def _licences_of_data(specs: Iterable[str | list[str] | None]) -> dict[str, str]:
    """Returns the licence of each bundled data set."""
    listed = [one for spec in specs for one in _listed(spec) if one.startswith(PREFIX)]
    names = [one.removeprefix(PREFIX).partition("/")[0] for one in listed]
    return {f"{PREFIX}{name}": STARTERS[name].licence for name in names if name in STARTERS}
