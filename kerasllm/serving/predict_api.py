"""TensorFlow Serving's REST API for any task: predict, status and metadata."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from kerasllm.serving.batching import Batcher
from kerasllm.serving.limits import Limits
from kerasllm.serving.openapi import Operation
from kerasllm.serving.predict_request import SIGNATURE, body_schema, parse_predict
from kerasllm.serving.refusal import Refusal
from kerasllm.serving.requests import read_json, unless_hung_up
from kerasllm.tasks.task import Api

_VERSION = "1"
_DTYPES = {
    "string": "DT_STRING",
    "number": "DT_FLOAT",
    "integer": "DT_INT64",
    "boolean": "DT_BOOL",
}


class PredictApi:
    """The endpoints of a model that computes outputs of instances.

    Args:
        name: What the model is called in addresses.
        api: What its task answers.
        batcher: What computes with it.
        limits: How much a request may ask for.

    Attributes:
        name: As given.
        error_schema: The JSON schema of an error.
    """

    error_schema: Mapping[str, Any] = {
        "type": "object",
        "properties": {"error": {"type": "string"}},
        "required": ["error"],
    }

    def __init__(self, name: str, api: Api, batcher: Batcher, limits: Limits):
        self.name = name
        self._api = api
        self._batcher = batcher
        self._limits = limits

    @property
    def routes(self) -> list[BaseRoute]:
        """The addresses that are answered."""
        routes: list[BaseRoute] = []
        for version in ("", f"/versions/{_VERSION}"):
            start = f"/v1/models/{self.name}{version}"
            routes += [
                Route(start + ":predict", self.predict, methods=["POST"]),
                Route(start + "/metadata", self.metadata, methods=["GET"]),
                Route(start, self.status, methods=["GET"]),
            ]
        return routes

    @property
    def operations(self) -> list[Operation]:
        """What the addresses answer; those of a version answer the same."""
        path, example = self.example
        anything = {"type": "object"}
        return [
            Operation(
                "POST",
                path,
                "Predicts for instances",
                _predictions(self._api.outputs),
                body_schema(self._api.Instance, self._limits.instances),
                example,
            ),
            Operation("GET", f"/v1/models/{self.name}", "Returns the model status", anything),
            Operation(
                "GET",
                f"/v1/models/{self.name}/metadata",
                "Returns the inputs and outputs of the model",
                anything,
            ),
        ]

    @property
    def example(self) -> tuple[str, dict]:
        """The path and the body of a request."""
        return f"/v1/models/{self.name}:predict", {"instances": [self._api.example]}

    def error(self, refusal: Refusal) -> Response:
        """Returns an error in TensorFlow Serving's shape."""
        body = {"error": refusal.message}
        return JSONResponse(body, refusal.status, headers=refusal.headers)

    async def predict(self, request: Request) -> Response:
        """Answers `POST /v1/models/NAME:predict`."""
        body = await read_json(request, self._limits.body)
        wanted = parse_predict(body, self._api.Instance, self._limits.instances)
        rows = await unless_hung_up(request, self._batcher.submit(wanted.instances))
        return JSONResponse({"outputs": columns(rows)} if wanted.columns else {"predictions": rows})

    async def status(self, request: Request) -> Response:
        """Answers `GET /v1/models/NAME`."""
        status = {"error_code": "OK", "error_message": ""}
        state = "AVAILABLE" if self._batcher.ready else "UNLOADING"
        version = {"version": _VERSION, "state": state, "status": status}
        return JSONResponse({"model_version_status": [version]})

    async def metadata(self, request: Request) -> Response:
        """Answers `GET /v1/models/NAME/metadata`."""
        fields = self._api.Instance.model_json_schema()["properties"]
        outputs = self._api.outputs
        signature = {
            "inputs": {name: _tensor(*_input(field)) for name, field in fields.items()},
            "outputs": {name: _tensor(dtype, sizes) for name, (dtype, sizes) in outputs.items()},
            "method_name": "tensorflow/serving/predict",
        }
        return JSONResponse(
            {
                "model_spec": {"name": self.name, "signature_name": "", "version": _VERSION},
                "metadata": {
                    "signature_def": {"signature_def": {SIGNATURE: signature}},
                    **self._api.facts,
                },
            }
        )


def _predictions(outputs: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the JSON schema of what instances are answered with, in rows or in columns."""
    row = {"type": "object", "required": list(outputs)}
    kinds = {
        "predictions": {"type": "array", "items": row},
        "outputs": {"type": "object", "required": list(outputs)},
    }
    return {
        "type": "object",
        "properties": kinds,
        "oneOf": [{"required": [kind]} for kind in kinds],
    }


def columns(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Returns rows, dicts with the same keys, as a dict of columns.

    A column of dicts with the same keys becomes a dict of columns itself.
    """
    found = {}
    for name in rows[0]:
        column = [row[name] for row in rows]
        found[name] = columns(column) if _same_keys(column) else column
    return found


def _same_keys(column: list) -> bool:
    dicts = all(isinstance(each, dict) and each for each in column)
    return dicts and all(each.keys() == column[0].keys() for each in column)


def _input(field: Mapping[str, Any]) -> tuple[str, tuple[int, ...]]:
    """Returns dtype and sizes of a field by its JSON schema."""
    # A field that may be null is given as the other type.
    options = [one for one in field.get("anyOf", ()) if one.get("type") != "null"]
    field, sizes = options[0] if options else field, (-1,)
    while field.get("type") == "array":
        field, sizes = field.get("items", {}), (*sizes, -1)
    return _DTYPES.get(field.get("type"), "DT_STRING"), sizes


def _tensor(dtype: str, sizes: Sequence[int]) -> dict:
    dims = [{"size": str(size), "name": ""} for size in sizes]
    return {"dtype": dtype, "tensor_shape": {"dim": dims, "unknown_rank": False}, "name": ""}
