"""Trackio: a local dashboard, or a Space of the Hugging Face hub (TRACKIO_SPACE_ID)."""

from __future__ import annotations

import os
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from kerasllm.tracking.tracker import Tracker


class Trackio(Tracker):
    """A run of a Trackio project, which is told from others by its name."""

    package = "trackio"

    def __init__(self, folder: Path, facts: Mapping[str, Any], id: str | None = None):
        import trackio

        self.id = id or f"{facts['name']}-{uuid.uuid4().hex[:6]}"
        project = os.environ.get("TRACKIO_PROJECT", facts["project"])
        self._run = trackio.init(
            project=project,
            name=self.id,
            config=dict(facts["recipe"]),
            resume="allow",
            space_id=os.environ.get("TRACKIO_SPACE_ID"),
            embed=False,
        )
        self.where = f"`trackio show --project {project}`, run {self.id}"

    def log(self, rows: Sequence[tuple[int, Mapping[str, float]]]) -> None:
        for step, row in rows:
            self._run.log(dict(row), step=step)

    def finish(self, summary: Mapping[str, Any], files: Sequence[Path]) -> None:
        self._run.log({key: each for key, each in summary.items() if isinstance(each, float)})

    def close(self, *, finished: bool) -> None:
        self._run.finish()
