"""Weights & Biases; with WANDB_MODE=offline it keeps what `wandb sync` sends later."""

from __future__ import annotations

import os
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from kerasllm.tracking.tracker import Tracker


class WandB(Tracker):
    """A run of a W&B project; WANDB_PROJECT, WANDB_ENTITY and the like are read as ever."""

    package = "wandb"

    def __init__(self, folder: Path, facts: Mapping[str, Any], id: str | None = None):
        import wandb

        self.id = id or uuid.uuid4().hex[:8]
        self._wandb = wandb
        self._run = wandb.init(
            id=self.id,
            resume="allow",
            project=os.environ.get("WANDB_PROJECT", facts["project"]),
            name=facts["name"],
            config=dict(facts["recipe"]),
            dir=str(folder),
            # The progress of the training is ours to show, and its code is not sent.
            settings=wandb.Settings(
                silent=True, console="off", disable_git=True, save_code=False, init_timeout=30
            ),
        )
        self._run.define_metric("*", step_metric="step")
        # Asking for the URL of a run that is offline warns of it.
        self.where = str(folder / "wandb") if self._run.offline else str(self._run.url)

    def log(self, rows: Sequence[tuple[int, Mapping[str, float]]]) -> None:
        for step, row in rows:
            self._run.log({"step": step, **row})

    def finish(self, summary: Mapping[str, Any], files: Sequence[Path]) -> None:
        self._run.summary.update(dict(summary))
        artifact = self._wandb.Artifact(f"run-{self.id}", type="run")
        for file in files:
            artifact.add_file(str(file))
        self._run.log_artifact(artifact)

    def close(self, *, finished: bool) -> None:
        self._run.finish(exit_code=0 if finished else 1)
