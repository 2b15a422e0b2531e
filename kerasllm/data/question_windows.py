"""Questions with windows over their contexts: made of texts, kept in a token store, batched."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from kerasllm.data import shards
from kerasllm.data.question_tokens import cut_questions
from kerasllm.data.readers.question_source import Question, QuestionSource
from kerasllm.data.rows import ArraySpec, model_inputs
from kerasllm.data.token_store import (
    SEGMENT_START,
    SKIPPED_KEPT,
    TokenStore,
    open_or_write,
    row_batch,
)
from kerasllm.data.tokenizers import Tokenizer
from kerasllm.errors import DataError
from kerasllm.evaluation.answer_decoding import AnswerWindows

# Of a window.
FIRST, CUT = "first", "cut"
TOKEN_STARTS, TOKEN_ENDS = "token_starts", "token_ends"
START, END = "answer_start", "answer_end"
# Of a question, with its first window.
ID, QUESTION, ANSWERS = "id", "question", "answers"
# With the first question on it, and how many rows before this one that is; and what tells it from
# others.
CONTEXT, CONTEXT_BACK, CONTEXT_KEY = "context", "context_back", "context_key"
# Raise it when a store would hold something else of the same files.
_VERSION = 1
_QUESTIONS_AT_ONCE, _CHARACTERS_AT_ONCE = 4096, 1 << 22
NO_ANSWER = 0
"""The token of a window that start and end are at where it holds no answer: the first one."""


def open_windows(
    source: QuestionSource,
    tokenizer: Tokenizer,
    max_length: int,
    stride: int | None,
    max_question_length: int,
    folder: Path,
    notify: Callable[[str], None] | None = None,
) -> TokenStore:
    """Returns the windows of questions, from an earlier store if there is one.

    A row is a question with a window over its context. The tokens of the context have their
    characters, and the answer its tokens, where the window holds all of it.

    Args:
        source: The questions.
        tokenizer: Turns texts into tokens; it must know where they stand.
        max_length: The maximum number of tokens of a window, those of the question and special ones
            included.
        stride: How many tokens a window moves on. `None`: half of the room for the context.
        max_question_length: The maximum number of tokens of a question; the rest is cut.
        folder: Where stores are kept.
        notify: Called with what is being done. Defaults to `None`.

    Raises:
        DataError: If a file is broken, or a question is refused.
    """
    name = ", ".join(Path(file).name for file in source.files[:3])

    def progress(rows: int) -> None:
        if notify:
            notify(f"tokenizing {name}: {rows:,} windows")

    def batches() -> Iterator[pa.RecordBatch]:
        for some in _together(source.questions(shards.mine())):
            yield _batch(some, tokenizer, max_length, stride, max_question_length)

    read = ["questions", _VERSION, source.fingerprint, source.files, source.on_bad_row]
    store = open_or_write(
        [read, tokenizer.fingerprint, max_length, stride, max_question_length],
        batches,
        source.files,
        folder=folder,
        progress=progress,
        remarks=lambda: [source.bad_row_count, source.bad_rows[:SKIPPED_KEPT], source.noted],
    )
    if not len(store):
        raise DataError(
            "The files contain no questions",
            where=", ".join(source.files),
            fix="give a file with questions",
        )
    return store


def _together(questions: Iterator[Question]) -> Iterator[list[Question]]:
    """Yields questions of one file, as many as are tokenized at once."""
    held: list[Question] = []
    characters = 0
    for question in questions:
        full = len(held) == _QUESTIONS_AT_ONCE or characters >= _CHARACTERS_AT_ONCE
        if held and (full or question.file != held[0].file):
            yield held
            held, characters = [], 0
        if not held or question.context is not held[-1].context:
            characters += len(question.context)
        held.append(question)
        characters += len(question.question)
    if held:
        yield held


def _batch(
    questions: Sequence[Question],
    tokenizer: Tokenizer,
    max_length: int,
    stride: int | None,
    max_question_length: int,
) -> pa.RecordBatch:
    found = cut_questions(
        tokenizer,
        [one.question for one in questions],
        [one.context for one in questions],
        max_length,
        stride,
        max_question_length,
    )
    of_question = found.answers.questions
    firsts = np.diff(of_question, prepend=-1) != 0
    starts, ends = found.targets([one.answers[:1] for one in questions])
    # Contexts are kept once.
    row_of: dict[str, int] = {}
    keys: dict[str, int] = {}
    contexts, back, key = [], [], []
    for row, number in enumerate(of_question):
        context = questions[number].context
        kept = row_of.setdefault(context, row)
        contexts.append(context if kept == row else "")
        back.append(row - kept)
        key.append(keys.get(context) or keys.setdefault(context, _key(context)))

    def with_first(values: Sequence, kind: pa.DataType) -> pa.Array:
        empty = [] if pa.types.is_list(kind) else ""
        return pa.array(
            [values[n] if first else empty for n, first in zip(of_question, firsts)], kind
        )

    offsets = pa.array(found.answers.span_offsets.astype(np.int32))
    columns = {
        FIRST: pa.array(firsts.astype(np.int8)),
        CUT: pa.array(found.cut[of_question].astype(np.int8)),
        SEGMENT_START: pa.array(found.answers.firsts.astype(np.int32)),
        TOKEN_STARTS: pa.ListArray.from_arrays(offsets, pa.array(found.answers.spans[:, 0])),
        TOKEN_ENDS: pa.ListArray.from_arrays(offsets, pa.array(found.answers.spans[:, 1])),
        START: pa.array(starts),
        END: pa.array(ends),
        ID: with_first([one.id for one in questions], pa.string()),
        QUESTION: with_first([one.question for one in questions], pa.string()),
        ANSWERS: with_first(
            [[text for text, _ in one.answers] for one in questions], pa.list_(pa.string())
        ),
        CONTEXT: pa.array(contexts, pa.string()),
        CONTEXT_BACK: pa.array(np.array(back, np.int32)),
        CONTEXT_KEY: pa.array(np.array(key, np.int64)),
    }
    lines = np.array([one.line for one in questions], np.int64)[of_question]
    return row_batch(found.ids, found.answers.offsets, questions[0].file, lines, columns=columns)


def _key(context: str) -> int:
    digest = hashlib.blake2b(context.encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little", signed=True)


@dataclass(frozen=True, eq=False)
class QuestionWindows:
    """Some rows of a store of questions: what is split, planned, trained and evaluated on.

    All windows of a question are among them, or none, but where rows are taken to train on.

    Attributes:
        store: The windows.
        rows: int64 `[windows]`, which rows of the store these are.
        second_segment: The segment id of the context: 1 for BERT, 0 for RoBERTa. Defaults to `1`.
    """

    store: TokenStore
    rows: np.ndarray
    second_segment: int = 1

    @classmethod
    def of(cls, store: TokenStore, tokenizer: Tokenizer) -> QuestionWindows:
        """Returns all rows of a store."""
        return cls(store, np.arange(len(store)), tokenizer.second_segment)

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def store_rows(self) -> np.ndarray:
        """int64 `[windows]`, the rows of the store that these are."""
        return self.rows

    @cached_property
    def lengths(self) -> np.ndarray:
        """int64 `[windows]`, tokens of each, special tokens included."""
        return self.store.lengths[self.rows].astype(np.int64)

    @cached_property
    def first(self) -> np.ndarray:
        """bool `[windows]`, whether each is the first of its question."""
        return self.store.numbers(FIRST, self.rows) > 0

    @cached_property
    def question_rows(self) -> np.ndarray:
        """int64 `[questions]`, the row of the store that each question begins with."""
        return self.rows[self.first]

    @property
    def skipped(self) -> int:
        """How many bad rows of the files were left out."""
        return self.store.skipped

    @cached_property
    def cut_questions(self) -> int:
        """How many questions were longer than they may be, and were cut."""
        return int((self.store.numbers(CUT, self.question_rows) > 0).sum())

    @cached_property
    def unheld_answers(self) -> int:
        """How many questions have an answer that no window holds all of."""
        held = np.bincount(np.cumsum(self.first) - 1, weights=self.targets[:, 0] > 0)
        answered = np.array([bool(one) for one in self.references], bool)
        return int((answered & (held == 0)).sum())

    @cached_property
    def targets(self) -> np.ndarray:
        """int32 `[windows, 4]`: start and end of the answer, both 0 where a window holds none, and
        the first token of the context and the one after its last."""
        start, end, first = (
            self.store.numbers(name, self.rows) for name in (START, END, SEGMENT_START)
        )
        last = first + self.store.column_lengths(TOKEN_STARTS)[self.rows]
        return np.stack([start, end, first, last], axis=1).astype(np.int32)

    @cached_property
    def answer_windows(self) -> AnswerWindows:
        """What answers are decoded by."""
        starts, ends = (
            np.array(pc.list_flatten(self._taken(name)).combine_chunks(), np.int32)
            for name in (TOKEN_STARTS, TOKEN_ENDS)
        )
        targets = self.targets
        return AnswerWindows(
            np.concatenate([[0], np.cumsum(self.lengths)]),
            np.cumsum(self.first) - 1,
            targets[:, 2].astype(np.int64),
            np.stack([starts, ends], axis=1).reshape(-1, 2),
            np.concatenate([[0], np.cumsum(targets[:, 3] - targets[:, 2])]).astype(np.int64),
        )

    @cached_property
    def references(self) -> list[list[str]]:
        """The right answers of each question, none where it has no answer."""
        return self._taken(ANSWERS, self.question_rows).to_pylist()

    def ids(self) -> list[str]:
        """Returns what the files call each question."""
        return self._taken(ID, self.question_rows).to_pylist()

    def questions(self, numbers: Sequence[int] | np.ndarray | None = None) -> list[str]:
        """Returns some of the questions, or all."""
        return self._taken(QUESTION, self._rows_of(numbers)).to_pylist()

    def contexts(self, numbers: Sequence[int] | None = None) -> list[str]:
        """Returns the contexts of some of the questions, or of all; equal ones are one string."""
        rows = self._rows_of(numbers)
        kept, place = np.unique(rows - self.store.numbers(CONTEXT_BACK, rows), return_inverse=True)
        texts = self._taken(CONTEXT, kept).to_pylist()
        return [texts[number] for number in place]

    def _rows_of(self, numbers: Sequence[int] | None) -> np.ndarray:
        return self.question_rows if numbers is None else self.question_rows[numbers]

    def _taken(self, name: str, rows: np.ndarray | None = None) -> pa.ChunkedArray:
        return self.store.column(name).take(pa.array(self.rows if rows is None else rows))

    def places(self, row: int) -> list[tuple[str, int]]:
        """Returns the file and the line of the question of a row."""
        return [self.store.where(int(self.rows[row]))]

    def gather(self, indices: np.ndarray, length: int, pad_id: int) -> np.ndarray:
        """Returns the padded token ids of some rows, int32 `[indices, length]`."""
        return self.store.gather(self.rows[indices], length, pad_id)

    def segment_starts(self, indices: np.ndarray) -> np.ndarray | None:
        """Returns where the context of some rows begins, int32 `[indices]`."""
        return self.store.segment_starts(self.rows[indices])

    def batch(
        self,
        indices: np.ndarray,
        length: int,
        inputs: Sequence[str],
        pad_id: int,
        *,
        step: int = 0,
        seed: int = 0,
    ) -> tuple:
        """Returns `(x, y, sample_weight)` of some rows; see `rows.Rows`.

        Returns:
            The inputs of `model_inputs`; `targets` of the rows, int32 `[indices, 4]`; and float32
            `[indices]` of ones.
        """
        x = model_inputs(self, indices, length, inputs, pad_id)
        return x, self.targets[indices], np.ones(len(indices), np.float32)

    def signature(self, rows: int, length: int | None, inputs: Sequence[str]) -> tuple:
        """Returns the specs of what `batch` returns."""
        return (
            dict.fromkeys(inputs, ArraySpec((rows, length), np.int32)),
            ArraySpec((rows, 4), np.int32),
            ArraySpec((rows,), np.float32),
        )

    def take(self, indices: np.ndarray) -> QuestionWindows:
        """Returns some of the rows."""
        return replace(self, rows=self.rows[indices])
