"""The record of a training: metrics.jsonl and TensorBoard scalars."""

from __future__ import annotations

import json
from pathlib import Path

import tensorflow as tf

_NOT_SCALARS = {"step", "epoch", "validation"}


class MetricsLog:
    """Writes each row to a JSON-lines file and, as scalars, to TensorBoard.

    Args:
        path: The JSON-lines file.
        tensorboard: The folder of TensorBoard's event files.

    Example:

    ```python
    with MetricsLog(run.metrics_log, run.tensorboard) as log:
        log.write({"step": 10, "loss": 0.61})
        log.write({"step": 10, "validation": {"loss": 0.58}})
    ```
    """

    def __init__(self, path: Path, tensorboard: Path):
        self.rows: list[dict] = []
        self._file = open(path, "w", encoding="utf-8")
        self._writer = tf.summary.create_file_writer(str(tensorboard))

    def __enter__(self) -> MetricsLog:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()
        self._writer.close()

    def write(self, row: dict) -> None:
        """Writes a row: numbers by name, `step`, and maybe a mapping `validation`."""
        self.rows.append(row)
        self._file.write(json.dumps(row, ensure_ascii=False) + "\n")
        # A killed run keeps every row that it has shown.
        self._file.flush()
        with self._writer.as_default(step=row["step"]):
            for name, value in row.items():
                if name not in _NOT_SCALARS:
                    tf.summary.scalar(f"train/{name}", value)
            for name, value in row.get("validation", {}).items():
                tf.summary.scalar(f"validation/{name}", value)
