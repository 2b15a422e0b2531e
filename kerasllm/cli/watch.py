"""`kerasllm watch`: runs in a browser."""

from __future__ import annotations

from pathlib import Path

import click


@click.command()
@click.argument("folders", nargs=-1, metavar="[FOLDER]...", type=click.Path(path_type=Path))
@click.option("--port", type=click.IntRange(0, 65535), default=8008, show_default=True)
@click.option(
    "--host",
    default="127.0.0.1",
    show_default=True,
    help="Address to listen on; 0.0.0.0 lets other machines connect.",
)
@click.option(
    "--prefix", default="", metavar="/PATH", help="Prefix of all paths when behind a reverse proxy."
)
@click.option(
    "--allowed-host",
    metavar="NAME",
    multiple=True,
    help="Another host name that browsers may use. Repeatable.",
)
def watch(
    folders: tuple[Path, ...], port: int, host: str, prefix: str, allowed_host: tuple[str, ...]
) -> None:
    """Follow runs in a browser, during and after training.

    \b
    kerasllm watch
    kerasllm watch experiments --port 0

    FOLDER defaults to runs/, where finetune puts them. The page only reads run directories:
    reloading it, or a crash of it, does not affect a training.
    """
    from kerasllm.workflows.watch import watch as run_watch

    run_watch(
        folders or (Path("runs"),),
        host=host,
        port=port,
        prefix=prefix,
        hosts=allowed_host,
        started=click.echo,
    )
