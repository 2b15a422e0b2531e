"""Serve a trained model over HTTP, until a signal ends it."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from kerasllm.errors import CommandError
from kerasllm.serving.limits import Limits
from kerasllm.tasks.task import Api
from kerasllm.workflows.signals import asked_to_stop
from kerasllm.workflows.trained import is_run, open_trained

if TYPE_CHECKING:
    from kerasllm.serving.app import Endpoints, Worker
    from kerasllm.serving.metrics import Metrics

KEY_VARIABLE = "KERASLLM_API_KEY"


@dataclass(frozen=True)
class Served:
    """A model that answers requests.

    Attributes:
        name: What it is called in requests.
        address: As `http://127.0.0.1:8000`.
        path: Where a request goes to, such as `/v1/models/my_run:predict`.
        body: The body of a request there, as an example.
    """

    name: str
    address: str
    path: str
    body: dict


def serve(
    source: str | Path,
    *,
    host: str = "127.0.0.1",
    port: int = 8000,
    name: str | None = None,
    key: str | None = None,
    limits: Limits | None = None,
    adapter: str | None = None,
    hosts: Sequence[str] = (),
    origins: Sequence[str] = (),
    tls_cert: str | None = None,
    tls_key: str | None = None,
    grace: float = 30.0,
    notify: Callable[[str], None] = lambda line: None,
    started: Callable[[Served], None] = lambda served: None,
) -> bool:
    """Serves the model of a run or a preset until SIGTERM or Ctrl-C.

    Args:
        source: A run directory or a preset.
        host: The address to listen at. Defaults to `"127.0.0.1"`: only this machine reaches it.
        port: The port; 0 takes a free one. Defaults to `8000`.
        name: What the model is called in requests. Defaults to `None`: as the run or the preset.
        key: What clients must send. Defaults to `None`: nothing.
        limits: How much is taken. Defaults to `None`: see `Limits`.
        adapter: The folder of an adapter, for a model that writes text. Defaults to `None`.
        hosts: Names of this server that requests without a key may ask for. Defaults to none
            beside `localhost` and the machine's own.
        origins: Whose pages may ask, as `https://example.org`. Defaults to none.
        tls_cert: The PEM file of a certificate, to answer over HTTPS. Defaults to `None`: over
            HTTP.
        tls_key: The PEM file of its private key. Defaults to `None`: it is in the same file.
        grace: Seconds from the signal to the end: answers that take longer are broken off. Defaults
            to `30.0`.
        notify: Called with a line before something slow. Defaults to nothing.
        started: Called when requests are answered. Defaults to nothing.

    Returns:
        Whether nothing computes any more; a call of the model that hangs is left behind.

    Raises:
        KerasllmError: If the model cannot be opened, the certificate cannot be used, or the address
            cannot be taken.
    """
    need_the_extra()
    from kerasllm.serving.app import build_app
    from kerasllm.serving.metrics import Metrics
    from kerasllm.serving.server import Server, address_of, bind
    from kerasllm.serving.tls import read_certificate

    name = _name(source) if name is None else name
    _check_name(name)
    limits = limits or Limits()
    if tls_key is not None and tls_cert is None:
        raise CommandError(
            "A private key without its certificate", where="--tls-key", fix="name it: --tls-cert"
        )
    context = None if tls_cert is None else read_certificate(tls_cert, tls_key)
    trained = open_trained(source)
    if adapter is not None and not trained.task.generates:
        raise CommandError("Only models that generate text take an adapter", where="--adapter")
    with bind(host, port) as taken:
        notify(f"loading {source}")
        writes = trained.task.generates
        model = trained.open(adapter=adapter, progress=notify, writes=writes)
        metrics = Metrics()
        api = trained.task.api(model, limits)
        endpoints, worker = endpoints_of(api, name, limits, metrics, notify)
        app = build_app(endpoints, worker, metrics, key, hosts=hosts, origins=origins)
        scheme = "http" if context is None else "https"
        served = Served(name, address_of(taken, scheme), *endpoints.example)
        server = Server(app, lambda: started(served), context, grace)
        worker.start()
        try:
            # uvicorn raises the signal that ended it again: it was obeyed, and is no failure.
            with asked_to_stop(lambda signal: None):
                server.run(sockets=[taken])
        finally:
            ended = worker.close(server.seconds_left)
    return ended


def read_key(file: str | None) -> str | None:
    """Returns the key that clients must send.

    Args:
        file: The file that holds it. `None`: the variable `KERASLLM_API_KEY`.

    Returns:
        The key; `None` if there is neither.

    Raises:
        CommandError: If the file cannot be read, or what it holds is no key.
    """
    where = file or KEY_VARIABLE
    if file is None:
        key = os.environ.get(KEY_VARIABLE)
        if key is None:
            return None
    else:
        try:
            key = Path(file).read_text(encoding="utf-8")
        except OSError as error:
            raise CommandError(f"{error.strerror}", where=where, fix="check the path") from None
        except UnicodeDecodeError:
            raise CommandError("The file is not UTF-8", where=where) from None
    key = key.strip()
    if not re.fullmatch(r"[!-~]+", key):
        raise CommandError(
            "The API key must be one word of visible ASCII characters",
            where=where,
            fix="write one there, such as the output of `openssl rand -hex 32`",
        )
    return key


def need_the_extra() -> None:
    """Raises a `CommandError` if what answers over HTTP is not installed."""
    try:
        import prometheus_client  # noqa: F401
        import starlette  # noqa: F401
        import uvicorn  # noqa: F401
    except ImportError as error:
        raise CommandError(
            f"Serving needs {error.name}, which is not installed",
            fix='pip install "kerasllm[serve]"',
        ) from None


def _name(source: str | Path) -> str:
    """Returns what a model is called: the last part of its path."""
    if is_run(source):
        return os.path.basename(os.path.realpath(source))
    return str(source).rstrip("/").rpartition("/")[2]


def _check_name(name: str) -> None:
    if not re.fullmatch(r"[\w.-]+", name, re.ASCII):
        raise CommandError(
            f"A model's name has letters, digits, '_', '-' and '.'. Received: {name!r}",
            where="--name",
            fix="give another with --name",
        )


def endpoints_of(
    api: Api,
    name: str,
    limits: Limits,
    metrics: Metrics,
    notify: Callable[[str], None] = lambda line: None,
) -> tuple[Endpoints, Worker]:
    """Returns the endpoints of a model, and what computes for them, which is warm and not started.

    Args:
        api: What the task of the model answers.
        name: What the model is called in requests.
        limits: How much is taken.
        metrics: What is computed is counted there.
        notify: Called with a line before something slow. Defaults to nothing.
    """
    from kerasllm.serving.batching import Batcher
    from kerasllm.serving.generation_worker import Writer
    from kerasllm.serving.openai_api import OpenAiApi
    from kerasllm.serving.predict_api import PredictApi

    notify("warming up")
    most = {"most_waiting": limits.queue}
    if api.generator is not None:
        writer = Writer(
            api.generator,
            metrics,
            most_answers=limits.batch,
            prefix_bytes=limits.prefix_cache,
            **most,
        )
        writer.warm_up()
        return OpenAiApi(name, api.generator, writer, limits), writer
    api.warm_up()
    batcher = Batcher(api.predict, metrics, tokens=api.tokens, most_instances=limits.batch, **most)
    return PredictApi(name, api, batcher, limits), batcher
