"""Host and origin checks of a server without a key, against requests of other web pages.

A page of any site can send requests to the loopback. By a name of its own that it lets point there
(DNS rebinding) it can read the answers too: so the `Host` of a request must be an address, or a
name that is known to mean this server; and an `Origin`, which browsers add, must be its own.
"""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Collection
from urllib.parse import urlsplit

from starlette.datastructures import Headers

from kerasllm.serving.refusal import Refusal


def check_origin(
    headers: Headers, hosts: Collection[str] = (), origins: Collection[str] = ()
) -> None:
    """Refuses a request that a page of another site may have sent.

    Args:
        headers: Of the request.
        hosts: Names of this server, beside those of the machine and `localhost`. Defaults to none.
        origins: Of pages that may ask, as `https://example.org`; `*`: all. Defaults to none.

    Raises:
        Refusal: If its host or its origin is another's.
    """
    host = headers.get("host", "")
    name = _name_of(host)
    if not _is_known(name, hosts):
        raise Refusal(
            403,
            f"The host {name[:80]!r} is not this server's: start it with --allowed-host NAME",
            code="host_not_allowed",
        )
    origin = headers.get("origin")
    if origin is None or origin in origins or "*" in origins:
        return
    if _host_of(origin) != host.lower():
        raise Refusal(
            403,
            f"Pages of {origin[:80]!r} may not send requests: start the server with --cors ORIGIN",
            code="origin_not_allowed",
        )


def _host_of(origin: str) -> str | None:
    try:
        return urlsplit(origin).netloc.lower()
    except ValueError:
        # "http://[" begins an address that has no end.
        return None


def _name_of(host: str) -> str:
    """Returns the name or the address of a `Host`, without its port."""
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.rpartition(":")[0] if host.count(":") == 1 else host


def _is_known(name: str, hosts: Collection[str]) -> bool:
    name = name.lower().rstrip(".")
    if name in ("", "localhost", socket.gethostname().lower()) or name.endswith(".localhost"):
        return True
    if name in {host.lower() for host in hosts}:
        return True
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
