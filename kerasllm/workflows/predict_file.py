"""Predict for all rows of files: a row out for each row in, in order, and resumable."""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import signal
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kerasllm.data.answer_files import SUFFIXES, Answer, AnswerFile, copy_over, kind_of
from kerasllm.data.readers.whole_rows import Survey, WholeRow, WholeRows
from kerasllm.errors import CommandError, DataError, Interrupted, RunError
from kerasllm.models.digests import sha256_of
from kerasllm.plurals import counted
from kerasllm.run import read_json, write_json
from kerasllm.workflows.report import Report
from kerasllm.workflows.signals import Signalled, signals_raised

_STATE = "state.json"
SHOWN = 3
"""Bad rows that a line names."""

# Rows that are written together.
_TOGETHER = 1024


@dataclass(frozen=True)
class Output:
    """Where predictions are written.

    Attributes:
        path: The file.
        resume: Whether to continue where a prediction into the file was interrupted. Defaults to
            `False`.
    """

    path: Path
    resume: bool = False

    @property
    def partial(self) -> Path:
        """The folder that holds what is done, until all is."""
        return self.path.with_name(f"{self.path.name}.partial")

    def check(self, inputs: Iterable[str]) -> None:
        """Refuses a file that cannot be written, or is one of those that are read.

        Args:
            inputs: The files that are read.

        Raises:
            CommandError: If it is one of them.
        """
        path = self.path
        if kind_of(path) is None:
            raise CommandError(
                f"The suffix {path.suffix!r} is not one that predictions are written to",
                where=str(path),
                fix=f"end --output with {SUFFIXES}",
            )
        if not path.parent.is_dir():
            raise CommandError("The directory is not there", where=str(path.parent), fix="make it")
        if path.is_dir():
            raise CommandError(
                "This is a directory", where=str(path), fix="name a file with --output"
            )
        if not os.access(path.parent, os.W_OK | os.X_OK):
            raise CommandError(
                "The directory cannot be written",
                where=str(path.parent),
                fix="name a file in another one with --output",
            )
        for name in inputs:
            if _same_file(path, Path(name)):
                raise CommandError(
                    "The output is the input, which would be overwritten",
                    where=f"--output {path}",
                    fix="name another file",
                )


def refuse_resume(output: Output) -> None:
    """Refuses to continue what cannot be read a second time."""
    if output.resume:
        raise CommandError(
            "Only a prediction from files can be resumed",
            where="--resume",
            fix="write the texts to a file and name it with --input, or leave --resume out",
        )


def in_order(
    rows: Iterable[WholeRow], predict: Callable[[Iterator[Any]], Iterator[Mapping[str, Any]]]
) -> Iterator[list[tuple[WholeRow, Mapping[str, Any] | None]]]:
    """Yields rows with what is predicted for them, in order, in memory that does not grow.

    Args:
        rows: Good and bad rows.
        predict: Takes the inputs of good rows and yields what is predicted, in order.

    Yields:
        A good row with its prediction, after the bad ones before it with `None`; in the end the bad
        rows that are left.

    Raises:
        DataError: If all rows are bad.
    """
    waiting: deque[WholeRow] = deque()
    any_good = False

    def inputs() -> Iterator[Any]:
        for row in rows:
            waiting.append(row)
            if row.problem is None:
                yield row.input

    for prediction in predict(inputs()):
        any_good = True
        group: list[tuple[WholeRow, Mapping[str, Any] | None]] = []
        while waiting[0].problem is not None:
            group.append((waiting.popleft(), None))
        yield [*group, (waiting.popleft(), prediction)]
    if waiting and not any_good:
        more = f", and {len(waiting) - 1:,} more rows" if len(waiting) > 1 else ""
        raise DataError(
            f"No row can be used: {waiting[0].problem}",
            where=waiting[0].where + more,
            fix="give texts that are not empty",
        )
    if waiting:
        yield [(row, None) for row in waiting]


def predict_to_file(
    rows: WholeRows,
    survey: Survey,
    output: Output,
    predict: Callable[[Iterator[Any]], Iterator[Mapping[str, Any]]],
    *,
    forms: Mapping[str, Callable[[Mapping[str, Any]], Mapping[str, Any]]],
    fingerprint: Callable[[], Mapping[str, str]],
    on_bad_row: str = "empty",
    chunk: int = 2048,
    report: Report | None = None,
) -> None:
    """Writes a file with a row for each row of the input.

    While it runs, what is done lies in `FILE.partial/`, which `--resume` continues; it goes away
    when the file is there, and when nothing is done yet.

    Args:
        rows: The rows.
        survey: What a pass over them found.
        output: The file.
        predict: Takes the inputs of good rows and yields what is predicted, in order, `chunk` of
            them together.
        forms: How a prediction is written, by `AnswerFile.form`.
        fingerprint: Returns what tells this prediction from others, by what it is in words; only
            called where there is something to resume.
        on_bad_row: `"empty"` or `"skip"`: whether a bad row is in the file. Defaults to `"empty"`.
        chunk: Good rows that are computed together; a resumed prediction computes the same ones
            together. Defaults to `2048`.
        report: Where progress is shown. Defaults to `None`: stderr.

    Raises:
        CommandError: If there is something to resume and nobody asked for it, or it is something
            else.
        Interrupted: If a signal ended it.
    """
    report = report or Report()
    skip, errors = on_bad_row == "skip", on_bad_row == "empty"
    kind = kind_of(output.path)
    with _Partial(output, fingerprint, report, resumable=survey.rows > chunk) as partial:
        state = partial.state
        done = state["rows"] if state else 0
        file = kind(
            partial.folder,
            survey.columns,
            errors=errors,
            name=output.path.name,
            position=state and state["position"],
            schema=survey.schema,
        )
        partial.opened(file, survey.rows)
        if done:
            report.line(f"{output.path}: continuing after {done:,} of {survey.rows:,} rows")
        form = forms[file.form]
        kept = (row for row in rows.after(done) if not (skip and row.problem))
        good, answers = 0, []
        with report.rows(survey.rows, done) as progress:
            kept = _told_when_begun(kept, progress.begin)
            for group in in_order(kept, predict) if done < survey.rows else ():
                answers += [_answer(row, found, form, errors) for row, found in group]
                last, found = group[-1]
                done, good = last.number + 1, good + (found is not None)
                whole = good % chunk == 0 and found is not None
                if whole or len(answers) >= _TOGETHER:
                    file.write(answers)
                    answers = []
                    progress.done(done)
                if whole:
                    partial.commit(done)
        file.write(answers)
        partial.finish()
    for name, other in file.name_of.renamed.items():
        report.line(f"the input has a column {name}: what is predicted is in {other}")


def predict_rows_to_file(
    answers: Iterable[Sequence[Answer]], output: Output, kept: Sequence[str], *, form, errors: bool
) -> int:
    """Writes a file of answers that come from elsewhere than files; returns how many.

    Args:
        answers: Groups of answers in the task's own form.
        output: The file.
        kept: The columns that are kept.
        form: How a prediction is written, by `AnswerFile.form`.
        errors: Whether there is a column for the errors.
    """
    count = 0
    with _Partial(output, dict, Report(), resumable=False) as partial:
        file = kind_of(output.path)(partial.folder, kept, errors=errors, name=output.path.name)
        partial.opened(file, 0)
        for group in answers:
            made = [
                each._replace(predicted=each.predicted and form[file.form](each.predicted))
                for each in group
            ]
            file.write(made)
            count += len(made)
        partial.finish()
    return count


def describe_bad(count: int, bad: Sequence[tuple[str, int, str]], on_bad_row: str) -> str:
    """Returns a line on the bad rows of an input, with the first of them.

    Args:
        count: How many there are.
        bad: The first of them: file, line and why.
        on_bad_row: `"empty"` or `"skip"`: what became of them.
    """
    did = "left out" if on_bad_row == "skip" else "without a prediction (see `error`)"
    shown = [f"{file}:{line}: {why}" for file, line, why in bad[:SHOWN]]
    more = [f"and {count - len(shown):,} more"] if count > len(shown) else []
    return f"{counted(count, 'bad row')} {did}: " + "; ".join([*shown, *more])


def fingerprint_of(folder: str | Path) -> str:
    """Returns the sha256 of all files of a folder, and of their names."""
    total = hashlib.sha256()
    for path in sorted(path for path in Path(folder).rglob("*") if path.is_file()):
        total.update(f"{path.relative_to(folder)} {sha256_of(path)}\n".encode())
    return total.hexdigest()


class _Partial:
    """What is done of a file, until all is."""

    def __init__(
        self,
        output: Output,
        fingerprint: Callable[[], Mapping[str, str]],
        report: Report,
        *,
        resumable: bool,
    ):
        self._output, self._fingerprint, self._resumable = output, fingerprint, resumable
        self._report = report
        self.folder = output.partial
        if not resumable and not output.resume:
            self.folder = output.path.with_name(f".{output.path.name}.{os.getpid()}.tmp")
        self.state: dict | None = None
        self._file: AnswerFile | None = None
        self._committed = self._rows = 0
        self._identity: Mapping[str, str] | None = None

    def __enter__(self) -> _Partial:
        self._stack = signals_raised()
        self._refuse_unasked()
        self.folder.mkdir(exist_ok=True)
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

    def commit(self, rows: int) -> None:
        """Notes that so many rows of the input are done."""
        if not self._resumable:
            return
        if self._identity is None:
            self._identity = self._fingerprint()
        state = {"rows": rows, "position": self._file.commit(), "of": dict(self._identity)}
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
            return Interrupted(f"{name} ended the prediction, and nothing is kept", signal=number)
        return Interrupted(
            f"{name} ended the prediction: {self._left()}",
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
            fix="continue it with --resume; or remove that folder to begin again",
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
                f"The prediction was begun with something else: {', '.join(changed)} changed",
                where=str(self.folder),
                fix="give the same command as then, or remove that folder to begin again",
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


def _told_when_begun(rows: Iterable[WholeRow], begin: Callable[[], None]) -> Iterator[WholeRow]:
    begin_once = iter([begin])
    for row in rows:
        next(begin_once, lambda: None)()
        yield row


def _answer(
    row: WholeRow, found: Mapping[str, Any] | None, form: Callable, errors: bool
) -> Answer:
    error = f"{row.where}: {row.problem}" if errors and row.problem else None
    return Answer(row.kept, None if found is None else form(found), error)


def _same_file(one: Path, other: Path) -> bool:
    try:
        return os.path.samefile(one, other)
    except OSError:
        return os.path.realpath(one) == os.path.realpath(other)
