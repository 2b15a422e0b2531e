"""`kerasllm track`: send runs to experiment trackers."""

from __future__ import annotations

import click

from kerasllm.cli import completion
from kerasllm.recipe.training import TRACKERS


@click.group()
def track() -> None:
    """Send runs to experiment trackers."""


@track.command()
@click.argument("run", metavar="RUN", shell_complete=completion.runs)
@click.option(
    "--to",
    multiple=True,
    type=click.Choice(TRACKERS),
    help="The tracker. Repeatable.  [default: those of the run's recipe]",
)
def push(run: str, to: tuple[str, ...]) -> None:
    """Send what was not sent yet of a run: after a network that was gone, or to another tracker.

    \b
    kerasllm track push my_run
    kerasllm track push my_run --to mlflow

    What was sent before is not sent again. Where to is what the tracker's own variables say, such
    as MLFLOW_TRACKING_URI.
    """
    from kerasllm.workflows.track import push as run_push

    run_push(run, to)
