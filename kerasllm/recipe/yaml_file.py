"""Recipe files and `--set` become plain values, each with the place where it was written.

Scalars stay the text that was written: YAML 1.1 would read `no` as false, `12:30` as 750 and
`5e-5` as a string, for every key. What a text means is for the schema to say. Only null is
told apart here, because a quoted "null" is not it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from kerasllm.errors import RecipeError

Value = None | str | list["Value"] | dict[str, "Value"]
Key = tuple[str | int, ...]

# A recipe takes a few kilobytes, with names for a thousand labels some tens. More is a mistake,
# such as a data file, and is not worth the minutes that YAML takes for it.
_MAX_BYTES = 1_000_000
# Comments stand in a column of their own, in lines that a terminal does not wrap.
_COMMENT_COLUMN = 30
_WIDTH = 100
_NULL = "tag:yaml.org,2002:null"
# What plain values resolve to under YAML 1.1. Any other tag was written out, such as `!!python/`.
_KNOWN_TAGS = {
    f"tag:yaml.org,2002:{name}"
    for name in "null bool int float timestamp str seq map merge value".split()
}
_START_OF_FLOW = ("{", "[", '"', "'")


@dataclass(frozen=True)
class Setting:
    """One `--set KEY=VALUE`.

    Attributes:
        key: The dotted key, in its parts.
        value: Its value; scalars are text, or `None` for null.
        place: The setting, as errors show it.
    """

    key: Key
    value: Value
    place: str


@dataclass
class Written:
    """A recipe as written, before the schema looks at it.

    Attributes:
        file: The file, as errors show it.
        values: The top-level mapping. Keys and scalars are text, or `None` for null.
        places: Where each key's value was written: `file:line` or `--set KEY=VALUE`.
        problems: What the file got wrong without being unreadable, such as a key given twice.
    """

    file: str
    values: dict[str, Value] = field(default_factory=dict)
    places: dict[Key, str] = field(default_factory=dict)
    problems: list[RecipeError] = field(default_factory=list)

    def place_of(self, key: Key) -> str:
        """Returns where a key was written, or the nearest mapping that should hold it."""
        while key and key not in self.places:
            key = key[:-1]
        return self.places.get(key, self.file)

    def value_of(self, key: Key) -> Value:
        """Returns the value at a key that exists."""
        value: Any = self.values
        for part in key:
            value = value[part]
        return value

    def set(self, setting: Setting) -> None:
        """Puts a setting over what was written, making the mappings that should hold it."""
        *sections, last = setting.key
        mapping: Any = self.values
        for part in sections:
            if not isinstance(mapping.get(part), dict):
                mapping[part] = {}
            mapping = mapping[part]
        mapping[last] = setting.value
        self._forget(setting.key)
        for depth in range(1, len(setting.key) + 1):
            # The sections above keep their line in the file, where there is one.
            self.places.setdefault(setting.key[:depth], setting.place)

    def drop(self, key: Key) -> None:
        """Takes a key out, if it is there."""
        *sections, last = key
        mapping: Any = self.values
        for part in sections:
            mapping = mapping.get(part)
            if not isinstance(mapping, dict):
                return
        mapping.pop(last, None)
        self._forget(key)

    def _forget(self, key: Key) -> None:
        """Forgets where a key, and all that it held, was written."""
        self.places = {at: line for at, line in self.places.items() if at[: len(key)] != key}


def read(path: Path) -> Written:
    """Reads a recipe file.

    Args:
        path: A YAML file in UTF-8, a mapping at its top level.

    Returns:
        Its values and where each was written.

    Raises:
        RecipeError: If it cannot be read, is empty, is not UTF-8, not YAML or not a mapping.
    """
    file = str(path)
    node = _compose(_text_of(path), file)
    if node is None or node.tag == _NULL:
        raise RecipeError(
            "the recipe is empty",
            where=file,
            fix="`kerasllm recipes copy bert_cls FILE` writes one to start from",
        )
    written = Written(file)
    values = _plain(node, (), written)
    if not isinstance(values, dict):
        raise RecipeError(
            "a recipe is a mapping of keys to values. "
            f"Received: a {'list' if isinstance(values, list) else 'single value'}",
            where=_line(file, node),
            fix="`kerasllm recipes show bert_cls` prints one",
        )
    written.values = values
    return written


def parse_setting(text: str) -> Setting:
    """Reads one `KEY=VALUE`.

    Args:
        text: A dotted key, `=`, and a value: YAML if it opens with a bracket, a brace or a quote,
            else a text, taken as it is. Nothing, `~` and `null` are null.

    Returns:
        The key and its value.

    Raises:
        RecipeError: If it is no `KEY=VALUE`, or the value is broken YAML.
    """
    place = f"--set {text}"
    if not isinstance(text, str):
        raise RecipeError(
            f"not a setting: {text!r}", fix='write it as "training.epochs=3", or give a dict'
        )
    dotted, equals, value = (part.strip() for part in text.partition("="))
    key = tuple(dotted.split("."))
    if not equals or not all(key):
        raise RecipeError(
            f"not a setting: {text!r}",
            where=place,
            fix="write a dotted key and a value, such as --set training.epochs=3",
        )
    if not value.startswith(_START_OF_FLOW):
        # As it is: to YAML `*.csv` would be an alias, and ` #1` a comment.
        return Setting(key, None if value in ("", "~", "null") else value, place)
    written = Written(place)
    parsed = _plain(_compose(value, place), (), written)
    if written.problems:
        raise written.problems[0]
    return Setting(key, parsed, place)


def dump(values: Mapping[str, Any], comments: Mapping[Key, str]) -> str:
    """Writes the values of a recipe, each key on a line of its own.

    Args:
        values: Sections, which are mappings, and single values, in the order to write them in.
        comments: What to write beside each key; a key that is not in it gets no comment.

    Returns:
        YAML that reads back to the same texts.
    """
    lines = []
    for name, value in values.items():
        is_section = isinstance(value, Mapping)
        line = f"{name}:" if is_section else _one_line(name, value)
        lines.append(_commented(line, comments.get((name,))))
        for key, inner in value.items() if is_section else ():
            lines.append(_commented(f"  {_one_line(key, inner)}", comments.get((name, key))))
    return "\n".join(lines) + "\n"


def _commented(line: str, comment: str | None) -> str:
    """Returns the line with its comment beside it, or above it where that gets too wide."""
    if not comment:
        return line
    wide = f"{line:{_COMMENT_COLUMN}}  # {comment}"
    indent = line[: len(line) - len(line.lstrip())]
    return wide if len(wide) <= _WIDTH else f"{indent}# {comment}\n{line}"


class _Dumper(yaml.SafeDumper):
    """Writes texts of several lines with escapes, so that a value stays on its line."""


def _represent_text(dumper: _Dumper, text: str) -> yaml.Node:
    style = None if text.isprintable() else '"'
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Dumper.add_representer(str, _represent_text)


def _one_line(key: str, value: Any) -> str:
    flow = isinstance(value, (Mapping, list))
    dumped = yaml.dump(
        {key: value},
        Dumper=_Dumper,
        default_flow_style=flow,
        allow_unicode=True,
        sort_keys=False,
        width=float("inf"),
    ).strip()
    return dumped[1:-1] if flow else dumped


def _text_of(path: Path) -> str:
    if path.exists() and not path.is_file():
        what = "a folder" if path.is_dir() else "a pipe or a device, and is read more than once"
        raise RecipeError(f"the recipe cannot be read: it is {what}", where=str(path))
    try:
        with path.open("rb") as file:
            content = file.read(_MAX_BYTES + 1)
    except OSError as error:
        raise RecipeError(
            f"the recipe cannot be read: {error.strerror}", where=str(path)
        ) from error
    if len(content) > _MAX_BYTES:
        raise RecipeError(
            f"the file is larger than {_MAX_BYTES:,} bytes: this is not a recipe", where=str(path)
        )
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise RecipeError(
            f"the recipe is not UTF-8: byte 0x{content[error.start]:02x}",
            where=f"{path}:{line}",
            fix="save the file as UTF-8",
        ) from error


class _Loader(yaml.SafeLoader):
    """Composes nodes without aliases, which let a few lines expand to gigabytes."""

    def compose_node(self, parent, index):
        if self.check_event(yaml.AliasEvent):
            event = self.peek_event()
            raise yaml.MarkedYAMLError(
                problem=f"a recipe takes no aliases, and *{event.anchor} is one",
                problem_mark=event.start_mark,
            )
        return super().compose_node(parent, index)


def _compose(text: str, place: str) -> yaml.Node | None:
    """Returns the text's tree of nodes, `None` if it has none."""

    def broken(what: str, line: int) -> RecipeError:
        fix = 'indent with spaces, and quote texts with special characters, such as "*.csv"'
        return RecipeError(f"not valid YAML: {what}", where=_at(place, line), fix=fix)

    try:
        loader = _Loader(text)
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise broken(f"the character U+{error.character:04X} is not allowed", line) from error
    try:
        return loader.get_single_node()
    except yaml.MarkedYAMLError as error:
        what = ", ".join(filter(None, (error.context, error.problem)))
        raise broken(what, error.problem_mark.line + 1) from error
    except RecursionError as error:
        raise broken("it is nested too deeply", loader.line + 1) from error
    except (ValueError, OverflowError) as error:  # PyYAML hands chr() any number
        raise broken("an escape names no character", loader.line + 1) from error


def _plain(node: yaml.Node, key: Key, written: Written) -> Value:
    """Returns a node's value, noting its place and the places of all that it holds."""
    written.places.setdefault(key, _line(written.file, node))
    if node.tag not in _KNOWN_TAGS:
        tag = node.tag.replace("tag:yaml.org,2002:", "!!")
        what = f"a recipe takes no tags. Received: {tag}"
        written.problems.append(RecipeError(what, where=_line(written.file, node)))
    if isinstance(node, yaml.ScalarNode):
        return None if node.tag == _NULL else node.value
    if isinstance(node, yaml.SequenceNode):
        return [_plain(item, (*key, i), written) for i, item in enumerate(node.value)]
    values: dict[str, Value] = {}
    for name_node, value_node in node.value:
        place = _line(written.file, name_node)
        if not isinstance(name_node, yaml.ScalarNode):
            written.problems.append(RecipeError("a key must be a single word", where=place))
            continue
        name = name_node.value
        dotted = ".".join(map(str, (*key, name)))
        if name in values:
            what = f"{dotted} is written twice"
            fix = f"keep one; the first is at {written.places[(*key, name)]}"
            written.problems.append(RecipeError(what, where=place, fix=fix))
            continue
        # An unknown key and a value out of range are both looked for where the key stands.
        written.places[(*key, name)] = place
        values[name] = _plain(value_node, (*key, name), written)
    return values


def _line(place: str, node: yaml.Node) -> str:
    return _at(place, node.start_mark.line + 1)


def _at(place: str, line: int) -> str:
    return place if place.startswith("--set ") else f"{place}:{line}"
