"""`kerasllm watch`: runs in a browser."""

from __future__ import annotations

from pathlib import Path

import click


@click.command()
@click.argument("folders", nargs=-1, metavar="[FOLDER]...", type=click.Path(path_type=Path))
@click.option("--port", type=click.IntRange(0, 65535), default=8008, show_default=True)
@click.option(
    "--host", default="127.0.0.1", show_default=True, help="0.0.0.0: other machines reach it too."
)
@click.option(
    "--prefix", default="", metavar="/PATH", help="What comes before each path behind a proxy."
)
@click.option(
    "--allowed-host",
    metavar="NAME",
    multiple=True,
    help="A name by which browsers ask for it; may be repeated.",
)
def watch(
    folders: tuple[Path, ...], port: int, host: str, prefix: str, allowed_host: tuple[str, ...]
) -> None:
    """Show runs in a browser, while they train and afterwards.

    \b
    kerasllm watch
    kerasllm watch experiments --port 0

    Without FOLDER those in runs/, where finetune puts them. The page reads run directories and
    never writes to them: no reload, hang or crash of it touches a training.
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
