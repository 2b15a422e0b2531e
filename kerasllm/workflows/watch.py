"""Show runs in a browser, until a signal ends it."""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable, Sequence
from pathlib import Path

from kerasllm.errors import CommandError
from kerasllm.workflows.serve import need_the_extra
from kerasllm.workflows.signals import asked_to_stop

_PREFIX = re.compile(r"(/[A-Za-z0-9._~-]+)*")


def watch(
    folders: Sequence[str | Path] = ("runs",),
    *,
    host: str = "127.0.0.1",
    port: int = 8008,
    prefix: str = "",
    hosts: Sequence[str] = (),
    started: Callable[[str], None] = print,
) -> None:
    """Shows the runs in folders on a page, until SIGTERM or Ctrl-C.

    Args:
        folders: Folders of runs, or run directories. Defaults to `("runs",)`.
        host: The address to listen at. Defaults to `"127.0.0.1"`: only this machine reaches it.
        port: The port; 0 takes a free one. Defaults to `8008`.
        prefix: What comes before each path behind a proxy, as `/watch`. Defaults to nothing.
        hosts: Names by which browsers ask for it, beside those of the machine. Defaults to none.
        started: Called with where the page is, when it answers. Defaults to `print`.

    Raises:
        KerasllmError: If a folder is not there, or the address cannot be taken.
    """
    need_the_extra()
    from kerasllm.reports.run_groups import no_folder
    from kerasllm.serving.server import Server, address_of, bind
    from kerasllm.watch.app import build_app

    for folder in folders:
        if not Path(folder).is_dir():
            raise no_folder(Path(folder), "watch")
    prefix = prefix.rstrip("/")
    if not _PREFIX.fullmatch(prefix):
        raise CommandError(
            f"The prefix is not a path. Received: {prefix}",
            where="--prefix",
            fix="write it as /watch: letters, digits and . _ ~ - between slashes",
        )
    token = secrets.token_urlsafe(24)
    with bind(host, port) as taken:
        app = build_app([Path(folder) for folder in folders], token, prefix=prefix, hosts=hosts)
        page = f"{address_of(taken)}{prefix}/?token={token}"
        server = Server(app, lambda: started(f"Open {page}"), lifespan="on")
        with asked_to_stop(lambda signal: None):
            server.run(sockets=[taken])
