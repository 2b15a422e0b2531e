"""The instances of a request in the shape of TensorFlow Serving's REST API.

Row format, `{"instances": [...]}`, has a value or an object for each instance; column format,
`{"inputs": ...}`, has a list for each field. A value or a list alone is the first field's.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, Field, model_validator
from pydantic_core import ErrorDetails

from kerasllm.serving.openapi import schema_of
from kerasllm.serving.refusal import Refusal
from kerasllm.serving.requests import brief
from kerasllm.serving.validation import Location, path, refused, validated

SIGNATURE = "serving_default"


def _is_known(signature: str) -> str:
    if signature not in ("", SIGNATURE):
        raise refused(f"{brief(signature)} is not found. Known: {SIGNATURE!r}")
    return signature


class PredictBody(BaseModel, extra="forbid"):
    """The body of a `:predict` request."""

    instances: Annotated[list[Any], Field(min_length=1), "a list of instances, at least one"] = None
    inputs: Any = None
    signature_name: Annotated[str, AfterValidator(_is_known), "a string"] = SIGNATURE

    @model_validator(mode="after")
    def _has_one_format(self) -> PredictBody:
        given = {"instances", "inputs"} & self.model_fields_set
        if len(given) != 1:
            received = "both" if given else "none"
            raise refused(f"must have one of 'inputs' and 'instances'. Received: {received}")
        return self


def body_schema(schema: type[BaseModel], most: int) -> dict[str, Any]:
    """Returns the JSON schema of the body of a request.

    Args:
        schema: The pydantic model of an instance.
        most: The maximum number of instances that it may have.
    """
    body, instance = schema_of(PredictBody), schema_of(schema)
    shared = instance.pop("$defs", {})
    fields = instance["properties"]
    first = next(iter(fields.values()))
    body["properties"]["instances"] |= {
        "items": {"anyOf": [instance, first]},
        "maxItems": most,
        "description": "each an object, or its first field alone",
    }
    body["properties"]["inputs"] |= {
        "description": "the same in columns: a list for each field, or of the first field alone"
    }
    for field in body["properties"].values():
        if field.get("default", ...) is None:
            del field["default"]
    return {**body, "$defs": shared}


@dataclass(frozen=True)
class PredictRequest:
    """What is to be computed.

    Attributes:
        instances: Instances of the model's schema.
        columns: Whether the answer is in column format.
    """

    instances: list[BaseModel]
    columns: bool


@dataclass(frozen=True)
class _Row:
    """What was sent of one instance.

    Attributes:
        fields: The values by field.
        place: Returns what messages call a place in it.
    """

    fields: dict[str, Any]
    place: Callable[[Location], str]


def parse_predict(body: dict[str, Any], schema: type[BaseModel], most: int) -> PredictRequest:
    """Reads a request.

    Args:
        body: The JSON object.
        schema: The pydantic model of an instance.
        most: The maximum number of instances that it may have.

    Raises:
        Refusal: If a field is missing, unknown or of a wrong type, or there are too many instances.
    """
    wanted = validated(PredictBody, body)
    columns = "inputs" in wanted.model_fields_set
    if columns:
        rows = _of_columns(wanted.inputs, schema)
    else:
        first = next(iter(schema.model_fields))
        rows = [_of_row(value, number, first) for number, value in enumerate(wanted.instances)]
    if len(rows) > most:
        name = "inputs" if columns else "instances"
        what = (
            f"{name!r} holds {len(rows):,} instances, but this server takes at most {most:,} "
            "per request"
        )
        raise Refusal(413, what)
    return PredictRequest([_instance(schema, row) for row in rows], columns)


def _of_row(value: Any, number: int, first: str) -> _Row:
    whole = f"instances[{number}]"
    if isinstance(value, dict) and not _is_base64(value):
        return _Row(value, lambda location: path((whole, *location)))

    def place(location: Location) -> str:
        return path((whole, *(location[1:] if location[:1] == (first,) else location)))

    return _Row({first: value}, place)


def _of_columns(inputs: Any, schema: type[BaseModel]) -> list[_Row]:
    bare = not isinstance(inputs, dict) or _is_base64(inputs)
    columns = {next(iter(schema.model_fields)): inputs} if bare else inputs
    columns = {n: each if isinstance(each, list) else [each] for n, each in columns.items()}
    counts = {name: len(column) for name, column in columns.items()}
    if len(set(counts.values())) > 1:
        told = ", ".join(f"{brief(name)} {count:,}" for name, count in list(counts.items())[:8])
        raise Refusal(400, f"The lists of 'inputs' must have one length. Received: {told}")
    if not any(counts.values()):
        what = f"'inputs' must have a list for each field, not empty. Received: {brief(inputs)}"
        raise Refusal(400, what)

    def place(number: int, location: Location) -> str:
        name = location[:1]
        if name and not (name[0] in columns and name[0] in schema.model_fields):
            return path(("inputs", *location))  # Of all rows: it is missing, or unknown.
        column = ("inputs",) if bare else ("inputs", *name)
        return path((*column, number, *location[1:]))

    return [
        _Row(dict(zip(columns, row, strict=True)), lambda location, n=number: place(n, location))
        for number, row in enumerate(zip(*columns.values(), strict=True))
    ]


def _instance(schema: type[BaseModel], row: _Row) -> BaseModel:
    def place(detail: ErrorDetails) -> str:
        return row.place(detail["loc"])

    fields = {name: _decoded(value, row, (name,)) for name, value in row.fields.items()}
    return validated(schema, fields, place=place)


def _decoded(value: Any, row: _Row, location: Location) -> Any:
    """Returns a value whose texts in base64 are decoded, also those that a list holds."""
    if isinstance(value, list) and len(location) == 1:
        return [_decoded(each, row, (*location, number)) for number, each in enumerate(value)]
    if not _is_base64(value):
        return value
    try:
        return base64.b64decode(value["b64"], validate=True).decode()
    except (binascii.Error, ValueError):
        raise Refusal(400, f"{row.place(location)} is not base64 of UTF-8") from None


def _is_base64(value: Any) -> bool:
    return isinstance(value, dict) and set(value) == {"b64"} and isinstance(value["b64"], str)
