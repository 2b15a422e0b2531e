"""HTTPS: a certificate with its key, and connections that are counted before they are encrypted."""

from __future__ import annotations

import asyncio
import functools
import ssl
from collections import OrderedDict
from collections.abc import Callable

from kerasllm.errors import CommandError

# After the server has said that it closes a connection.
_SECONDS_TO_CLOSE = 5.0
_MAKE = (
    "for a test, create one: openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes "
    "-days 30 -subj /CN=localhost -addext subjectAltName=DNS:localhost,IP:127.0.0.1 "
    "-keyout tls.key -out tls.pem"
)


def read_certificate(certificate: str, key: str | None = None) -> ssl.SSLContext:
    """Reads what a server proves its name with. TLS 1.2 or newer is spoken.

    Args:
        certificate: A PEM file: the certificate, and those between it and a root.
        key: The PEM file of its private key. Defaults to `None`: it is in the same file.

    Raises:
        CommandError: If a file cannot be read, or the two do not belong together.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    for file, where in ((certificate, "--tls-cert"), (key, "--tls-key")):
        try:
            if file is not None:
                with open(file, "rb") as opened:
                    opened.read(1)
        except OSError as error:
            raise CommandError(
                f"The file cannot be read: {error.strerror}",
                where=f"{where} {file}",
                fix="check the path and its permissions",
            ) from None
    where = f"--tls-cert {certificate}" + ("" if key is None else f" --tls-key {key}")
    try:
        context.load_cert_chain(certificate, key, password=_refuse_to_ask)
    except _Encrypted:
        raise CommandError(
            "The private key is encrypted, but a server cannot prompt for a password",
            where=where,
            fix="write it without one: openssl pkey -in KEY -out tls.key; make it readable by the "
            "server's user only",
        ) from None
    except (ssl.SSLError, OSError) as error:
        reason = getattr(error, "reason", None) or ""
        what, fix = "The files do not contain a certificate and its private key, in PEM", _MAKE
        if "MISMATCH" in reason:
            what = "The private key does not belong to the certificate"
            fix = "name the matching key with --tls-key"
        raise CommandError(what, where=where, fix=fix) from None
    return context


class _Encrypted(Exception):
    """The private key takes a password."""


def _refuse_to_ask() -> str:
    raise _Encrypted


def handshakes(
    protocol: Callable[..., asyncio.Protocol],
    context: ssl.SSLContext,
    seconds: float,
    silent: OrderedDict,
    make_room: Callable[[asyncio.Protocol], None],
) -> type[asyncio.Protocol]:
    """Returns the class of connections that become those of another one once they are encrypted.

    asyncio's own servers tell nobody of a connection before, and wait a minute for it.

    Args:
        protocol: Makes a connection, of uvicorn's arguments.
        context: What `read_certificate` gave.
        seconds: How long a handshake may take.
        silent: The connections that keep their requests back, the oldest first.
        make_room: Called with a new connection, that there are not too many.
    """

    class _Handshake(asyncio.Protocol):
        def __init__(self, config, server_state, app_state, _loop=None):
            self._make = functools.partial(protocol, config, server_state, app_state, _loop)
            self._early = b""
            self.connections = server_state.connections

        def connection_made(self, transport: asyncio.Transport) -> None:
            # What comes now is for the handshake.
            transport.pause_reading()
            self.transport = transport
            self.connections.add(self)
            make_room(self)
            if not transport.is_closing():
                silent[self] = None
                self._task = asyncio.get_running_loop().create_task(self._encrypt())

        async def _encrypt(self) -> None:
            try:
                encrypted = await asyncio.get_running_loop().start_tls(
                    self.transport,
                    self,
                    context,
                    server_side=True,
                    ssl_handshake_timeout=seconds,
                    ssl_shutdown_timeout=_SECONDS_TO_CLOSE,
                )
            except OSError:
                self.transport.abort()  # It speaks no TLS, or too slowly.
                return
            finally:
                self._forget()
            if encrypted is None or encrypted.is_closing():
                return  # It went away meanwhile.
            connection = self._make()
            encrypted.set_protocol(connection)
            connection.connection_made(encrypted)
            if self._early:
                connection.data_received(self._early)

        def data_received(self, data: bytes) -> None:
            # A request that came with the end of the handshake.
            self._early += data

        def shutdown(self) -> None:
            self._close()

        def _close(self) -> None:
            self._forget()
            self.transport.abort()

        def _forget(self) -> None:
            silent.pop(self, None)
            self.connections.discard(self)

    return _Handshake
