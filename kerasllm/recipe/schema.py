"""A schema of pydantic models put into words: what a key takes, what a comment or an error says."""

from __future__ import annotations

import difflib
import functools
import json
import shlex
import types
import typing
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal, Union

from pydantic import BaseModel, ValidationError
from pydantic_core import PydanticCustomError

from kerasllm import aliases
from kerasllm.errors import RecipeError
from kerasllm.recipe import yaml_file as recipe_yaml
from kerasllm.recipe.types import Section
from kerasllm.recipe.yaml_file import Key, Value, Written

_LONGEST_VALUE_SHOWN = 80
_MOST_SHOWN = 20
_MOST_WORDED = 100
# Likeness, from 0 to 1, below which a known word is no help to who wrote an unknown one.
_NEAR = 0.6


@dataclass(frozen=True)
class KnownKey:
    """What the schema says about one key.

    Attributes:
        expected: What it takes, such as "a number above 0 or null".
        expected_inside: What each item of its list or mapping must be, such as "a text".
        choices: The words that it takes, such as `("auto",)`.
        only_choices: Whether it takes nothing but these words.
        takes_mapping: Whether its value may be a mapping.
        description: What it is for.
    """

    expected: str
    expected_inside: str
    choices: tuple[str, ...]
    only_choices: bool
    takes_mapping: bool
    description: str


@functools.cache
def known_keys(schema: type[BaseModel]) -> dict[Key, KnownKey]:
    """Returns every key of a schema in order, the keys of a nested model after its own."""
    keys: dict[Key, KnownKey] = {}
    hints = typing.get_type_hints(schema, include_extras=True)
    for name, field in schema.model_fields.items():
        forms = list(_forms(hints[name]))
        choices = tuple(form.words for form in forms if form.type is Literal)
        expected = _listed([form.words for form in forms], "or")
        keys[(name,)] = KnownKey(
            expected=expected,
            expected_inside=next((form.item for form in forms if form.item), expected),
            choices=choices,
            only_choices=len(choices) == len(forms),
            takes_mapping=any(form.type is dict or _is_model(form.type) for form in forms),
            description=field.description or "",
        )
        for nested in (form.type for form in forms if _is_model(form.type)):
            keys |= {(name, *key): known for key, known in known_keys(nested).items()}
    return keys


def comments(schema: type[BaseModel]) -> dict[Key, str]:
    """Returns the comment beside each key: what it is for, after its choices if it has some."""
    return {
        key: f"{' | '.join(known.choices)}; {known.description}"
        if known.only_choices and len(known.choices) > 1
        else known.description
        for key, known in known_keys(schema).items()
    }


class WholeRecipe(Section):
    """What all recipes can do, for every task."""

    if TYPE_CHECKING:
        # The keys are those of the task.
        def __getattr__(self, name: str) -> Any: ...

    def to_yaml(self, explain: bool = False) -> str:
        """Writes every key, in the order of the schema.

        Args:
            explain: Whether a comment beside each key says what it is. Defaults to `False`.

        Returns:
            YAML that loads back to an equal recipe.
        """
        return recipe_yaml.dump(self.model_dump(), comments(type(self)) if explain else {})

    def changes_from(self, base: WholeRecipe | None = None) -> dict[str, tuple[Any, Any]]:
        """Returns the keys that have other values than in another recipe.

        Args:
            base: The other recipe. Defaults to `None`: the defaults of the schema.

        Returns:
            By dotted key its value, and that of the other recipe.
        """
        mine = _by_key(self.model_dump())
        other = _by_key(base.model_dump() if base is not None else _defaults(type(self)))
        return {
            key: (value, other.get(key))
            for key, value in mine.items()
            if value != other.get(key) and key != "task"
        }


def _by_key(values: dict[str, Any]) -> dict[str, Any]:
    """Returns the values of a recipe by dotted key."""
    found = {}
    for name, value in values.items():
        inner = value if isinstance(value, dict) else {}
        found |= {f"{name}.{key}": each for key, each in inner.items()} or {name: value}
    return found


def _defaults(schema: type[BaseModel]) -> dict[str, Any]:
    """Returns the defaults of the sections of a recipe; a key that must be written has none."""
    return {
        name: {
            key: inner.get_default()
            for key, inner in field.annotation.model_fields.items()
            if not inner.is_required()
        }
        for name, field in schema.model_fields.items()
        if _is_model(field.annotation)
    }


def refusal(what: str, fix: str | None = None, *, key: str | None = None) -> PydanticCustomError:
    """Returns the error that a validator raises for values that do not go together.

    Args:
        what: What is wrong, to be read after the name of the key.
        fix: What to do about it. Defaults to `None`.
        key: The key to blame, if it is one inside what is validated. Defaults to `None`.
    """
    return PydanticCustomError("refusal", "{what}", {"what": what, "fix": fix, "key": key})


def together(found: Sequence[RecipeError]) -> RecipeError:
    """Returns one error that tells of all of them."""
    if len(found) == 1:
        return found[0]
    shown = found[:_MOST_SHOWN]
    more = [f"and {len(found) - len(shown):,} more"] if found[_MOST_SHOWN:] else []
    return RecipeError("\n".join([f"{len(found):,} problems", *map(str, shown), *more]))


def problems(
    schema: type[BaseModel], error: ValidationError, written: Written
) -> list[RecipeError]:
    """Returns what pydantic refused as errors for the user, each with its place.

    Args:
        schema: The model that was validated.
        error: What pydantic raised for `written.values`.
        written: The values and where each was written.
    """
    known = known_keys(schema)
    found: list[RecipeError] = []
    refused: list[Key] = []
    # The nearest known key takes its time, and nobody reads a thousand of them.
    for detail in error.errors(include_url=False)[:_MOST_WORDED]:
        key = _key_of(detail["loc"], written.values)
        if detail["type"] == "refusal":
            context = detail["ctx"]
            key = (*key, context["key"]) if context["key"] else key
            what = f"{_dotted(key)}: {context['what']}"
            found.append(RecipeError(what, where=written.place_of(key), fix=context["fix"]))
        elif detail["type"] == "extra_forbidden":
            found.append(_unknown(key, known, written))
        elif detail["type"] == "missing":
            key = (*key, str(detail["loc"][-1]))
            what = f"{_dotted(key)} is missing. Expected: {known[key].expected}"
            found.append(RecipeError(what, where=written.place_of(key)))
        else:
            refused.append(key)
    # A key that takes one of several forms is refused once for each of them; the form that got
    # furthest into the value is the one that was meant.
    for key in dict.fromkeys(refused):
        if not any(len(other) > len(key) and other[: len(key)] == key for other in refused):
            found.append(_misfit(key, known, written))
    return found


def _misfit(key: Key, known: dict[Key, KnownKey], written: Written) -> RecipeError:
    """Returns the error for a value that its key does not take."""
    field = key
    while field and field not in known:  # an item of a list, an entry of a mapping of labels
        field = field[:-1]
    if not field:
        # Of what is no text at all, the schema does not say which.
        return RecipeError("a key of the recipe is not valid Unicode: it contains half a character")
    value = written.value_of(key)
    expected = known[field].expected if field == key else known[field].expected_inside
    near = difflib.get_close_matches(str(value).lower(), known[field].choices, 1, _NEAR)
    return RecipeError(
        f"{_dotted(key)}: expected {expected}. Received: {_shown(value)}",
        where=written.place_of(key),
        fix=f"did you mean {near[0]}?" if near else None,
    )


def _unknown(key: Key, known: dict[Key, KnownKey], written: Written) -> RecipeError:
    """Returns the error for a key that the schema does not have, with the nearest that it has."""
    alias = aliases.KEYS.get(aliases.normalized(str(key[-1])))
    fix = alias and _fix_of(alias, key, known, written)
    if fix:
        return RecipeError(f"unknown key {_dotted(key)}", where=written.place_of(key), fix=fix)
    is_mapping = isinstance(written.value_of(key), dict)
    section = key[:-1]

    def likeness(candidate: Key) -> tuple[float, bool]:
        likest = _ratio(key[-1], candidate[-1])
        if not section:  # such as model_dropout
            likest = max(likest, _ratio(key[-1], _dotted(candidate)))
        words = str(candidate[-1]).split("_")
        if len(words) > 1 and key[-1] == "".join(word[0] for word in words):  # such as lr
            likest = 1.0
        return likest, candidate[:-1] == section

    candidates = [name for name, about in known.items() if about.takes_mapping >= is_mapping]
    nearest = max(candidates, key=likeness)
    if likeness(nearest)[0] >= _NEAR:
        fix = f"did you mean {_dotted(nearest)}?"
    else:
        siblings = [str(name[-1]) for name in known if name[:-1] == section]
        place = f"the keys of {_dotted(section)}" if section else "the top-level keys"
        fix = f"{place} are {_listed(siblings, 'and')}"
    return RecipeError(f"unknown key {_dotted(key)}", where=written.place_of(key), fix=fix)


def _fix_of(
    alias: aliases.Key, key: Key, known: dict[Key, KnownKey], written: Written
) -> str | None:
    """Returns what to type instead of another tool's key; `None` where this recipe has no such."""
    value, by_option = written.value_of(key), written.place_of(key).startswith("--set ")
    if alias.ours is None:
        if alias.option:
            given = value if isinstance(value, str) and value else "DIR"
            return f"{alias.note}; type {alias.option.replace('VALUE', shlex.quote(given))}"
        return alias.note
    ours = tuple(alias.ours.split("."))
    if ours not in known:
        return None
    shown: Any = value
    if value is None or isinstance(value, str):
        shown = aliases.value_for(alias, value)
    about = known[ours]
    if about.only_choices and shown not in about.choices:
        shown = about.choices[0]
    if by_option:
        flow = shown if isinstance(shown, str) else json.dumps(shown, ensure_ascii=False)
        how = f"type --set {shlex.quote(f'{alias.ours}={flow}')}"
    else:
        how = f"write `{ours[-1]}: {_as_written(shown)}` under {'.'.join(ours[:-1])}"
    note = f" ({alias.note})" if alias.note else ""
    return f"did you mean {alias.ours}? {how}{note}"


def _as_written(value: Value) -> str:
    """Returns a value as a person writes it in YAML: scalars are the text that was written."""
    if isinstance(value, list):
        return f"[{', '.join(map(_as_written, value))}]"
    if isinstance(value, dict):
        return f"{{{', '.join(f'{key}: {_as_written(one)}' for key, one in value.items())}}}"
    return "null" if value is None else value


def _key_of(location: tuple[str | int, ...], values: Any) -> Key:
    """Returns pydantic's location without the names of the types that it tried on the way."""
    key: Key = ()
    for part in location:
        in_mapping = isinstance(values, dict) and part in values
        if in_mapping or (isinstance(values, list) and isinstance(part, int)):
            key, values = (*key, part), values[part]
    return key


@dataclass(frozen=True)
class _Form:
    """One of the forms that a value may take: a type, and the words for it and for its items."""

    type: Any
    words: str
    item: str = ""


def _forms(hint: Any) -> Iterator[_Form]:
    """Takes a type hint apart. The words of a constrained type stand in its `Annotated`."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is Annotated:
        words = next(note for note in arguments if isinstance(note, str))
        container = typing.get_origin(arguments[0])
        holds_items = container in (dict, list)
        item = next(_forms(typing.get_args(arguments[0])[-1])).words if holds_items else ""
        yield _Form(container or arguments[0], words, item)
    elif origin in (Union, types.UnionType):
        for argument in arguments:
            yield from _forms(argument)
    elif origin is Literal:
        yield from (_Form(Literal, choice) for choice in arguments)
    elif hint is bool:
        yield from (_Form(bool, "true"), _Form(bool, "false"))
    elif hint is types.NoneType:
        yield _Form(None, "null")
    else:
        yield _Form(hint, f"a mapping with {_listed(list(hint.model_fields), 'and')}")


def _is_model(form_type: Any) -> bool:
    return isinstance(form_type, type) and issubclass(form_type, BaseModel)


def _listed(words: list[str], conjunction: str) -> str:
    *others, last = words
    return f"{', '.join(others)} {conjunction} {last}" if others else last


def _dotted(key: Key) -> str:
    return ".".join(map(str, key))


def _ratio(one: str | int, other: str | int) -> float:
    matcher = difflib.SequenceMatcher(None, str(one).lower(), str(other).lower())
    # A name of a megabyte is none of them, and finding that out exactly takes minutes.
    return matcher.ratio() if matcher.real_quick_ratio() > 0.2 else 0.0


def _shown(value: Value) -> str:
    """Returns a received value as one line: a plain text as it was written, else as JSON."""
    shown = json.dumps(value, ensure_ascii=False, default=str)
    if isinstance(value, str) and value and value.isprintable():
        shown = value
    return shown if len(shown) <= _LONGEST_VALUE_SHOWN else f"{shown[:_LONGEST_VALUE_SHOWN]}..."
