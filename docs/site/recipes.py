"""A page that shows each recipe, and for each task a page of the keys of its recipes."""

from __future__ import annotations

import re
from pathlib import Path

from kerasllm import recipe as recipes
from kerasllm.recipe.compression import RECIPES as COMPRESSION
from kerasllm.recipe.schema import KnownKey, known_keys
from kerasllm.recipe.yaml_file import Key
from kerasllm.tasks import task as tasks

_FOLDER = "recipe_keys"
# The page of a task has its name, but for these.
_GUIDES = {"causal_lm": "language_models", **dict.fromkeys(COMPRESSION, "compression")}


def pages() -> dict[str, str]:
    """Returns the pages by their names on the site."""
    names = [*tasks.names(), *COMPRESSION]
    made = {f"{_FOLDER}/{name}.md": _keys(name) for name in names}
    made["recipe_list.md"] = _list()
    return made


def _list() -> str:
    text = [
        "# The recipes",
        "",
        "Each is one commented YAML file: `kerasllm recipes show NAME` prints it with every key,",
        "and `kerasllm recipes copy NAME FILE` makes it yours: [recipes](recipes.md).",
    ]
    for name in recipes.names():
        path = recipes.path_of(name)
        task = re.search(r"^task: (\w+)", path.read_text(encoding="utf-8"), re.MULTILINE)[1]
        text += ["", f"## {name}", "", *_head(path), "", f"Its keys: [{task}]({_FOLDER}/{task}.md)"]
    return "\n".join(text) + "\n"


def _head(path: Path) -> list[str]:
    """Returns the comment at the top of a recipe, its commands as code."""
    lines = []
    for line in path.read_text(encoding="utf-8").splitlines():
        if not line.startswith("#"):
            break
        lines.append(line.removeprefix("#").removeprefix(" "))
    text = re.sub(r"(?m)(^| )A recipe of your own: .*", "", "\n".join(lines)).strip()
    return re.sub(r"(?m)((?:^  .*\n?)+)", _as_code, text).splitlines()


def _as_code(found: re.Match[str]) -> str:
    lines = [line.removeprefix("  ") for line in found[0].splitlines()]
    return "\n".join(["```sh", *lines, "```", ""])


def _keys(task: str) -> str:
    schema = recipes.schema_of(task)
    known = known_keys(schema)
    title = task.replace("_", " ")
    text = [
        f"# Recipe keys: {title}",
        "",
        f"The keys of a recipe of the task `{task}`: what each takes, and its default. On the",
        "command line: `--set SECTION.KEY=VALUE`. A shipped recipe may set other values than the",
        "defaults: `kerasllm recipes show NAME` prints what it sets.",
        f"Data, models and metrics are on [the page of the task](../{_GUIDES.get(task, task)}.md).",
    ]
    for section in schema.model_fields:
        own = {key: one for key, one in known.items() if key[0] == section and len(key) > 1}
        if not own:
            continue
        text += ["", f"## {section}", "", "| key | takes | default | |", "|---|---|---|---|"]
        text += [_row(schema, key, one) for key, one in own.items()]
    return "\n".join(text) + "\n"


def _row(schema: type, key: Key, known: KnownKey) -> str:
    takes = known.expected.replace("|", r"\|")
    return f"| `{'.'.join(key)}` | {takes} | {_default(schema, key)} | {_text(known.description)} |"


def _default(schema: type, key: Key) -> str:
    """Returns the default of a key as YAML writes it."""
    for name in key[:-1]:
        schema = _nested(schema.model_fields[name].annotation)
    field = schema.model_fields[key[-1]]
    return (
        "required"
        if field.is_required()
        else f"`{_yaml(field.get_default(call_default_factory=True))}`"
    )


def _nested(annotation: object) -> type:
    """Returns the model in an annotation such as `Lora | None`."""
    found = [annotation, *getattr(annotation, "__args__", ())]
    for one in found:
        if hasattr(one, "model_fields"):
            return one
        if one is not annotation and getattr(one, "__args__", ()):
            return _nested(one)
    raise TypeError(annotation)


def _yaml(value: object) -> str:
    import yaml

    return yaml.safe_dump(value, default_flow_style=True, width=999).removesuffix("\n...\n").strip()


def _text(text: str) -> str:
    return re.sub(r"([*<>|\[\]]|(?<!\w)_|_(?!\w))", r"\\\1", text)
