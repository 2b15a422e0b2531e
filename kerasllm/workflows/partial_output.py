"""An output file that is written over hours: partial results are kept, and resumed."""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from kerasllm.data.answer_files import SUFFIXES, AnswerFile, copy_over, kind_of
from kerasllm.errors import CommandError, Interrupted, RunError
from kerasllm.languages import LANGUAGES
from kerasllm.output_files import make_folder_of
from kerasllm.run import read_json, remove_abandoned, write_json
from kerasllm.workflows.report import Report
from kerasllm.workflows.signals import Signalled, signals_raised

_STATE = "state.json"


@dataclass(frozen=True)
class Output:
    """Where predictions are written.

    Attributes:
        path: The file.
        resume: Whether to continue where a prediction into the file was interrupted. Defaults to
            `False`.
        text_suffixes: The suffixes of files of text that may be written, as `.conll`; see
            `Task.text_suffixes`. Defaults to none.
    """

    path: Path
    resume: bool = False
    text_suffixes: tuple[str, ...] = ()

    @property
    def partial(self) -> Path:
        """The folder that holds what is done, until all is."""
        return self.path.with_name(f"{self.path.name}.partial")

    def check(self, inputs: Iterable[str]) -> None:
        """Refuses a file that cannot be written, or is one of those that are read.

        Its folder is made.

        Args:
            inputs: The files that are read.

        Raises:
            CommandError: If it is one of them.
        """
        path = self.path
        kind, suffix = kind_of(path), Path(path.name.lower().removesuffix(".gz")).suffix
        if kind is None or (kind.form == "text" and suffix not in self.text_suffixes):
            shown = [each for each in self.text_suffixes if each not in LANGUAGES]
            if len(shown) < len(self.text_suffixes):
                shown.append("a language such as .de")
            more = "".join(f"{each}, " for each in shown)
            raise CommandError(
                f"The suffix {path.suffix!r} is not a format for predictions",
                where=str(path),
                fix=f"end --output with {more}{SUFFIXES}",
            )
        for name in inputs:
            if _same_file(path, Path(name)):
                raise CommandError(
                    "The output is the input, which would be overwritten",
                    where=f"--output {path}",
                    fix="name another file",
                )
        make_folder_of(path)

    def noted(self) -> dict:
        """Returns what was noted for a prediction that is resumed; nothing if there is none."""
        path = self.partial / _STATE
        return read_json(path).get("noted", {}) if self.resume and path.is_file() else {}


class Partial:
    """What is done of a file, until all is.

    It lies in `FILE.partial/`, where it can be resumed, and else in a hidden folder beside the
    file. Either goes away when the file is there, and when nothing is done yet.

    Args:
        output: The file.
        fingerprint: Returns what tells this prediction from others, by what it is in words; called
            once there is something to resume.
        report: Where it is told what is kept.
        resumable: Whether `commit` keeps what is done.
        noted: What a prediction that is resumed must know besides. Defaults to nothing.

    Raises:
        CommandError: If there is something to resume and nobody asked for it, or it is something
            else.
        Interrupted: If a signal ended the block.
    """

    def __init__(
        self,
        output: Output,
        fingerprint: Callable[[], Mapping[str, str]],
        report: Report,
        *,
        resumable: bool,
        noted: Mapping[str, object] | None = None,
    ):
        self._output, self._fingerprint, self._resumable = output, fingerprint, resumable
        self._report, self._noted = report, dict(noted or {})
        self.folder = output.partial
        if not resumable and not output.resume:
            self.folder = output.path.with_name(f".{output.path.name}.{os.getpid()}.tmp")
        self.state: dict | None = None
        self._file: AnswerFile | None = None
        self._committed = self._rows = 0
        self._identity: Mapping[str, str] | None = None

    def __enter__(self) -> Partial:
        self._stack = signals_raised()
        self._refuse_unasked()
        remove_abandoned(self._output.path)
        try:
            self.folder.mkdir(exist_ok=True)
        except OSError as error:
            raise CommandError(
                f"The directory cannot be written: {error.strerror}",
                where=str(self.folder.parent),
                fix="name a file in another one with --output",
            ) from error
        self._lock()
        try:
            self.state = self._read_state() if self._output.resume else None
        except BaseException:
            self._unlock()
            raise
        if self.state is None:
            self._clear()
        else:
            self._committed = self.state["rows"]
        self._stack.__enter__()
        return self

    def opened(self, file: AnswerFile, rows: int) -> None:
        """Takes the file that grows in the folder, and how many rows there are to read."""
        self._file, self._rows = file, rows

    def commit(self, rows: int, bad: int) -> None:
        """Notes that so many rows of the input are done, and how many of them were bad."""
        if not self._resumable:
            return
        if self._identity is None:
            self._identity = self._fingerprint()
        state = {
            "rows": rows,
            "bad": bad,
            "position": self._file.commit(),
            "of": dict(self._identity),
            "noted": self._noted,
        }
        write_json(self.folder / _STATE, state)
        self._file.committed()
        self._committed = rows

    def finish(self) -> None:
        """Makes the file that the output is."""
        copy_over(self._file.finish(), self._output.path)
        self._committed = 0

    def __exit__(self, kind, error, traceback) -> None:
        self._stack.__exit__(None, None, None)
        if self._file is not None:
            self._file.close()
        if not self._committed:
            shutil.rmtree(self.folder, ignore_errors=True)
        self._unlock()
        if self._committed and isinstance(error, Exception):
            self._report.line(f"{self._left()}: {self.folder}")
        if isinstance(error, (Signalled, KeyboardInterrupt)):
            number = error.signal if isinstance(error, Signalled) else 2
            raise self._interrupted(number) from None

    def _interrupted(self, number: int) -> Interrupted:
        name = signal.Signals(number).name
        if not self._committed:
            return Interrupted(f"{name} stopped the prediction; nothing was kept", signal=number)
        return Interrupted(
            f"{name} stopped the prediction: {self._left()}",
            signal=number,
            where=str(self.folder),
            fix="continue with the same command and --resume",
        )

    def _left(self) -> str:
        return f"{self._committed:,} of {self._rows:,} rows are done, and kept for --resume"

    def _refuse_unasked(self) -> None:
        state = self._output.partial / _STATE
        if self._output.resume or not self._resumable or not state.is_file():
            return
        raise CommandError(
            f"A prediction into this file was interrupted after {read_json(state)['rows']:,} rows",
            where=str(self._output.partial),
            fix="continue it with --resume, or remove that folder to start over",
        )

    def _read_state(self) -> dict | None:
        path = self.folder / _STATE
        if not path.is_file():
            return None
        state, self._identity = read_json(path), self._fingerprint()
        before = state.get("of", {})
        changed = [name for name, value in self._identity.items() if before.get(name) != value]
        if changed:
            raise CommandError(
                f"The prediction was started differently: {', '.join(changed)} changed",
                where=str(self.folder),
                fix="use the same command as then, or remove that folder to start over",
            )
        return state

    def _clear(self) -> None:
        for path in self.folder.iterdir():
            path.unlink()

    def _lock(self) -> None:
        self._descriptor = os.open(self.folder, os.O_RDONLY)
        try:
            # The system lets go of it when the process ends, however it ends.
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            os.close(self._descriptor)
            raise RunError(
                "Another process is predicting into this file",
                where=str(self._output.path),
                fix="wait for it, or choose another file with --output",
            ) from error
        except OSError:
            pass  # A file system without locks.

    def _unlock(self) -> None:
        os.close(self._descriptor)


def _same_file(one: Path, other: Path) -> bool:
    try:
        return os.path.samefile(one, other)
    except OSError:
        return os.path.realpath(one) == os.path.realpath(other)
