"""The metrics of a server, in the text format of Prometheus."""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from starlette.requests import Request
from starlette.responses import Response

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
_ROWS = (1, 2, 4, 8, 16, 32, 64, 128)
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class Metrics:
    """The numbers of one server.

    Attributes:
        requests: Requests that were answered, by endpoint and status; 499 is a client that hung up.
        request_seconds: From a request's head to the end of its answer, by endpoint.
        compute_seconds: Of one call of the model.
        batch_rows: Instances, or answers, that a call of the model computed together.
        tokens: Tokens that were computed, by kind: `prompt` (all that is read) and `generated`.
    """

    def __init__(self):
        self._registry = CollectorRegistry()
        own = {"namespace": "kerasllm", "registry": self._registry}
        self.requests = Counter("requests", "Requests.", ["endpoint", "status"], **own)
        self.request_seconds = Histogram(
            "request_seconds", "Request duration in seconds.", ["endpoint"], buckets=_SECONDS, **own
        )
        self.compute_seconds = Histogram(
            "compute_seconds", "Duration of a model call in seconds.", buckets=_SECONDS, **own
        )
        self.batch_rows = Histogram("batch_rows", "Examples per model call.", buckets=_ROWS, **own)
        self.tokens = Counter("tokens", "Processed tokens.", ["kind"], **own)
        self._own = own

    def add_gauge(self, name: str, what: str, value: Callable[[], float]) -> None:
        """Adds a number that is computed whenever the metrics are read.

        Args:
            name: Its name.
            what: What it is.
            value: Returns it.
        """
        Gauge(name, what, **self._own).set_function(value)

    async def answer(self, request: Request) -> Response:
        """Answers `GET /metrics`."""
        return Response(generate_latest(self._registry), media_type=CONTENT_TYPE)
