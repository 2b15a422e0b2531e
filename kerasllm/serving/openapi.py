"""The description of the API that a server has, as OpenAPI 3.1.

The bodies of requests are the pydantic models that validate them.

Reference: [OpenAPI](https://spec.openapis.org/oas/v3.1.0)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel

from kerasllm import __version__

_REF = "#/components/schemas/"


@dataclass(frozen=True)
class Operation:
    """What one address answers.

    Attributes:
        method: `"GET"` or `"POST"`.
        path: The address.
        summary: What it does, in a sentence without its full stop.
        answer: The JSON schema of what it answers; `None`: a text.
        body: The JSON schema of a request's body, with the models that it refers to in `$defs`, as
            `schema_of` gives it. Defaults to `None`: it has none.
        example: A body. Defaults to `None`.
        streams: Whether it may answer by server-sent events. Defaults to `False`.
        open: Whether it is answered without a key. Defaults to `False`.
    """

    method: str
    path: str
    summary: str
    answer: Mapping[str, Any] | None
    body: Mapping[str, Any] | None = None
    example: Any = None
    streams: bool = False
    open: bool = False


def schema_of(model: type[BaseModel]) -> dict[str, Any]:
    """Returns the JSON schema of a pydantic model; what it refers to is in `$defs`."""
    return model.model_json_schema(ref_template=_REF + "{model}")


def describe(
    name: str, operations: Sequence[Operation], error: Mapping[str, Any], with_key: bool
) -> dict[str, Any]:
    """Returns the description of an API, as `json.dumps` takes it.

    Args:
        name: The name of the model.
        operations: What is answered.
        error: The JSON schema of what a refused request is answered with.
        with_key: Whether a key must be sent.
    """
    schemas: dict[str, Any] = {"Error": dict(error)}
    paths: dict[str, dict] = {}
    for one in operations:
        described = _described(one, schemas)
        if with_key and not one.open:
            described["security"] = [{"key": []}]
        paths.setdefault(one.path, {})[one.method.lower()] = described
    components: dict[str, Any] = {"schemas": schemas}
    if with_key:
        components["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer"}}
    return {
        "openapi": "3.1.0",
        "info": {"title": f"The model {name}", "version": __version__},
        "paths": paths,
        "components": components,
    }


def _described(operation: Operation, schemas: dict[str, Any]) -> dict[str, Any]:
    """Returns an operation, and puts the schema of its body among the others."""
    if operation.answer is None:
        content = {"text/plain": {"schema": {"type": "string"}}}
    else:
        content = {"application/json": {"schema": dict(operation.answer)}}
    if operation.streams:
        content["text/event-stream"] = {"schema": {"type": "string"}}
    described = {
        "summary": operation.summary,
        "responses": {
            "200": {"description": "The answer.", "content": content},
            "default": {
                "description": "The error.",
                "content": {"application/json": {"schema": {"$ref": f"{_REF}Error"}}},
            },
        },
    }
    if operation.body is not None:
        body = dict(operation.body)
        schemas.update(body.pop("$defs", {}))
        schemas[body["title"]] = body
        media = {"schema": {"$ref": _REF + body["title"]}}
        if operation.example is not None:
            media["example"] = operation.example
        described["requestBody"] = {"required": True, "content": {"application/json": media}}
    return described
