"""What a client sent, validated with pydantic; what is refused becomes one sentence."""

from __future__ import annotations

import inspect
import typing
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Literal, TypeVar

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails, PydanticCustomError

from kerasllm.serving.refusal import Refusal
from kerasllm.serving.requests import brief

Location = tuple[str | int, ...]
Schema = TypeVar("Schema", bound=BaseModel)

# A message that lists more names than these is not read.
_NAMES_LISTED = 8
_LONGEST_NAME = 80
_EXPECTED = "Input should "


def path(location: Location) -> str:
    """Returns a place as it is written in code: `messages[0].content`."""
    steps = (
        f"[{step}]" if isinstance(step, int) else f".{step[:_LONGEST_NAME]}" for step in location
    )
    return "".join(steps).removeprefix(".")


def quoted(location: Location) -> str:
    """Returns a place for the beginning of a sentence."""
    if not location:
        return "The body"
    return repr(path(location)) if len(location) == 1 else path(location)


def refused(what: str, *, status: int = 400, code: str | None = None) -> PydanticCustomError:
    """Returns the error that a validator raises.

    Args:
        what: What is wrong, to be read after the name of the place.
        status: The HTTP status. Defaults to `400`.
        code: A short name of the error, for programs. Defaults to `None`.
    """
    return PydanticCustomError("refused", "{what}", {"what": what, "status": status, "code": code})


def validated(
    schema: type[Schema],
    value: Any,
    *,
    place: Callable[[ErrorDetails], str] = lambda detail: quoted(detail["loc"]),
    context: Mapping[str, Any] | None = None,
) -> Schema:
    """Returns a value as a schema has it.

    Args:
        schema: A pydantic model. A string among the metadata of a field, as in `Annotated[str, "a
            text"]`, is what messages call its type.
        value: What was sent.
        place: Returns what messages call the place of an error. Defaults to the place within
            `value`.
        context: What its validators need besides. Defaults to `None`.

    Raises:
        Refusal: If the schema does not take it.
    """
    try:
        return schema.model_validate(value, strict=True, context=context)
    except ValidationError as error:
        # A misspelt name is unknown, and the right one is missing: the first says more.
        details = error.errors(include_url=False)
        detail = min(details, key=lambda each: each["type"] != "extra_forbidden")
        unknown = detail["type"] == "extra_forbidden"
        context = {"code": "unknown_parameter" if unknown else None} | detail.get("ctx", {})
        raise Refusal(
            context.get("status", 400),
            _sentence(schema, detail, place(detail)),
            param=path(detail["loc"]) or None,
            code=context["code"],
        ) from None
    except UnicodeEncodeError:  # A validator quotes a text that UTF-8 cannot write.
        raise Refusal(400, "A text of the body is not valid Unicode: it has half a pair") from None


def _sentence(schema: type[BaseModel], detail: ErrorDetails, place: str) -> str:
    kind, message, value = detail["type"], detail["msg"], detail["input"]
    owner, expected = _field(schema, detail["loc"])
    if kind == "extra_forbidden":
        names = list(owner.model_fields)
        known = f". Known: {', '.join(names)}" if len(names) <= _NAMES_LISTED else ""
        return f"Unknown field: {place if place.startswith(chr(39)) else repr(place)}{known}"
    if kind == "missing":
        return f"{place} is missing" + (f". Expected: {expected}" if expected else "")
    if kind == "string_unicode":
        return f"{place} is not valid Unicode. Received: {brief(value)}"
    if "what" in detail.get("ctx", {}):  # `refused`
        return f"{place} {message}"
    if expected:
        return f"{place} must be {expected}. Received: {brief(value)}"
    if message.startswith(_EXPECTED):
        return f"{place} must {message.removeprefix(_EXPECTED)}. Received: {brief(value)}"
    # Of a task's own validators.
    return f"{place}: {message.removeprefix('Value error, ')}"


def _field(schema: type[BaseModel], location: Location) -> tuple[type[BaseModel], str | None]:
    """Returns the model that a place lies in, and what is expected there, in words."""
    owner, inside, expected = schema, [], None
    for step in location:
        if isinstance(step, int):
            expected = _first_words(inside)
            continue
        owner = next((each for each in inside if _is_model(each)), owner)
        field = owner.model_fields.get(step)
        inside = list(_within(field.annotation)) if field else []
        expected = _first_words([*(field.metadata if field else ()), *inside])
    return owner, expected


def _within(annotation: Any) -> Iterator[Any]:
    """Yields all that an annotation is made of, metadata included."""
    yield annotation
    if typing.get_origin(annotation) is not Literal:
        for argument in typing.get_args(annotation):
            yield from _within(argument)


def _first_words(parts: list[Any]) -> str | None:
    return next((part for part in parts if isinstance(part, str)), None)


def _is_model(part: Any) -> bool:
    return inspect.isclass(part) and issubclass(part, BaseModel)
