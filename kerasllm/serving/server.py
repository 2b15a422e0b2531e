"""A server process: its socket, its signals, its end."""

from __future__ import annotations

import logging
import socket
import ssl
from collections.abc import Callable

import uvicorn
from starlette.types import ASGIApp

from kerasllm.errors import CommandError
from kerasllm.serving.connections import most_connections, protocol

# Answers that take longer than this after SIGTERM are broken off.
_SECONDS_TO_FINISH = 30
_BACKLOG = 1024
# A connection that a client has kept for its next request is not closed under its hands.
_SECONDS_KEPT = 75


def bind(host: str, port: int) -> socket.socket:
    """Takes an address, before anything slow is done.

    Args:
        host: A name or an address of this machine.
        port: The port; 0 takes one that is free.

    Raises:
        CommandError: If it is in use, or not to be had.
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
            f"The address cannot be taken: {error.strerror}",
            where=where,
            fix="choose another port with --port; --port 0 takes one that is free",
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
    """

    def __init__(
        self,
        app: ASGIApp,
        started: Callable[[], None] = lambda: None,
        context: ssl.SSLContext | None = None,
    ):
        # Nothing of a request is logged: texts and keys are the clients' own.
        logging.getLogger("uvicorn").setLevel(logging.ERROR)
        config = uvicorn.Config(
            app,
            lifespan="off",
            ws="none",
            log_config=None,
            access_log=False,
            server_header=False,
            backlog=_BACKLOG,
            http=protocol(most_connections(), context=context),
            timeout_keep_alive=_SECONDS_KEPT,
            timeout_graceful_shutdown=_SECONDS_TO_FINISH,
        )
        super().__init__(config)
        self._tell = started

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begins to answer, and says so."""
        await super().startup(sockets)
        self._tell()
