"""The application around an API: keys, errors, health, metrics."""

from __future__ import annotations

import hmac
import logging
import time
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from starlette.applications import Starlette
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import BaseRoute, Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from kerasllm.serving import docs_page
from kerasllm.serving.metrics import Metrics
from kerasllm.serving.openapi import Operation, describe
from kerasllm.serving.origins import check_origin
from kerasllm.serving.refusal import Refusal, failed
from kerasllm.serving.requests import refuse_forms

_log = logging.getLogger(__name__)
# The description tells what the API is, and nothing of what is asked or answered.
_STATES = ("/health", "/ready")
_WITHOUT_KEY = ("/health", "/ready", "/openapi.json", "/docs")
_STATE = {"type": "object", "properties": {"status": {"type": "string"}}, "required": ["status"]}
_OWN = (
    Operation("GET", "/health", "Liveness probe", _STATE, open=True),
    Operation("GET", "/ready", "Readiness probe", _STATE, open=True),
    Operation("GET", "/metrics", "Prometheus metrics", None),
)
# What nginx says of a client that hung up; no client sees it.
_HUNG_UP = 499


class Endpoints(Protocol):
    """Endpoints of a model, and the shape of their errors.

    Attributes:
        name: What the model is called.
        error_schema: The JSON schema of an error.
    """

    name: str
    error_schema: Mapping[str, Any]

    @property
    def operations(self) -> Sequence[Operation]:
        """What the addresses answer, for the description of the API."""

    @property
    def routes(self) -> list[BaseRoute]:
        """The addresses that are answered."""

    @property
    def example(self) -> tuple[str, dict]:
        """The path and the body of a request."""

    def error(self, refusal: Refusal) -> Response:
        """Returns what a request that is refused is answered with."""


class Worker(Protocol):
    """What computes."""

    ready: bool
    waiting: int

    def start(self) -> None:
        """Begins."""

    def close(self, seconds: float = ...) -> bool:
        """Ends when all is computed, or after so many seconds; returns whether it has ended."""


def build_app(
    api: Endpoints,
    worker: Worker,
    metrics: Metrics,
    key: str | None = None,
    *,
    hosts: Sequence[str] = (),
    origins: Sequence[str] = (),
) -> ASGIApp:
    """Returns the application that serves a model.

    Args:
        api: Its endpoints.
        worker: What computes.
        metrics: What is counted.
        key: What clients must send as `Authorization: Bearer KEY`. Defaults to `None`: nothing.
        hosts: Names of this server that requests without a key may ask for; see `origins`.
            Defaults to none beside those that are known.
        origins: Whose pages may ask, as `https://example.org`. Defaults to none.
    """
    metrics.add_gauge("waiting_requests", "Queued requests.", lambda: worker.waiting)

    async def health(request: Request) -> Response:
        return JSONResponse({"status": "ok"})

    async def ready(request: Request) -> Response:
        state = ("ready", 200) if worker.ready else ("not ready", 503)
        return JSONResponse({"status": state[0]}, state[1])

    # What a server answers does not change while it runs.
    description = describe(api.name, [*api.operations, *_OWN], api.error_schema, key is not None)

    async def openapi(request: Request) -> Response:
        return JSONResponse(description)

    async def docs(request: Request) -> Response:
        address = str(request.base_url).rstrip("/")
        return HTMLResponse(docs_page.page_of(description, address), headers=docs_page.HEADERS)

    async def refused(request: Request, error: Exception) -> Response:
        return api.error(_refusal(request, error))

    routes = [
        Route("/health", health),
        Route("/ready", ready),
        Route("/metrics", metrics.answer),
        Route("/openapi.json", openapi),
        Route("/docs", docs),
        *api.routes,
    ]
    handlers = {HTTPException: refused, Refusal: refused, Exception: refused}
    middleware = []
    if origins:
        allowed = {"allow_origins": origins, "allow_methods": ["GET", "POST"]}
        headers = ["Authorization", "Content-Type"]
        middleware.append(Middleware(CORSMiddleware, allow_headers=headers, **allowed))
    app = Starlette(routes=routes, exception_handlers=handlers, middleware=middleware)
    return _Gate(app, api, metrics, key, hosts, origins)


class _Gate:
    """Lets requests with the key in, counts them, and answers those that failed."""

    def __init__(
        self,
        app: Starlette,
        api: Endpoints,
        metrics: Metrics,
        key: str | None,
        hosts: Sequence[str],
        origins: Sequence[str],
    ):
        self._app = app
        self._hosts = hosts
        self._origins = origins
        self._api = api
        self._metrics = metrics
        self._key = None if key is None else key.encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        started, status = time.perf_counter(), _HUNG_UP

        async def sending(message: Message) -> None:
            nonlocal status
            status = message.get("status", status)
            await send(message)

        try:
            self._check(scope)
            await self._app(scope, receive, sending)
        except Refusal as refusal:
            await self._api.error(refusal)(scope, receive, sending)
        except ClientDisconnect:
            status = _HUNG_UP
        except Exception:  # noqa: BLE001
            # Starlette has answered it already.
            _log.exception("A request failed: %s %s", scope["method"], scope["path"][:200])
        finally:
            endpoint = getattr(scope.get("endpoint"), "__name__", "none")
            self._metrics.requests.labels(endpoint, str(status)).inc()
            self._metrics.request_seconds.labels(endpoint).observe(time.perf_counter() - started)

    def _check(self, scope: Scope) -> None:
        headers = Headers(scope=scope)
        if self._key is None:
            if scope["path"] not in _STATES:
                check_origin(headers, self._hosts, self._origins)
                refuse_forms(headers)
            return
        # A browser asks without the key whether it may ask with it.
        asks = scope["method"] == "OPTIONS" and self._origins
        if scope["path"] in _WITHOUT_KEY or asks:
            return
        kind, _, sent = headers.get("authorization", "").partition(" ")
        sent = sent.strip().encode("latin-1")
        if kind.lower() != "bearer" or not hmac.compare_digest(sent, self._key):
            raise _wrong_key()


def _wrong_key() -> Refusal:
    return Refusal(
        401,
        "The API key is missing or wrong. Send it as `Authorization: Bearer KEY`.",
        code="invalid_api_key",
        headers={"WWW-Authenticate": "Bearer"},
    )


def _refusal(request: Request, error: Exception) -> Refusal:
    """Returns what a request that ended with an error is answered with."""
    if isinstance(error, Refusal):
        return error
    if not isinstance(error, HTTPException):
        return failed()
    # The URL of a request is made of its headers, and may be none.
    where = f"{request.method} {request.scope['path'][:80]}"
    what = {404: "Not found", 405: "Method not allowed"}
    message = f"{what.get(error.status_code, error.detail)}: {where}"
    return Refusal(error.status_code, message, headers=error.headers)
