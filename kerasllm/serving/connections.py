"""Closes connections that send or read nothing, or too slowly."""

from __future__ import annotations

import asyncio
import contextlib
import resource
import ssl
from collections import OrderedDict

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from kerasllm.serving.tls import handshakes

SECONDS_FOR_HEADERS = 10.0
"""From the beginning of a connection, or of its next request, to the end of the headers."""
SECONDS_TO_READ = 60.0
"""While a client reads nothing of its answer, and no more of it fits into the buffers."""

# Files that the process has open beside connections.
_OTHER_FILES = 256
_LEAST = 16


def most_connections() -> int:
    """Returns how many connections this process can have, which it may then have.

    A process that has no file descriptor left answers nobody, not even who asks for its health.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft != hard:
        most = 1 << 16
        wanted = most if hard == resource.RLIM_INFINITY else min(hard, most)
        if wanted > soft:
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
            soft = wanted
    if soft == resource.RLIM_INFINITY:
        soft = 1 << 16
    return max(_LEAST, soft - _OTHER_FILES)


def protocol(
    most: int,
    seconds: float = SECONDS_FOR_HEADERS,
    context: ssl.SSLContext | None = None,
    seconds_to_read: float = SECONDS_TO_READ,
) -> type[asyncio.Protocol]:
    """Returns the class of a server's connections.

    Args:
        most: How many there may be. For one more the one is closed that has kept its request back
            for longest; where all are at work, the new one.
        seconds: How long the headers of a request may take. Defaults to `10.0`.
        context: What connections are encrypted by, who have as long again for it. Defaults to
            `None`: they are not.
        seconds_to_read: How long a client may read nothing of its answer. Defaults to `60.0`.
    """
    silent: OrderedDict[asyncio.Protocol, None] = OrderedDict()

    def make_room(newcomer: asyncio.Protocol) -> None:
        if len(newcomer.connections) > most:
            next(iter(silent), newcomer)._close()

    class _Connection(H11Protocol):
        _deadline: asyncio.TimerHandle | None = None
        _reading: asyncio.TimerHandle | None = None

        def connection_made(self, transport: asyncio.Transport) -> None:
            super().connection_made(transport)
            make_room(self)
            if not transport.is_closing():
                self._wait()

        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            if self._is_asked():
                self._unset()
            elif self._deadline is None:
                # The first bytes of its next request.
                self._wait()

        def on_response_complete(self) -> None:
            super().on_response_complete()
            if not self.transport.is_closing() and self not in silent and not self._is_asked():
                silent[self] = None

        def send_400_response(self, msg: str) -> None:
            if self._is_asked():
                # What is not the rest of its request: nobody waits for the answer any more.
                self.cycle.disconnected = True
                self.cycle.message_event.set()
            if self.conn.our_state in (h11.IDLE, h11.SEND_RESPONSE):
                # After HEAD, the body that comes with it cannot be sent.
                with contextlib.suppress(h11.LocalProtocolError):
                    super().send_400_response(msg)
            self.transport.close()

        def pause_writing(self) -> None:
            super().pause_writing()
            self._reading = self.loop.call_later(seconds_to_read, self._close)

        def resume_writing(self) -> None:
            super().resume_writing()
            self._unset_reading()

        def connection_lost(self, exc: Exception | None) -> None:
            self._unset()
            self._unset_reading()
            super().connection_lost(exc)

        def _is_asked(self) -> bool:
            return self.cycle is not None and not self.cycle.response_complete

        def _wait(self) -> None:
            silent[self] = None
            self._deadline = self.loop.call_later(seconds, self._close)

        def _unset(self) -> None:
            silent.pop(self, None)
            if self._deadline is not None:
                self._deadline.cancel()
                self._deadline = None

        def _unset_reading(self) -> None:
            if self._reading is not None:
                self._reading.cancel()
                self._reading = None

        def _close(self) -> None:
            self._unset()
            self.connections.discard(self)
            self.transport.abort()

    if context is not None:
        return handshakes(_Connection, context, seconds, silent, make_room)
    return _Connection
