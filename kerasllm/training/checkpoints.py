"""The checkpoints of a run: written atomically, verified when read, old ones removed.

Nothing here knows of Keras or TensorFlow: NumPy arrays and JSON go in, files come out.
"""

from __future__ import annotations

import os
import re
import shutil
import uuid
import warnings
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import numpy as np
import safetensors

from kerasllm.errors import JobError, RunError
from kerasllm.training.checkpoint_files import (
    STATE,
    Checkpoint,
    DamagedCheckpointError,
    check_arrays,
    encode_state,
    fsync,
    part_file,
    read_checkpoint,
    read_manifest,
    read_state,
    write_checkpoint,
    write_part,
)

_WHOLE = re.compile(r"step-(0|[1-9][0-9]*)")
# The old checkpoint of a step, while a new one of the same step takes its place.
_DISPLACED = re.compile(r"\.step-(0|[1-9][0-9]*)\.old")
# What other processes have written of the checkpoint of a step, until the first one takes it.
_PARTS = re.compile(r"\.step-(0|[1-9][0-9]*)\.parts")
# Being written, or being removed.
_TEMPORARY = re.compile(r"\.step-[0-9]+\.[0-9a-f]{32}\.tmp")


class CheckpointStore:
    """Saves checkpoints in the background, and finds the newest that is whole.

    A checkpoint is a folder `step-N`. It is written under a temporary name, brought to the disk,
    checked and renamed, and only then are older ones removed: a process that is killed at any
    moment leaves every checkpoint whole or not there. `checkpoint_files` describes its files.

    Many processes may read a store; one writes it. The writer removes what a killed one left.
    Other files in the folder are neither read nor changed.

    Args:
        folder: The folder of the checkpoints. The first save makes it.
        keep: How many of the latest checkpoints stay. The best one stays on top of these.
            Defaults to `2`.
        warn: Called with a message for each damaged checkpoint that is skipped. Defaults to
            `warnings.warn`.
        saved: Called after each save, in the background as well. Defaults to `None`.
        problem: Says of a state that is read what is wrong with it, such as "has no steps", or
            `None`: the checkpoint is then damaged. Defaults to `None`: nothing is.

    Left as a context, however that ends, it has its last save on the disk: nobody else gets to
    write the folder while it is still written.

    Example:

    ```python
    with CheckpointStore(run.checkpoints) as store:
        store.save(100, {"dense/kernel": kernel}, {"epoch": 1}, best=True)
    store.newest().arrays["dense/kernel"]
    ```
    """

    def __init__(
        self,
        folder: str | Path,
        *,
        keep: int = 2,
        warn: Callable[[str], object] = warnings.warn,
        saved: Callable[[], object] | None = None,
        problem: Callable[[dict], str | None] | None = None,
    ):
        if keep < 1:
            raise ValueError(f"keep must be at least 1. Received: keep={keep}")
        self.folder = Path(folder)
        self.keep = keep
        self._warn = warn
        self._saved = saved
        self._problem = problem
        # Python waits for its thread at exit, so that a save that was begun is finished.
        self._writer = ThreadPoolExecutor(max_workers=1, thread_name_prefix="checkpoint")
        self._saving: Future | None = None

    def __enter__(self) -> CheckpointStore:
        return self

    def __exit__(self, kind, error, traceback) -> None:
        try:
            self.wait()
        except JobError as failed:
            if error is None:
                raise
            # What ended the context is what matters more.
            self._warn(f"{failed.what}.")

    def save(
        self,
        step: int,
        arrays: Mapping[str, np.ndarray],
        state: dict,
        *,
        best: bool = False,
        others: int = 0,
    ) -> None:
        """Saves a checkpoint in the background, after the save before it.

        A checkpoint of the same step is replaced; if it was the best, the new one is. Those of
        later steps are removed: the run has gone back to a step before them.

        Args:
            step: The step of the checkpoint.
            arrays: The arrays by name. They are written from their own memory and must not change
                until `wait` or the next `save` returns.
            state: Everything else: dicts with string keys, lists, strings, numbers (infinite and
                NaN too), booleans and `None`. It may change as soon as this returns.
            best: Whether this is the best checkpoint up to now; it stays until the next best one.
                Defaults to `False`.
            others: Processes that have written their parts by `write_part`. Defaults to `0`.

        Raises:
            JobError: If the save *before* this one failed. This one is not begun.
            TypeError, ValueError: If something cannot be stored so that it comes back as it is.
        """
        arrays = dict(arrays)
        check_arrays(arrays)
        text = encode_state(state)
        self.wait()
        self._saving = self._writer.submit(self._save, int(step), arrays, text, bool(best), others)

    def wait(self) -> None:
        """Waits until the last save is on the disk.

        Raises:
            JobError: If it failed, once.
        """
        saving, self._saving = self._saving, None
        if saving is not None:
            saving.result()

    def steps(self) -> list[int]:
        """Returns the steps of the checkpoints on the disk, ascending. Nothing is verified."""
        return sorted(self._found())

    @property
    def best_step(self) -> int | None:
        """The step of the best checkpoint on the disk, `None` if there is none."""
        return _best(self._found())

    def newest(self) -> Checkpoint | None:
        """Returns the latest checkpoint that verifies, or `None`.

        A damaged one is skipped with a warning.

        Raises:
            RunError: If a newer kerasllm wrote it, or it may not be read.
        """
        for step in reversed(self.steps()):
            try:
                return self.read(step)
            except DamagedCheckpointError as error:
                self._warn(f"{error.what}. It is skipped.")
        return None

    def newest_state(self) -> dict | None:
        """Returns the state of the latest checkpoint whose state verifies, or `None`.

        The arrays are not read, so that `newest` may return an older one.

        Raises:
            RunError: As `newest`.
        """
        found = self._found()
        for step in sorted(found, reverse=True):
            with suppress(DamagedCheckpointError):
                return self._checked(found[step], read_state(found[step], step))
        return None

    def read(self, step: int) -> Checkpoint:
        """Returns the checkpoint of a step, verified.

        Raises:
            RunError: If there is none, it is damaged, a newer kerasllm wrote it, or it may not be
                read.
        """
        found = self._found()
        if step not in found:
            raise RunError(
                f"There is no checkpoint of step {step}",
                where=str(self.folder),
                fix=f"choose one of {sorted(found)}" if found else "train the run again",
            )
        checkpoint = read_checkpoint(found[step], step)
        self._checked(found[step], checkpoint.state)
        return checkpoint

    def _checked(self, folder: Path, state: dict) -> dict:
        if self._problem and (why := self._problem(state)):
            raise DamagedCheckpointError(folder, STATE, why)
        return state

    def write_part(self, step: int, process: int, arrays: Mapping[str, np.ndarray]) -> None:
        """Writes what another process has of a checkpoint; call it before the first one saves.

        Args:
            step: The step of the checkpoint.
            process: The number of the process, from 1.
            arrays: Its parts, named by `checkpoint_parts.part_name`.

        Raises:
            JobError: If they cannot be written.
        """
        try:
            write_part(self._parts(step) / part_file(process), arrays)
        except (OSError, safetensors.SafetensorError) as error:
            raise self._not_saved(step, error) from error

    def _save(
        self, step: int, arrays: dict[str, np.ndarray], state: str, best: bool, others: int
    ) -> None:
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            fsync(self.folder.parent)
            self._tidy(step)
            temporary = self._temporary(step)
            parts = [self._parts(step) / part_file(number) for number in range(1, others + 1)]
            best = best or step == self.best_step
            write_checkpoint(temporary, step, arrays, state, best, parts)
            self._put_in_place(temporary, step)
            if others:
                _delete(self._parts(step))
            self._remove_old(step)
            if self._saved:
                self._saved()
        except (OSError, safetensors.SafetensorError) as error:
            # The disk that refused to be written may refuse this too. The next save tries again.
            with suppress(OSError):
                self._tidy(step)
            raise self._not_saved(step, error) from error

    def _not_saved(self, step: int, error: Exception) -> JobError:
        reason = getattr(error, "strerror", None) or error
        return JobError(
            f"Checkpoint step-{step} cannot be saved: {reason}",
            where=str(self.folder),
            fix="free some disk space (or keep fewer checkpoints), make sure the folder can "
            "be written, and continue with --resume: the earlier checkpoints are complete",
        )

    def _put_in_place(self, temporary: Path, step: int) -> None:
        """Renames a written checkpoint. No system call that is there everywhere swaps two folders,
        so an old one of this step steps aside, under a name that readers know."""
        target, displaced = self.folder / f"step-{step}", self.folder / f".step-{step}.old"
        if os.path.lexists(target):
            os.rename(target, displaced)
        os.rename(temporary, target)
        fsync(self.folder)
        if os.path.lexists(displaced):
            _delete(displaced)

    def _remove_old(self, step: int) -> None:
        """Removes all but the newest up to a step, and the best of these."""
        found = self._found()
        past = {number: path for number, path in found.items() if number <= step}
        kept = {*sorted(past)[-self.keep :], _best(past)}
        removed = [(number, path) for number, path in found.items() if number not in kept]
        for number, path in removed:
            # A folder that lost its first file must not look like a checkpoint any more.
            os.rename(path, self._temporary(number))
        if removed:
            fsync(self.folder)
            self._tidy(step)

    def _tidy(self, step: int) -> None:
        """Removes what was being written or removed, by a writer that was killed or just now."""
        for path in list(self.folder.iterdir()):
            if displaced := _DISPLACED.fullmatch(path.name):
                target = self.folder / f"step-{displaced[1]}"
                _delete(path) if os.path.lexists(target) else os.rename(path, target)
            elif _TEMPORARY.fullmatch(path.name):
                _delete(path)
            elif (parts := _PARTS.fullmatch(path.name)) and int(parts[1]) < step:
                # Those of a later step are being written.
                _delete(path)

    def _parts(self, step: int) -> Path:
        return self.folder / f".step-{step}.parts"

    def _temporary(self, step: int) -> Path:
        return self.folder / f".step-{step}.{uuid.uuid4().hex}.tmp"

    def _found(self) -> dict[int, Path]:
        """Returns the folder of each checkpoint by its step."""
        try:
            paths = list(self.folder.iterdir())
        except FileNotFoundError:
            return {}
        except OSError as error:
            raise RunError(
                f"The checkpoints cannot be read: {error.strerror}",
                where=str(self.folder),
                fix="make it a folder that can be read, or move it away",
            ) from error
        found = {}
        for pattern in (_DISPLACED, _WHOLE):
            for path in paths:
                name = pattern.fullmatch(path.name)
                if name and path.is_dir() and not path.is_symlink():
                    found[int(name[1])] = path
        return found


def _best(found: Mapping[int, Path]) -> int | None:
    for step in sorted(found, reverse=True):
        with suppress(DamagedCheckpointError):
            if read_manifest(found[step], step)["best"]:
                return step
    return None


def _delete(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink()
