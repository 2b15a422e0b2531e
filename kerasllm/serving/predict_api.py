"""TensorFlow Serving's REST API for a classifier: predict, status and metadata."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from kerasllm.serving.batching import Batcher
from kerasllm.serving.classifier import ServedClassifier
from kerasllm.serving.limits import Limits
from kerasllm.serving.predict_request import INPUT, SIGNATURE, parse_predict
from kerasllm.serving.refusal import Refusal
from kerasllm.serving.requests import read_json, unless_hung_up

_VERSION = "1"


class PredictApi:
    """The endpoints of a classifier.

    Args:
        name: What the model is called in addresses.
        classifier: The model.
        batcher: What computes with it.
        limits: How much a request may ask for.
    """

    def __init__(self, name: str, classifier: ServedClassifier, batcher: Batcher, limits: Limits):
        self._name = name
        self._classifier = classifier
        self._batcher = batcher
        self._limits = limits

    @property
    def routes(self) -> list[BaseRoute]:
        """The addresses that are answered."""
        routes: list[BaseRoute] = []
        for version in ("", f"/versions/{_VERSION}"):
            start = f"/v1/models/{self._name}{version}"
            routes += [
                Route(start + ":predict", self.predict, methods=["POST"]),
                Route(start + "/metadata", self.metadata, methods=["GET"]),
                Route(start, self.status, methods=["GET"]),
            ]
        return routes

    def error(self, refusal: Refusal) -> Response:
        """Returns an error in TensorFlow Serving's shape."""
        body = {"error": refusal.message}
        return JSONResponse(body, refusal.status, headers=refusal.headers)

    async def predict(self, request: Request) -> Response:
        """Answers `POST /v1/models/NAME:predict`."""
        wanted = parse_predict(await read_json(request, self._limits.body), self._limits.instances)
        results = await unless_hung_up(request, self._batcher.submit(wanted.texts))
        names = self._classifier.labels
        if wanted.columns:
            columns = zip(names, zip(*(chances for _, chances in results)))
            outputs = {
                "label": [label for label, _ in results],
                "probabilities": {name: list(column) for name, column in columns},
            }
            return JSONResponse({"outputs": outputs})
        rows = [
            {"label": label, "probabilities": dict(zip(names, chances))}
            for label, chances in results
        ]
        return JSONResponse({"predictions": rows})

    async def status(self, request: Request) -> Response:
        """Answers `GET /v1/models/NAME`."""
        status = {"error_code": "OK", "error_message": ""}
        state = "AVAILABLE" if self._batcher.ready else "UNLOADING"
        version = {"version": _VERSION, "state": state, "status": status}
        return JSONResponse({"model_version_status": [version]})

    async def metadata(self, request: Request) -> Response:
        """Answers `GET /v1/models/NAME/metadata`."""
        classes = len(self._classifier.labels)
        signature = {
            "inputs": {INPUT: _tensor("DT_STRING", -1)},
            "outputs": {
                "label": _tensor("DT_STRING", -1),
                "probabilities": _tensor("DT_FLOAT", -1, classes),
            },
            "method_name": "tensorflow/serving/predict",
        }
        return JSONResponse(
            {
                "model_spec": {"name": self._name, "signature_name": "", "version": _VERSION},
                "metadata": {
                    "signature_def": {"signature_def": {SIGNATURE: signature}},
                    "labels": self._classifier.labels,
                    "max_length": self._classifier.max_length,
                },
            }
        )


def _tensor(dtype: str, *sizes: int) -> dict:
    dims = [{"size": str(size), "name": ""} for size in sizes]
    return {"dtype": dtype, "tensor_shape": {"dim": dims, "unknown_rank": False}, "name": ""}
