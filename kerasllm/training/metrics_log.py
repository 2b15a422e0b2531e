"""The record of a training: metrics.jsonl and TensorBoard scalars."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import tensorflow as tf
from google.protobuf.message import DecodeError
from tensorboard.compat.proto.event_pb2 import Event

from kerasllm.errors import RunError
from kerasllm.json_files import parse_json
from kerasllm.run import write_text
from kerasllm.training.listeners import Listener
from kerasllm.training.scalars import NOT_SCALARS, scalars_of

_OWN = ("train/", "validation/")


class MetricsLog(Listener):
    """Writes each row to a JSON-lines file and, as scalars, to TensorBoard.

    Args:
        path: The JSON-lines file. Defaults to `None`: rows are kept in memory only.
        tensorboard: The folder of TensorBoard's event files. Defaults to `None`.
        keep: How many rows of the file to keep when a training resumes; the rest is
            written again, here and in TensorBoard. Defaults to `0`.

    Example:

    ```python
    with MetricsLog(run.metrics_log, run.tensorboard) as log:
        log.write({"step": 10, "loss": 0.61})
        log.write({"step": 10, "validation": {"loss": 0.58}})
    ```
    """

    def __init__(self, path: Path | None = None, tensorboard: Path | None = None, keep: int = 0):
        self.rows: list[dict] = []
        self._file = self._writer = None
        if path is None:
            return
        if os.path.lexists(tensorboard) and not tensorboard.is_dir():
            raise RunError(
                "The curves for TensorBoard cannot be written: this is not a folder",
                where=str(tensorboard),
                fix="remove it",
            )
        if keep and path.is_file():
            lines = _lines(path)[:keep]
            self.rows = [_row(path, number, line) for number, line in enumerate(lines, 1)]
            write_text(path, "".join(lines))
            _cut_events(tensorboard, self.rows)
        elif tensorboard.is_dir():
            # Of a run that was killed before there was anything to resume from.
            for file in tensorboard.glob("events.*"):
                file.unlink()
        self._file = open(path, "a" if keep else "w", encoding="utf-8")
        self._writer = tf.summary.create_file_writer(str(tensorboard))

    def __enter__(self) -> MetricsLog:
        return self

    def __exit__(self, *_: object) -> None:
        if self._file:
            self._file.close()
            self._writer.close()

    def get_state(self) -> dict:
        """Returns how many rows there are, for `keep`, once they are on the disk."""
        if self._file:
            os.fsync(self._file.fileno())
        return {"rows": len(self.rows)}

    def set_state(self, state: dict) -> None:
        """Takes what `get_state` gave; `keep` has done the work."""

    def write(self, row: dict) -> None:
        """Writes a row: numbers by name, `step`, and maybe a mapping `validation`."""
        self.rows.append(row)
        if self._file is None:
            return
        self._file.write(json.dumps(row, ensure_ascii=False) + "\n")
        # A killed run keeps every row that it has shown.
        self._file.flush()
        with self._writer.as_default(step=row["step"]):
            for name, value in scalars_of(row).items():
                tf.summary.scalar(name, value)

    def row(self, row):
        """Writes the row."""
        self.write(row)

    def validated(self, step, metrics):
        """Writes the metrics of a validation that are single numbers."""
        scalars = {name: value for name, value in metrics.items() if isinstance(value, float)}
        self.write({"step": step, "validation": scalars})


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8").splitlines(keepends=True)
    except ValueError as error:
        raise _broken(str(path), error) from None


def _row(path: Path, number: int, line: str) -> dict:
    """Returns a row that was written before."""
    try:
        row = parse_json(line)
        validation = row.get("validation", {})
        scalars = {key: each for key, each in row.items() if key not in NOT_SCALARS}
        if not isinstance(row["step"], int) or not all(
            isinstance(each, int | float) for each in {**scalars, **validation}.values()
        ):
            raise ValueError("it is not a row of numbers")
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise _broken(f"{path}:{number}", error) from None
    return row


def _broken(where: str, error: Exception) -> RunError:
    return RunError(
        f"The training log is not what kerasllm wrote: {error}",
        where=where,
        fix="restore the file, or remove it: the log then starts where the run resumes",
    )


def _cut_events(folder: Path, rows: Sequence[Mapping]) -> None:
    """Takes out of TensorBoard's files what belongs to rows that are not kept.

    These are written again, and TensorBoard would show both.
    """
    kept = {(row["step"], name) for row in rows for name in scalars_of(row)}
    for file in sorted(folder.glob("events.*")):
        cut, temporary = False, file.with_name(f".{file.name}.tmp")
        with tf.io.TFRecordWriter(str(temporary)) as writer:
            for record in _records(file):
                try:
                    event = Event.FromString(record)
                except DecodeError:
                    cut = True
                    continue
                tags = [value.tag for value in event.summary.value]
                if any(tag.startswith(_OWN) and (event.step, tag) not in kept for tag in tags):
                    cut = True
                else:
                    writer.write(record)
        # A file with nothing to cut stays as it is: it may end in the midst of a record.
        os.replace(temporary, file) if cut else temporary.unlink()


def _records(file: Path) -> Iterator[bytes]:
    """Yields the records of a file up to one that a process was killed in."""
    try:
        for record in tf.data.TFRecordDataset(str(file)):
            yield record.numpy()
    except tf.errors.OpError:
        return  # It cannot be opened, or ends in the midst of a record.
