"""Questions with choices, one of which is right, from files."""

from __future__ import annotations

import os
import string
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from kerasllm.data.chat.messages import BadRow, read_list
from kerasllm.data.label_cells import shown
from kerasllm.data.readers.faults import shortened
from kerasllm.data.readers.files import find_files
from kerasllm.data.readers.json_files import json_kind
from kerasllm.data.readers.records import records
from kerasllm.data.readers.row_checks import places, surrogate_problem
from kerasllm.errors import DataError

KEYS = ("question", "choices", "answer")
"""What each row holds."""

_BAD_ROWS_KEPT = 1000


@dataclass(frozen=True)
class Question:
    """A question with its choices.

    Args:
        question: The question.
        choices: The choices, two or more.
        answer: The number of the right one, from 0.
        file: The file that it was read from.
        line: The line there; in a Parquet file the row.
    """

    question: str
    choices: tuple[str, ...]
    answer: int
    file: str
    line: int


def read_questions(
    spec: str | os.PathLike | Sequence[str | os.PathLike],
    *,
    split: str = "test",
    bad_rows: list[tuple[str, int, str]] | None = None,
) -> list[Question]:
    """Reads files of questions.

    A row is `{"question": ..., "choices": [...], "answer": ...}`. The answer is the number of the
    right choice, from 0; its text; or its letter, A for the first. Files: jsonl, json (a list),
    csv, tsv and parquet.

    Args:
        spec: A path, a glob, an address, or a sequence of these.
        split: The part that `starter:NAME` means. Defaults to `"test"`.
        bad_rows: Takes file, line and reason of each bad row, which is then left out. Defaults to
            `None`: a bad row is an error.

    Raises:
        DataError: A file cannot be read, a row is no such question, or there is none.
    """
    questions: list[Question] = []
    count = 0
    refuse = bad_rows is None
    bad_rows = [] if bad_rows is None else bad_rows
    files = find_files(spec, split)
    for file in files:
        for line, row, problem in records(file):
            try:
                if problem:
                    raise BadRow(problem)
                questions.append(_question(row, file.name, line))
            except BadRow as error:
                count += 1
                if refuse and len(bad_rows) >= _BAD_ROWS_KEPT:
                    continue
                bad_rows.append((file.name, line, shortened(str(error))))
    if bad_rows and refuse:
        raise DataError(
            f"{'1 row is' if count == 1 else f'{count:,} rows are'} not a multiple-choice question",
            where=places(bad_rows, count),
            fix='write {"question": "...", "choices": ["...", "..."], "answer": 0}; the answer is '
            "a number from 0, a letter from A, or the text of a choice",
        )
    if not questions:
        raise DataError(
            "The files contain no questions",
            where=places(bad_rows, len(bad_rows)) or ", ".join(file.name for file in files),
            fix="give a file with rows",
        )
    return questions


def _question(row: Mapping[str, Any], file: str, line: int) -> Question:
    missing = [key for key in KEYS if row.get(key) is None]
    if missing:
        raise BadRow(f"no {' and no '.join(map(repr, missing))}")
    choices = row["choices"]
    # As a csv file has them.
    choices = (read_list(choices) or choices) if isinstance(choices, str) else choices
    if not isinstance(choices, list):
        raise BadRow(f"'choices' is {json_kind(choices)}, where a list is expected")
    if len(choices) < 2:
        raise BadRow(f"'choices' has {len(choices)}, where two or more are expected")
    question = _text("the question", row["question"])
    choices = tuple(_text(f"choice {n}", choice) for n, choice in enumerate(choices, start=1))
    return Question(question, choices, _number_of(row["answer"], choices), file, line)


def _text(name: str, value: Any) -> str:
    if not isinstance(value, str):
        raise BadRow(f"{name} is {json_kind(value)}, where a string is expected")
    if not value.strip():
        raise BadRow(f"{name} is empty")
    if problem := surrogate_problem(name, value):
        raise BadRow(problem)
    return value.strip()


def _number_of(answer: Any, choices: Sequence[str]) -> int:
    """Returns the number of the choice that an answer means."""
    if isinstance(answer, str):
        if answer.strip() in choices:
            return choices.index(answer.strip())
        if answer.strip() in map(str, range(len(choices))):
            return int(answer)
        letter = answer.strip().upper()
        if len(letter) == 1 and letter in string.ascii_uppercase[: len(choices)]:
            return string.ascii_uppercase.index(letter)
    elif type(answer) is int and 0 <= answer < len(choices):
        return answer
    raise BadRow(f"the answer {shown(answer)} is not one of the {len(choices)} choices")
