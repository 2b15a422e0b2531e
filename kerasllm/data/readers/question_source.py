"""A source of questions on contexts: files in any known layout."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterator
from typing import Any, NamedTuple

from kerasllm.data.readers.faults import Notes, counted_reasons, reason_of
from kerasllm.data.readers.files import Spec, find_files, read_as
from kerasllm.data.readers.question_records import (
    ARTICLES,
    AnswerAt,
    find_keys,
    read_questions,
)
from kerasllm.data.readers.row_checks import places, what_to_do
from kerasllm.errors import DataError

_BAD_ROWS_KEPT = 1000
_BAD_ROWS_SHOWN = 5


class Question(NamedTuple):
    """A question on a context.

    Attributes:
        id: What the file calls it; its number among the questions of all files where it does not.
        question: The question.
        context: The text that may hold the answer.
        answers: The answers; the first one is trained on; none where the context has none.
        file: The number of its file.
        line: The line or row that it is in.
    """

    id: str
    question: str
    context: str
    answers: tuple[AnswerAt, ...]
    file: int
    line: int


class QuestionSource:
    """Files of questions, read in order.

    Known are the JSON of SQuAD 1.1 and 2.0, and flat json, jsonl, csv, tsv and parquet files with a
    question, a context and answers. All but parquet may be compressed.

    A row is bad if it cannot be read, or if an answer does not stand in its context where the file
    says. Without a position the first match is taken.

    Args:
        spec: As for `find_files`.
        split: The part that `starter:NAME`, and a folder, mean. Defaults to `"train"`.
        question: The key of the questions. Defaults to `None`: found by common names.
        context: The key of the contexts. Defaults to `None`: found by common names.
        answer: The key of the answers. Defaults to `None`: found by common names.
        answered: Whether there are answers to read. Defaults to `True`.
        on_bad_row: `"error"` or `"skip"`, as for `Source`. Defaults to `"error"`.
        encoding: The encoding of the files' text. Defaults to `None`: UTF-8.
        delimiter: Field delimiter of csv and tsv files. Defaults to `None`: detected.

    Attributes:
        files: The names of the files, as messages show them.
        on_bad_row: As given.
        remarks: What a user should know of how the files were found, a list.
        bad_rows: After reading, the first 1,000 bad rows: `(file, line, why)`.
        bad_row_count: After reading, the number of all bad rows.
        bad_row_reasons: After reading, the number of bad rows by the kind of fault.
        notes: After reading, what was met that is not a fault.

    Raises:
        DataError: A file is missing, or holds no questions.

    Example:

    ```python
    for one in QuestionSource("train-v2.0.json").questions():
        print(one.question, [answer.text for answer in one.answers])
    ```
    """

    def __init__(
        self,
        spec: Spec,
        *,
        split: str = "train",
        question: str | None = None,
        context: str | None = None,
        answer: str | None = None,
        answered: bool = True,
        on_bad_row: str = "error",
        encoding: str | None = None,
        delimiter: str | None = None,
    ):
        if on_bad_row not in ("error", "skip"):
            raise ValueError(f"on_bad_row must be 'error' or 'skip'. Received: {on_bad_row!r}")
        reading = {"encoding": encoding, "delimiter": delimiter}
        found = find_files(read_as(spec, split, classes=False, **reading), split, classes=False)
        self._files = list(found)
        self._answered = answered
        self._keys = [
            find_keys(file, question, context, answer, answered=answered) for file in self._files
        ]
        self.files = tuple(file.name for file in self._files)
        self.on_bad_row = on_bad_row
        self.remarks = list(found.remarks)
        self._begin()

    @property
    def fingerprint(self) -> str:
        """sha256, in hex, of the files' bytes in order, and how they are read."""
        read = ["kerasllm question source 1", self._answered]
        total = hashlib.sha256(json.dumps(read).encode())
        for file, keys in zip(self._files, self._keys, strict=True):
            how = f"{tuple(keys)} {file.encoding} {file.delimiter} {file.compression or 'plain'}"
            total.update(f"{how} {file.sha256()}\n".encode())
        return total.hexdigest()

    @property
    def noted(self) -> dict[str, Any]:
        """What a store keeps of how the rows were read, as JSON values."""
        return {
            "skipped_reasons": dict(self.bad_row_reasons),
            "notes": self.notes.lines(),
        }

    @property
    def flat(self) -> bool:
        """Whether all files have a question in each row."""
        return ARTICLES not in self._keys

    def description(self) -> str:
        """Says in words how the files are read."""
        return "; ".join(dict.fromkeys(map(str, self._keys)))

    def questions(self, file: int | None = None) -> Iterator[Question]:
        """Reads all questions, in the order of the files.

        Args:
            file: The number of the only file that is read. Defaults to `None`: all are.

        Raises:
            DataError: A file has bad rows and `on_bad_row` is `"error"`, a file cannot be read to
                its end, or no question is left.
        """
        self._begin()
        number = 0
        for index in range(len(self._files)) if file is None else [file]:
            for found in self._of_file(index, number):
                number += 1
                yield found
        if not number and file is None:
            raise DataError(
                f"No question can be used: all {self.bad_row_count:,} are bad"
                if self.bad_row_count
                else "The files contain no questions",
                where=places(self.bad_rows, self.bad_row_count) or ", ".join(self.files[:3]),
                fix=f"check the files; they were read as: {self.description()}",
            )

    def _begin(self) -> None:
        self.bad_rows: list[tuple[str, int, str]] = []
        self.bad_row_count = 0
        self._good_rows = 0
        self.bad_row_reasons: Counter[str] = Counter()
        self.notes = Notes()

    def _of_file(self, index: int, number: int) -> Iterator[Question]:
        file = self._files[index]
        refuse, before = self.on_bad_row == "error", self.bad_row_count
        for row in read_questions(file, self._keys[index], answered=self._answered):
            if row.problem is not None:
                self.bad_row_count += 1
                self.bad_row_reasons[reason_of(row.problem)] += 1
                if len(self.bad_rows) < _BAD_ROWS_KEPT:
                    self.bad_rows.append((file.name, row.line, row.problem))
                continue
            self._good_rows += 1
            if refuse and self.bad_row_count:
                continue
            for note in dict.fromkeys(row.notes):
                self.notes.add(note, f"{file.name}:{row.line}" + (f" ({row.id})" if row.id else ""))
            number += 1
            id = str(number) if row.id is None else row.id
            yield Question(id, row.question, row.context, row.answers, index, row.line)
        if refuse and self.bad_row_count > before:
            one = self.bad_row_count == 1
            are = "1 question is" if one else f"{self.bad_row_count:,} questions are"
            reasons = self.bad_row_reasons if self.bad_row_count > _BAD_ROWS_SHOWN else ()
            raise DataError(
                f"{are} bad in {file.name}"
                + (f": {counted_reasons(reasons)}" if len(reasons) > 1 else ""),
                where=places(self.bad_rows, self.bad_row_count),
                fix=what_to_do(self.bad_row_count, self._good_rows),
            )
