"""A server process: its socket, its signals, its shutdown."""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
import time
from collections.abc import Callable

import uvicorn
from starlette.types import ASGIApp

from kerasllm.errors import CommandError
from kerasllm.serving.connections import most_connections, protocol

_log = logging.getLogger(__name__)
GRACE = 30.0
"""Seconds from SIGTERM to the end; answers that take longer are broken off."""
# Of these so many, or half of them, are left for what computes to notice.
_TO_NOTICE = 3.0
# What fails for each connection, while there are no file descriptors, is logged that often.
_SECONDS_BETWEEN_LINES = 60.0
# Connections that the system lets wait, and how many of them asyncio accepts in one go: where there
# are no file descriptors left it fails, tells of it and tries again as many times.
_BACKLOG = 1024
_AT_ONCE = 32
# A connection that a client has kept for its next request is not closed under its hands.
_SECONDS_KEPT = 75


def bind(host: str, port: int) -> socket.socket:
    """Takes an address, before anything slow is done.

    Args:
        host: A name or an address of this machine.
        port: The port; 0 takes one that is free.

    Raises:
        CommandError: If it is in use, or not available.
    """
    where = f"--host {host} --port {port}"
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        # With its protocol: asyncio turns Nagle's algorithm off for connections of TCP, and of no
        # other. It would hold an answer back for 40 ms.
        taken = socket.socket(family, kind, protocol)
    except OSError as error:
        raise CommandError(
            f"The host {host!r} is not known: {error.strerror}", where=where, fix="check --host"
        ) from None
    taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        taken.bind(address)
    except OSError as error:
        taken.close()
        raise CommandError(
            f"The address cannot be used: {error.strerror}",
            where=where,
            fix="choose another port with --port; --port 0 uses a free one",
        ) from None
    return taken


def address_of(taken: socket.socket, scheme: str = "http") -> str:
    """Returns the address of a socket, as `http://127.0.0.1:8000`."""
    host, port = taken.getsockname()[:2]
    return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"


class Server(uvicorn.Server):
    """Serves an application on a socket until it is told to end.

    On SIGTERM and Ctrl-C nothing new is let in, and what was let in is finished.

    Args:
        app: The application.
        started: Called when requests are answered. Defaults to nothing.
        context: What connections are encrypted by, as `tls.read_certificate` gives it. Defaults to
            `None`: they are not.
        grace: Seconds from the signal to the end, even if requests are running. Defaults to `30.0`.
        lifespan: `"on"` where the application is told of the beginning and the end. Defaults to
            `"off"`.
    """

    def __init__(
        self,
        app: ASGIApp,
        started: Callable[[], None] = lambda: None,
        context: ssl.SSLContext | None = None,
        grace: float = GRACE,
        lifespan: str = "off",
    ):
        # Nothing of a request is logged: texts and keys are the clients' own.
        logging.getLogger("uvicorn").setLevel(logging.ERROR)
        logging.getLogger("uvicorn.error").addFilter(_is_no_cancellation)
        config = uvicorn.Config(
            app,
            lifespan=lifespan,
            ws="none",
            log_config=None,
            access_log=False,
            server_header=False,
            backlog=_AT_ONCE,
            http=protocol(most_connections(), context=context),
            timeout_keep_alive=_SECONDS_KEPT,
            timeout_graceful_shutdown=max(grace - _TO_NOTICE, grace / 2),
        )
        super().__init__(config)
        self._tell = started
        self._grace = grace
        self._asked: float | None = None
        self._last_line = -_SECONDS_BETWEEN_LINES

    @property
    def seconds_left(self) -> float:
        """How much of the grace period is left; all of it where nobody asked for the end."""
        passed = 0.0 if self._asked is None else time.monotonic() - self._asked
        return max(0.0, self._grace - passed)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begins to answer, and says so."""
        asyncio.get_running_loop().set_exception_handler(self._failed)
        await super().startup(sockets)
        for each in sockets or ():
            each.listen(_BACKLOG)
        self._tell()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Lets nothing new in, and finishes what it let in."""
        self._asked = time.monotonic()
        await super().shutdown(sockets)

    def _failed(self, loop: asyncio.AbstractEventLoop, context: dict) -> None:
        """Logs what fails outside of requests; that there are no files left, now and then."""
        error = context.get("exception")
        # At the end asyncio still tries to accept what it could not before.
        ending = self._asked is not None and isinstance(error, ValueError)
        if not ending and not isinstance(error, OSError):
            loop.default_exception_handler(context)
            return
        now = time.monotonic()
        if now - self._last_line > _SECONDS_BETWEEN_LINES:
            self._last_line = now
            _log.error("Connections are delayed or dropped: %s", error)


def _is_no_cancellation(record: logging.LogRecord) -> bool:
    """Leaves out the tracebacks of answers cut off at the end; a line tells of them."""
    return not (record.exc_info and record.exc_info[0] is asyncio.CancelledError)
