"""TensorBoard: its curves are written anyway; the recipe and final metrics join them as texts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from kerasllm.tracking.tracker import Tracker


class TensorBoard(Tracker):
    """The folder `tensorboard/` of the run."""

    package = "tensorboard"

    def __init__(self, folder: Path, facts: Mapping[str, Any], id: str | None = None):
        self.id, self.where = "tensorboard", str(folder / "tensorboard")
        self._texts: dict[str, str] = {}
        if id is None:
            rows = "\n".join(f"| {key} | {value} |" for key, value in facts["recipe"].items())
            self._write("recipe", f"| key | value |\n|---|---|\n{rows}")

    def log(self, rows: Sequence[tuple[int, Mapping[str, float]]]) -> None:
        """Nothing: the log of the training has written them."""

    def finish(self, summary: Mapping[str, Any], files: Sequence[Path]) -> None:
        rows = "\n".join(f"| {key} | {value} |" for key, value in summary.items())
        self._write("summary", f"| | |\n|---|---|\n{rows}")

    def close(self, *, finished: bool) -> None:
        """Nothing is open."""

    def _write(self, name: str, text: str) -> None:
        import tensorflow as tf

        writer = tf.summary.create_file_writer(self.where)
        with writer.as_default(step=0):
            tf.summary.text(name, text)
        writer.close()
