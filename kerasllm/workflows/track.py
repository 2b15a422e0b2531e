"""Send a run to experiment trackers, during training or later."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from kerasllm import recipe as recipes
from kerasllm.addresses import redact
from kerasllm.errors import CommandError, JobError, KerasllmError, RunError
from kerasllm.run import Run
from kerasllm.signing.bundle import SIGNATURE
from kerasllm.tracking.sending import Sending, refuse_unsendable
from kerasllm.tracking.tracker import refuse_missing
from kerasllm.workflows.report import Report


def push(run: str | Path, names: Sequence[str] = (), report: Report | None = None) -> list[str]:
    """Sends what was not sent yet of a run.

    Args:
        run: The run directory.
        names: The trackers. Defaults to none: those of the run's recipe.
        report: Where progress is shown. Defaults to `None`: stderr.

    Returns:
        Where each tracker shows the run.

    Raises:
        KerasllmError: If there is no such run, no tracker, or one of them does not take it.
    """
    report = report or Report()
    opened = Run(run)
    refuse_unsendable(opened)
    if (opened.path / SIGNATURE).exists():
        raise RunError(
            "The run is signed, and sending it would change it",
            where=str(opened.path),
            fix="send it before signing, or remove the signature and sign it again afterwards",
        )
    if not names:
        recipe = recipes.load(opened.recipe, recipes.older_settings(opened.recipe))
        names = recipe.training.trackers
    if not names:
        raise CommandError(
            "The run's recipe names no tracker", where="training.track", fix="name one with --to"
        )
    refuse_missing(names)
    return [_send(Sending(opened, name), report) for name in names]


def _send(sending: Sending, report: Report) -> str:
    left = sending.left
    try:
        with report.busy(f"sending to {sending.name}"):
            sending.send()
            where = sending.tracker.where if sending.tracker else ""
            sending.close()
    except KerasllmError:
        raise
    except Exception as error:
        raise JobError(
            f"{sending.name} did not accept the run: {redact(str(error).strip())[:300]}",
            where=str(sending.run.path),
            fix="the same command sends the rest",
        ) from error
    if not left:
        report.line(f"{sending.name}: everything was already sent")
    else:
        report.line(f"{sending.name}: sent to {where}")
    return where
