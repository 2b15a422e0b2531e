"""A run directory: create it, open it, the files in it."""

from __future__ import annotations

import fcntl
import glob
import json
import os
import shlex
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path

from kerasllm.addresses import is_address
from kerasllm.errors import RunError
from kerasllm.json_files import read_json_file
from kerasllm.signing import trust

SEARCH = "search.json"
"""What makes a folder one of `kerasllm tune`, whose runs are in folders below it."""

_LOCK = ".lock"
_TEMPORARY = ".*.tmp"
# Those of a run have some kilobytes, with thousands of labels some megabytes.
_LARGEST_JSON = 100_000_000


class Run:
    """A directory that holds everything of one training run.

    `metrics.json` is written last, so a directory that has one is whole.

    Args:
        path: The directory.
    """

    def __init__(self, path: str | Path):
        if is_address(path):
            raise RunError(
                "This run directory must be a local folder",
                where=str(path),
                fix="name a folder; only finetune can write to an address; evaluate and others can "
                "read one",
            )
        self.path = Path(path)
        self.recipe = self.path / "recipe.yaml"
        self.environment = self.path / "environment.json"
        self.metrics_log = self.path / "metrics.jsonl"
        self.metrics = self.path / "metrics.json"
        self.tensorboard = self.path / "tensorboard"
        self.checkpoints = self.path / "checkpoints"
        self.model = self.path / "model"
        self.adapter = self.path / "adapter"
        self.curve = self.path / "training_curve.png"
        self.predictions = self.path / "predictions.parquet"
        self.samples = self.path / "samples.jsonl"
        self.explanations = self.path / "explanations.json"
        self.report = self.path / "report.html"

    @property
    def is_search(self) -> bool:
        """Whether the directory is that of a search over recipes, and no run."""
        return (self.path / SEARCH).is_file()

    @classmethod
    def create(cls, path: str | Path | None, recipe_name: str) -> Run:
        """Makes the directory of a new run.

        Args:
            path: The directory; `None` makes `runs/RECIPE/DATE-TIME` below the current one.
            recipe_name: Name of the recipe.

        Raises:
            RunError: If the directory holds files already, or cannot be made.
        """
        if path is None:
            path = _new_path(Path("runs") / recipe_name)
        run = cls(path)
        run.refuse_existing()
        try:
            run.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise RunError(
                f"The run directory cannot be made: {error.strerror}",
                where=str(run.path),
                fix="choose another directory with --output",
            ) from error
        return run

    def refuse_existing(self) -> None:
        """Raises a `RunError` if the directory is a file, holds anything or cannot be made."""
        if self.path.is_file():
            raise RunError(
                "The run directory is a file",
                where=str(self.path),
                fix="choose another directory with --output",
            )
        if not self.path.is_dir():
            parent = next(folder for folder in self.path.absolute().parents if folder.exists())
            if not parent.is_dir() or not os.access(parent, os.W_OK | os.X_OK):
                why = "cannot be written" if parent.is_dir() else "is a file"
                raise RunError(
                    f"The run directory cannot be made: {parent} {why}",
                    where=str(self.path),
                    fix="choose another directory with --output",
                )
            return
        if all(_is_left_over(path) for path in self.path.iterdir()):
            return
        if self.metrics.is_file():
            what = "The directory holds a finished run, which is never overwritten"
        elif self.recipe.is_file():
            raise RunError(
                "The directory holds a run that did not finish",
                where=str(self.path),
                fix="continue it with --resume, or choose another directory with --output",
            )
        else:
            what = "The directory is not empty"
        raise RunError(
            what, where=str(self.path), fix="choose another directory with --output, or remove it"
        )

    def refuse_search(self) -> None:
        """Raises a `RunError` if the directory is that of a search, and no run."""
        if not self.is_search:
            return
        runs = sorted(found.parent for found in self.path.glob("*/*/metrics.json"))
        named = f"; or name one of its runs, such as {runs[0]}" if runs else ""
        raise RunError(
            "This directory is a search of `kerasllm tune`, not a run",
            where=str(self.path),
            fix=f"continue it: `kerasllm tune --resume --output {shell_word(self.path)}`{named}",
        )

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keeps other processes from training into this directory until the block ends.

        Raises:
            RunError: If another process is training into it.
        """
        with open(self.path / _LOCK, "w", encoding="utf-8") as file:
            try:
                # The system lets go of it when the process ends, however it ends.
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                self._tidy()
            except BlockingIOError as error:
                raise RunError(
                    "Another process is training into this directory",
                    where=str(self.path),
                    fix="wait for it, or choose another directory with --output",
                ) from error
            except OSError:
                pass  # A file system without locks.
            yield

    def _tidy(self) -> None:
        """Removes what a process that was killed was about to write."""
        for path in self.path.glob(_TEMPORARY):
            shutil.rmtree(path) if path.is_dir() else path.unlink()

    @classmethod
    def open(cls, path: str | Path) -> Run:
        """Opens a finished run.

        Raises:
            RunError: If there is no such directory, it is not a run, or the run did not finish.
            SignatureError: If keys are trusted, and none of them has signed it.
        """
        run = cls(path)
        if not run.path.is_dir():
            raise RunError(
                f"There is no run directory {str(path)!r}",
                fix="give the directory that `kerasllm finetune` printed",
            )
        if not run.recipe.is_file():
            inner = sorted(found.parent for found in run.path.glob("*/recipe.yaml"))
            hint = (
                f"did you mean {inner[-1]}?" if inner else "it should hold recipe.yaml and model/"
            )
            raise RunError("This directory is not a run", where=str(run.path), fix=hint)
        run.refuse_search()
        if not run.metrics.is_file() or not run.model.is_dir():
            raise RunError(
                "This run did not finish: it has no trained model",
                where=str(run.path),
                fix="continue the training: `kerasllm finetune --resume --output "
                f"{shell_word(run.path)}`",
            )
        # The one place that all finished runs are opened by, before anything in them is read.
        trust.check(run.path)
        return run

    def read_metrics(self) -> dict:
        """Returns the final metrics of a finished run."""
        return read_json(self.metrics)

    def read_environment(self) -> dict:
        """Returns what the run was made with; nothing if that was not noted."""
        found = read_json(self.environment) if self.environment.is_file() else {}
        for key in ("data", "rows", "contents", "versions"):
            if not isinstance(found.get(key, {}), dict):
                raise _damaged(self.environment, f"{key} is not an object")
        return found


def shell_word(path: str | Path) -> str:
    """Returns a path as it is typed in a command: quoted where it must be, and never an option.

    Example:
        >>> shell_word("my run"), shell_word("-x")
        ("'my run'", './-x')
    """
    text = str(path)
    return shlex.quote(f"./{text}" if text.startswith("-") else text)


def write_text(path: Path, text: str) -> None:
    """Writes a file whole or not at all."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with open(temporary, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        # An error of `write` does not say which file it was.
        raise OSError(error.errno, error.strerror, str(path)) from error
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def whole_folder(path: Path) -> Iterator[Path]:
    """Gives a folder to fill, which becomes `path` when all went well and is removed otherwise.

    What a process that was killed was about to fill is removed first.
    """
    remove_abandoned(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    temporary.mkdir(parents=True)
    # The system lets go of it when the process ends, however it ends.
    descriptor = os.open(temporary, os.O_RDONLY | os.O_DIRECTORY)
    try:
        with suppress(OSError):  # A file system without locks.
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield temporary
        if path.is_dir():  # of a process that was killed after it
            shutil.rmtree(path)
        os.replace(temporary, path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
        os.close(descriptor)


def remove_abandoned(path: Path) -> None:
    """Removes the hidden folders that processes were filling for `path` when they were killed."""
    for folder in path.parent.glob(f".{glob.escape(path.name)}.*.tmp"):
        with suppress(OSError):
            descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
            try:
                # The process that writes to it holds its lock.
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(folder)
            finally:
                os.close(descriptor)


def write_json(path: Path, value: object) -> None:
    """Writes a value as JSON, whole or not at all."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def read_json(path: Path) -> dict:
    """Reads an object that `write_json` wrote.

    Raises:
        RunError: If the file holds something else.
    """
    try:
        if path.stat().st_size > _LARGEST_JSON:
            raise ValueError(f"it has {path.stat().st_size:,} bytes")
        value = read_json_file(path)
    except ValueError as error:  # of JSON, and of UTF-8
        raise _damaged(path, str(error)) from error
    if not isinstance(value, dict):
        raise _damaged(path, "it is not an object")
    return value


def _damaged(path: Path, why: str) -> RunError:
    return RunError(
        f"The file is not what kerasllm wrote: {why}",
        where=str(path),
        fix="restore the file, or train again",
    )


def _is_left_over(path: Path) -> bool:
    """Whether a file is what a run leaves that was killed before it wrote its recipe."""
    return path.name == _LOCK or path.match(_TEMPORARY)


def _new_path(parent: Path) -> Path:
    """Returns a directory named by date and time that is not there yet."""
    name = datetime.now().strftime("%Y%m%d-%H%M%S")
    path, count = parent / name, 1
    while path.exists():
        count += 1
        path = parent / f"{name}-{count}"
    return path
