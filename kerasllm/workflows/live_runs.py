"""Runs that are under way in processes of their own, drawn on a terminal."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from rich.live import Live
from rich.text import Text

from kerasllm.workflows.report import duration

if TYPE_CHECKING:
    from typing import Self

    from kerasllm.workflows.report import Report

_SECONDS_BETWEEN_DRAWINGS = 1.0


class LiveRuns:
    """Draws a line for each run that is under way, below what is printed; on a terminal only.

    Args:
        report: Where to.
    """

    def __init__(self, report: Report):
        self._report = report
        self._live: Live | None = None
        self._drawn = 0.0

    def __enter__(self) -> Self:
        if self._report.console.is_terminal:
            self._live = Live(console=self._report.console, transient=True, auto_refresh=False)
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live:
            self._live.stop()
            self._live = None

    @property
    def draws(self) -> bool:
        """Whether anything is drawn."""
        return self._live is not None

    def show(self, active: Iterable[Any], before: Sequence[str] = ()) -> None:
        """Draws what is under way, once a second at most.

        Args:
            active: What is under way, each with a `title` and a `run`, a
                `kerasllm.tuning.trial_run.TrialRun`.
            before: Lines above. Defaults to none.
        """
        now = time.monotonic()
        if self._live is None or now - self._drawn < _SECONDS_BETWEEN_DRAWINGS:
            return
        self._drawn = now
        lines = list(before)
        for work in active:
            row = work.run.last
            shown = f"step {row['step']}, loss {row['loss']:.4f}" if "loss" in row else "starting"
            lines.append(f"{work.title}: {shown}, {duration(work.run.seconds)}")
        width = self._report.console.width - 1
        text = Text("\n".join(line[:width] for line in lines), style="dim")
        self._live.update(text, refresh=True)
