"""Predict for all rows of files: a row out for each row in, in order, and resumable."""

from __future__ import annotations

import hashlib
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kerasllm.data.answer_files import Answer, kind_of
from kerasllm.data.readers.whole_rows import Survey, WholeRow, WholeRows
from kerasllm.errors import DataError
from kerasllm.models.digests import sha256_of
from kerasllm.plurals import counted
from kerasllm.workflows.partial_output import Output, Partial
from kerasllm.workflows.report import Report

SHOWN = 3
"""Bad rows that a line names."""

ERROR = "error"
"""The key of a prediction that says why there is none."""

SECONDS_BETWEEN_COMMITS = 5.0
"""Time after which what is done is brought to the disk again, which takes a while too."""

# Rows that are written together.
_TOGETHER = 1024


@dataclass(frozen=True)
class Predictor:
    """What predicts for rows, and how that is written.

    Attributes:
        predict: Takes the inputs of good rows and yields what is predicted, in order; for one that
            it refuses nothing but `ERROR` and what it says.
        chunk: Inputs that are computed together.
        forms: How a prediction is written, by `AnswerFile.form`; as a list where it has several
            lines.
        shared: What a prediction repeats of its row: left out where the row has that column.
    """

    predict: Callable[[Iterator[Any]], Iterator[Mapping[str, Any]]]
    chunk: int
    forms: Mapping[str, Callable[[Mapping[str, Any]], Mapping[str, Any] | list]]
    shared: tuple[str, ...] = ()


class BadRows:
    """How many rows were bad, and the first of them.

    Args:
        skip: Whether they are left out. Defaults to `False`.

    Attributes:
        count: How many there are.
        first: Place and reason of the first of them.
        column: What has the reasons where they are written.
    """

    def __init__(self, skip: bool = False):
        self.count, self._skip = 0, skip
        self.first: list[str] = []
        self.column = ERROR

    def add(self, error: str) -> None:
        """Takes the place of a row and what is wrong with it."""
        self.count += 1
        if len(self.first) < SHOWN:
            self.first.append(error)

    def resumed(self, count: int, first: Iterable[tuple[str, int, str]]) -> None:
        """Takes those that were bad before a resume."""
        self.count = count
        self.first = [f"{file}:{line}: {why}" for file, line, why in first][: min(count, SHOWN)]

    def __str__(self) -> str:
        did = "left out" if self._skip else f"without a prediction (see `{self.column}`)"
        more = self.count - len(self.first)
        rest = [f"and {more:,} more"] if more else []
        return f"{counted(self.count, 'bad row')} {did}: " + "; ".join([*self.first, *rest])


def answers(
    rows: Iterable[WholeRow], predictor: Predictor, bad: BadRows, *, skip: bool = False
) -> Iterator[tuple[WholeRow, list[Answer]]]:
    """Yields what is predicted for rows, in order, in memory that does not grow with them.

    Args:
        rows: Good and bad rows.
        predictor: What predicts for them.
        bad: Counts the bad ones.
        skip: Whether bad rows are left out. Defaults to `False`.

    Yields:
        A good row, and its answer after those of the bad rows before it; in the end the last row,
        and the answers of the bad ones that are left.

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

    def made(row: WholeRow, found: Mapping[str, Any] | None) -> list[Answer]:
        problem = row.problem or (found or {}).get(ERROR)
        if problem is None:
            own = {k: v for k, v in found.items() if not (k in predictor.shared and k in row.kept)}
            return [Answer(row.kept, own)]
        error = f"{row.where}: {problem}"
        bad.add(error)
        return [] if skip else [Answer(row.kept, None, error)]

    for prediction in predictor.predict(inputs()):
        any_good = any_good or ERROR not in prediction
        group = []
        while waiting[0].problem is not None:
            group += made(waiting.popleft(), None)
        row = waiting.popleft()
        yield row, group + made(row, prediction)
    if not any_good and (waiting or bad.count):
        count = bad.count + len(waiting)
        first = bad.first[0] if bad.first else f"{waiting[0].where}: {waiting[0].problem}"
        where, _, problem = first.partition(": ")
        more = f", and {count - 1:,} more rows" if count > 1 else ""
        raise DataError(f"No row can be used: {problem}", where=where + more, fix="correct them")
    if waiting:
        yield waiting[-1], [each for row in waiting for each in made(row, None)]


def predict_to_file(
    rows: WholeRows,
    survey: Survey,
    output: Output,
    predictor: Predictor,
    *,
    fingerprint: Callable[[], Mapping[str, str]],
    noted: Mapping[str, Any] | None = None,
    skip: bool = False,
    errors: bool = True,
    report: Report | None = None,
) -> BadRows:
    """Writes a file with a row for each row of the input.

    Args:
        rows: The rows.
        survey: What a pass over them found.
        output: The file.
        predictor: What predicts for them. A resumed prediction computes the same ones together.
        fingerprint: As for `Partial`.
        noted: As for `Partial`. Defaults to `None`: nothing.
        skip: Whether bad rows are left out. Defaults to `False`.
        errors: Whether the file has a column for errors. Defaults to `True`.
        report: Where progress is shown. Defaults to `None`: stderr.

    Returns:
        The bad rows.

    Raises:
        KerasllmError: As `Partial` does.
    """
    report, bad = report or Report(), BadRows(skip)
    resumable = survey.rows > predictor.chunk
    with Partial(output, fingerprint, report, resumable=resumable, noted=noted) as partial:
        done = partial.state["rows"] if partial.state else 0
        file = kind_of(output.path)(
            partial.folder,
            survey.columns,
            errors=errors,
            name=output.path.name,
            shared=predictor.shared,
            position=partial.state and partial.state["position"],
            schema=survey.schema,
        )
        partial.opened(file, survey.rows)
        if done:
            bad.resumed(partial.state["bad"], survey.bad)
            report.line(f"{output.path}: resuming after {done:,} of {survey.rows:,} rows")
        written, good = _Buffer(file, predictor, begun=done > 0), 0
        committed = float("-inf")
        with report.rows(survey.rows, done) as progress:
            if done < survey.rows:
                kept = _told_when_begun(rows.after(done), progress.begin)
                for row, group in answers(kept, predictor, bad, skip=skip):
                    done, good = row.number + 1, good + (row.problem is None)
                    whole = row.problem is None and good % predictor.chunk == 0
                    if written.add(group, at_once=whole):
                        progress.done(done)
                        if whole and time.monotonic() - committed >= SECONDS_BETWEEN_COMMITS:
                            partial.commit(done, bad.count)
                            committed = time.monotonic()
        written.add((), at_once=True)
        partial.finish()
    for name, other in file.name_of.renamed.items():
        report.line(f"the input has a column {name}; the prediction is in {other}")
    bad.column = file.name_of(ERROR)
    return bad


def predict_rows_to_file(
    rows: Iterable[WholeRow], output: Output, predictor: Predictor, *, errors: bool
) -> tuple[int, BadRows]:
    """Writes a file of what is predicted for rows that come from elsewhere than files.

    Args:
        rows: The rows; they have no columns.
        output: The file.
        predictor: What predicts for them.
        errors: Whether the file has a column for errors.

    Returns:
        How many rows were predicted for, and the bad ones.
    """
    count, bad = 0, BadRows()
    with Partial(output, dict, Report(), resumable=False) as partial:
        file = kind_of(output.path)(partial.folder, (), errors=errors, name=output.path.name)
        partial.opened(file, 0)
        written = _Buffer(file, predictor, begun=False)
        for _, group in answers(rows, predictor, bad):
            written.add(group)
            count += len(group)
        written.add((), at_once=True)
        partial.finish()
    return count - bad.count, bad


def fingerprint_of(model: str | Path) -> str:
    """Returns the sha256 of the files of a folder and of their names, or of a file; else a name."""
    if Path(model).is_file():
        return sha256_of(Path(model))
    if not Path(model).is_dir():
        return str(model)
    total = hashlib.sha256()
    for path in sorted(path for path in Path(model).rglob("*") if path.is_file()):
        total.update(f"{path.relative_to(model)} {sha256_of(path)}\n".encode())
    return total.hexdigest()


class _Buffer:
    """Answers that are written together; first with a good one, which tells the columns."""

    def __init__(self, file: Any, predictor: Predictor, begun: bool):
        self._file, self._form, self._begun = file, predictor.forms[file.form], begun
        self._answers: list[Answer] = []

    def add(self, group: Sequence[Answer], *, at_once: bool = False) -> bool:
        """Takes answers; returns whether all were written."""
        for one in group:
            found = one.predicted
            self._begun = self._begun or found is not None
            made = found if found is None else self._form(found)
            several = made if isinstance(made, list) else [made]
            self._answers += [one._replace(predicted=each) for each in several]
        if not self._begun or (not at_once and len(self._answers) < _TOGETHER):
            return False
        self._file.write(self._answers)
        self._answers = []
        return True


def _told_when_begun(rows: Iterable[WholeRow], begin: Callable[[], None]) -> Iterator[WholeRow]:
    begin_once = iter([begin])
    for row in rows:
        next(begin_once, lambda: None)()
        yield row
