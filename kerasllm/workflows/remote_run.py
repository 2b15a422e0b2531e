"""A run directory on an object store: trained here, and mirrored there piece by piece.

A store has no rename, so a marker that is written last commits what was written before it:
`checkpoints/step-N.committed` a checkpoint, and `metrics.json` the finished run. What has no marker
is not read, and goes away with the next piece.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
import shutil
import threading
import time
from collections.abc import Callable
from pathlib import Path

from kerasllm.addresses import scheme_of, take_credentials
from kerasllm.distribution.tf_config import read_tf_config
from kerasllm.environment import cache_dir
from kerasllm.errors import JobError, RunError, StorageError
from kerasllm.run import Run
from kerasllm.storage import open_place
from kerasllm.storage.objects import Objects
from kerasllm.storage.places import OBJECTS

_METRICS, _RECIPE, _MARK = "metrics.json", "recipe.yaml", ".committed"
_CHECKPOINT = re.compile(r"(checkpoints/step-[0-9]+)/.+")
_STEP = re.compile(r"checkpoints/step-([0-9]+)[/.]")
_ATTEMPTS, _PAUSE = 3, 1.0

State = tuple[int, int]
"""The size and the date of a file, which differ when it was written again."""


def is_remote(output: str | Path | None) -> bool:
    """Whether a run directory is named by an address."""
    return isinstance(output, str) and scheme_of(output) is not None


def read_recipe(output: str) -> Path:
    """Returns the recipe of a run on a store, downloaded.

    Raises:
        RunError: There is no run.
    """
    place = _place(output)
    if not place.exists(_RECIPE):
        raise RunError(
            "There is no run to resume",
            where=str(place.address),
            fix="start one with --recipe, or give its run directory with --output",
        )
    return place.fetch(_RECIPE)


class RemoteRun:
    """Keeps a run directory of this machine on a store too.

    Args:
        output: The address of the run directory.
        resume: Whether the run is continued: what was committed is downloaded. A new one refuses a
            folder that holds anything.
        warn: Called with a line when the store cannot be written and training continues.

    Attributes:
        address: The address, without credentials.
        local: The run directory on this machine.

    Raises:
        RunError: The store cannot be opened, or the folder holds something.
    """

    def __init__(self, output: str, *, resume: bool, warn: Callable[[str], object]):
        self._place = _place(output)
        self.address = str(self._place.address)
        self._warn = warn
        cluster = read_tf_config()
        digest = hashlib.sha256(self.address.encode()).hexdigest()[:24]
        # Workers of one machine do not write into each other's.
        self.local = cache_dir() / "runs" / digest / f"worker-{cluster.index if cluster else 0}"
        self._sent: dict[str, State] = {}
        self._there = set(_refused_as_run(self._place.files))
        self._lock = threading.Lock()
        if not resume:
            self._refuse_existing()
        if self.local.is_dir():
            with Run(self.local).locked():
                pass  # Nobody trains into it.
        if resume and self._is_ahead():
            self.finish()
            return
        self._set_aside()
        if resume:
            self._fetch()

    def sync(self) -> None:
        """Brings the store to what is here; warns where that fails: the next time tries again."""
        try:
            self.finish()
        except JobError as error:
            self._warn(
                f"warning: {error.what}; training continues, the next checkpoint tries again"
            )

    def finish(self) -> None:
        """Brings the store to what is here.

        Raises:
            JobError: The store cannot be written.
        """
        with self._lock:
            for attempt in range(1, _ATTEMPTS + 1):
                try:
                    return self._sync()
                except (StorageError, OSError) as error:
                    if attempt == _ATTEMPTS:
                        what = getattr(error, "what", error)
                        raise JobError(
                            f"The run cannot be written to the store: {what}",
                            where=self.address,
                            fix=f"the run is complete on this machine, in {self.local}; check the "
                            "network and the credentials, then copy it, or write it with --resume",
                        ) from error
                    time.sleep(_PAUSE * attempt)

    def _sync(self) -> None:
        here = self._here()
        changed = [name for name, state in here.items() if self._sent.get(name) != state]
        gone = sorted(self._there - here.keys() - {m for m in map(_mark_of, here) if m})
        if _METRICS in self._there and (changed or gone):
            self._delete(_METRICS)  # From here on the run there is one that did not finish.
            changed += [_METRICS] * (_METRICS in here and _METRICS not in changed)
        marks = sorted({mark for name in changed if (mark := _mark_of(name))})
        for mark in marks:
            self._delete(mark)
        for name in sorted(changed, key=lambda name: (name == _RECIPE, name)):
            if name != _METRICS:
                self._write(name, here[name])
        for mark in marks:
            files = sorted(name for name in here if _mark_of(name) == mark)
            self._place.write(mark, json.dumps({name: here[name][0] for name in files}).encode())
            self._there.add(mark)
        # The old pieces go when the new ones are there; their marks before their files.
        for name in sorted(gone, key=lambda name: not name.endswith(_MARK)):
            self._delete(name)
        # S3's folders are objects of their own, which the last file leaves behind.
        for folder in {mark.removesuffix(_MARK) for name in gone if (mark := _mark_of(name))}:
            if not any(name.startswith(f"{folder}/") for name in here):
                self._place.delete_folder(folder)
        if _METRICS in changed:
            self._write(_METRICS, here[_METRICS])

    def _here(self) -> dict[str, State]:
        found = {}
        for path in sorted(self.local.rglob("*")):
            name = path.relative_to(self.local)
            if any(part.startswith(".") for part in name.parts):
                continue
            with contextlib.suppress(FileNotFoundError):
                if path.is_file():
                    status = path.stat()
                    found[name.as_posix()] = (status.st_size, status.st_mtime_ns)
        return found

    def _write(self, name: str, state: State) -> None:
        # A file that was removed meanwhile is one of the next time's `gone`.
        with contextlib.suppress(FileNotFoundError):
            self._place.write(name, self.local / name)
            self._there.add(name)
            self._sent[name] = state

    def _delete(self, name: str) -> None:
        if name in self._there:
            self._place.delete(name)
            self._there.discard(name)
        self._sent.pop(name, None)

    def _is_ahead(self) -> bool:
        """Whether what is here was not brought to the store when the training ended."""
        here = self._here()
        if _RECIPE not in here:
            return False
        if _METRICS in here and _METRICS not in self._there:
            return True
        committed = [name for name in self._there if name.endswith(_MARK)]
        return max(map(_step, here), default=-1) > max(map(_step, committed), default=-1)

    def _set_aside(self) -> None:
        """Keeps what was here last, which may be the only copy, until the time after."""
        aside = self.local.with_name(f"{self.local.name}-before")
        if _RECIPE in self._here():
            shutil.rmtree(aside, ignore_errors=True)
            self.local.rename(aside)
        shutil.rmtree(self.local, ignore_errors=True)

    def _fetch(self) -> None:
        """Brings what was committed here; pieces of checkpoints without a mark stay there."""
        wanted = []
        for name in sorted(self._there):
            if match := _CHECKPOINT.fullmatch(name):
                if match[1] + _MARK in self._there:
                    wanted.append(name)
            elif not name.endswith(_MARK):
                wanted.append(name)
        for name in wanted:
            target = self.local / name
            if not target.resolve().is_relative_to(self.local.resolve()):
                raise RunError("A path leads outside the run", where=f"{self.address}/{name}")
            _refused_as_run(lambda name=name, target=target: self._place.copy(name, target))
            status = target.stat()
            self._sent[name] = (status.st_size, status.st_mtime_ns)

    def _refuse_existing(self) -> None:
        if not self._there:
            return
        fix = "choose another location with --output, or remove it"
        if _METRICS in self._there:
            what = "The location holds a finished run, which is not overwritten"
        elif _RECIPE in self._there:
            what = "The location holds a run that did not finish"
            fix = "continue it with --resume, or choose another location with --output"
        else:
            what = "The location is not empty"
        raise RunError(what, where=self.address, fix=fix)


def _mark_of(name: str) -> str | None:
    """The mark of the checkpoint that a file belongs to."""
    match = _CHECKPOINT.fullmatch(name)
    return match[1] + _MARK if match else None


def _step(name: str) -> int:
    """The step of the checkpoint that a file or a mark is of; -1 of others."""
    match = _STEP.match(name)
    return int(match[1]) if match else -1


def _place(output: str) -> Objects:
    shown = take_credentials(output)
    if scheme_of(shown) not in OBJECTS:
        raise RunError(
            f"A run cannot be written to {scheme_of(shown)}://",
            where=shown,
            fix="use a local folder, or s3://, gs://, hdfs:// or abfs://",
        )
    return _refused_as_run(lambda: open_place(output))


def _refused_as_run(action: Callable):
    try:
        return action()
    except StorageError as error:
        raise RunError(error.what, where=error.where, fix=error.fix) from error
