"""`kerasllm serve`: serve a trained model over HTTP."""

from __future__ import annotations

import ipaddress
import json
import os
import shlex
import sys

import click

from kerasllm.cli.plan import parse_size
from kerasllm.cli.run_argument import RUN
from kerasllm.cli.startup import import_tensorflow
from kerasllm.serving.limits import Limits


@click.command()
@click.argument("run", metavar="RUN|PRESET", type=RUN)
@click.option("--port", type=click.IntRange(0, 65535), default=8000, show_default=True)
@click.option(
    "--host",
    default="127.0.0.1",
    show_default=True,
    help="Address to listen on; 0.0.0.0 lets other machines connect.",
)
@click.option("--name", help="The model's name in requests.  [default: the run's or preset's]")
@click.option(
    "--api-key-file",
    metavar="FILE",
    help="File with the key that clients must send.  [default: the variable KERASLLM_API_KEY]",
)
@click.option(
    "--allowed-host",
    metavar="NAME",
    multiple=True,
    help="Host name that requests without a key may use. Repeatable.",
)
@click.option(
    "--cors",
    metavar="ORIGIN",
    multiple=True,
    help="Origin whose pages may send requests, e.g. https://example.org. Repeatable.",
)
@click.option(
    "--tls-cert", metavar="FILE", help="Certificate in PEM format: serve over HTTPS only."
)
@click.option(
    "--tls-key",
    metavar="FILE",
    help="Private key in PEM format.  [default: in the certificate file]",
)
@click.option(
    "--adapter", metavar="FOLDER", help="PEFT adapter to load into a model that generates text."
)
@click.option(
    "--grace",
    type=click.FloatRange(1),
    default=30.0,
    show_default=True,
    metavar="SECONDS",
    help="Time to finish requests after SIGTERM; then they are aborted.",
)
@click.option("--max-body", metavar="SIZE", default="1MB", show_default=True)
@click.option("--max-instances", type=int, default=Limits.instances, show_default=True)
@click.option(
    "--max-batch", type=int, help="Instances per batch.  [default: 64; 32 for generation]"
)
@click.option("--max-queue", type=int, default=Limits.queue, show_default=True)
@click.option("--max-tokens", type=int, default=Limits.tokens, show_default=True)
@click.option(
    "--prefix-cache",
    metavar="SIZE",
    default="128MB",
    show_default=True,
    help="Memory for the prefix cache, which reuses shared beginnings of prompts; 0 disables it.",
)
@click.option("--max-length", type=int, default=Limits.length, show_default=True)
def serve(
    run: str,
    port: int,
    host: str,
    name: str | None,
    api_key_file: str | None,
    allowed_host: tuple[str, ...],
    cors: tuple[str, ...],
    tls_cert: str | None,
    tls_key: str | None,
    adapter: str | None,
    grace: float,
    max_body: str,
    prefix_cache: str,
    **limits: int | None,
) -> None:
    """Serve a trained model over HTTP.

    \b
    kerasllm serve my_run --port 8000
    kerasllm serve smollm2_135m_instruct --port 0

    Models that generate text are served with OpenAI's API, all others with TensorFlow Serving's
    REST API.
    """
    from kerasllm.workflows.serve import KEY_VARIABLE, read_key
    from kerasllm.workflows.serve import serve as run_serve

    chosen = Limits(
        body=parse_size(max_body, "--max-body"),
        prefix_cache=0 if prefix_cache == "0" else parse_size(prefix_cache, "--prefix-cache"),
        **_short(limits),
    )
    key = read_key(api_key_file)
    if key is None and not _is_loopback(host):
        click.echo(
            f"Warning: anyone who can reach {host} can use the model. Set a key with "
            f"--api-key-file or {KEY_VARIABLE}.",
            err=True,
        )
    elif tls_cert is None and not _is_loopback(host):
        click.echo(
            "Warning: texts and the key are sent without encryption. Give --tls-cert and "
            "--tls-key, or put a proxy with TLS before the server.",
            err=True,
        )
    import_tensorflow()
    ended = run_serve(
        run,
        host=host,
        port=port,
        name=name,
        key=key,
        limits=chosen,
        adapter=adapter,
        hosts=allowed_host,
        origins=cors,
        tls_cert=tls_cert,
        tls_key=tls_key,
        grace=grace,
        notify=lambda line: click.echo(line, err=True),
        started=lambda served: click.echo(_welcome(served, key is not None, tls_cert)),
    )
    if not ended:
        # A call of the model hangs: the interpreter's own end would wait for it, or break it.
        sys.stdout.flush()
        os._exit(0)


def _short(limits: dict[str, int | None]) -> dict[str, int | None]:
    return {name.removeprefix("max_"): value for name, value in limits.items()}


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _welcome(served, with_key: bool, certificate: str | None) -> str:
    """Returns where the model answers, and a command that sends it a request."""
    body = shlex.quote(json.dumps(served.body))
    key = "-H 'Authorization: Bearer KEY' " if with_key else ""
    trust = f"--cacert {shlex.quote(certificate)} " if certificate else ""
    return (
        f"Serving {served.name} at {served.address}\n"
        f"  curl {trust}{served.address}{served.path} {key}\\\n"
        f"    -H 'Content-Type: application/json' -d {body}"
    )
