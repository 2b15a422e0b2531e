"""Questions and their contexts as a model reads them: tokens in windows, each with the question."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from kerasllm.data.rows import TokensInMemory
from kerasllm.data.tokenizers import Tokenizer
from kerasllm.data.tokenizers.pairs import FIRST, SECOND
from kerasllm.data.tokenizers.token_rows import places, row_offsets
from kerasllm.data.windows import Windows, cut_windows
from kerasllm.evaluation.answer_decoding import AnswerWindows

_WHOLE = 1 << 30


@dataclass(frozen=True, eq=False)
class CutQuestions:
    """Questions, each in as many windows as its context needs.

    Attributes:
        ids: int32, the token ids of all windows, special tokens included.
        answers: Which question each window is of, and where the tokens of its context stand.
        windows: The context and the tokens of each window.
        cut: bool `[questions]`, whether a question was longer than it may be.
        second_segment: The segment id of the context.
    """

    ids: np.ndarray
    answers: AnswerWindows
    windows: Windows
    cut: np.ndarray
    second_segment: int

    @property
    def tokens(self) -> TokensInMemory:
        """The windows as a model reads them."""
        return TokensInMemory(
            self.ids,
            self.answers.offsets,
            self.answers.firsts,
            second_segment=self.second_segment,
        )

    def targets(
        self, answers: Sequence[Sequence[tuple[str, int]]]
    ) -> tuple[np.ndarray, np.ndarray]:
        """Returns the tokens at which the answers start and end.

        Args:
            answers: Of each question one answer and its first character, or none.

        Returns:
            int32 `[windows]` each, counted in the window; 0 where it does not hold all tokens of
            the answer.
        """
        found = self.answers
        starts, ends = np.zeros((2, len(found)), np.int32)
        for window, question in enumerate(found.questions):
            if not answers[question]:
                continue
            text, first = answers[question][0]
            last = first + len(text)
            spans = found.spans[found.span_offsets[window] : found.span_offsets[window + 1]]
            # Tokens that end after its start and start before its end.
            within = np.flatnonzero((spans[:, 1] > first) & (spans[:, 0] < last))
            if not len(within):
                continue
            start, end = within[0], within[-1]
            cut = (start == 0 and not self._begins(window)) and spans[0, 0] > first
            cut |= (end == len(spans) - 1 and not self._ends(window)) and spans[-1, 1] < last
            if not cut:
                starts[window] = found.firsts[window] + start
                ends[window] = found.firsts[window] + end
        return starts, ends

    def _begins(self, window: int) -> bool:
        return self.windows.starts[window] == 0

    def _ends(self, window: int) -> bool:
        last = window + 1 == len(self.windows)
        return bool(last or self.windows.rows[window + 1] != self.windows.rows[window])


def cut_questions(
    tokenizer: Tokenizer,
    questions: Sequence[str],
    contexts: Sequence[str],
    max_length: int,
    stride: int | None,
    max_question_length: int,
) -> CutQuestions:
    """Tokenizes questions and contexts, and cuts long contexts into windows.

    Args:
        tokenizer: Turns texts into tokens; it must know where they stand.
        questions: The questions.
        contexts: The context of each; equal ones are tokenized once.
        max_length: The maximum number of tokens of a window, those of the question and special ones
            included.
        stride: How many tokens a window moves on. `None`: half of the room for the context.
        max_question_length: The maximum number of tokens of a question; the rest is cut.

    Raises:
        DataError: If a text is not valid Unicode.
        PresetError: If the tokenizer does not know where its tokens stand.
    """
    number_of: dict[str, int] = {}
    which = np.array([number_of.setdefault(each, len(number_of)) for each in contexts], np.int64)
    asked_ids, _, asked = _tokens(tokenizer, questions)
    context_ids, spans, offsets = _tokens(tokenizer, list(number_of))
    sizes = np.minimum(np.diff(asked), max_question_length)
    room = max_length - tokenizer.pair_special_tokens - sizes
    moves = np.maximum(room // 2, 1) if stride is None else np.minimum(stride, room)
    windows = cut_windows(np.diff(offsets)[which], room, moves)

    of_question, of_context = windows.rows, which[windows.rows]
    counts = {FIRST: sizes[of_question], SECOND: windows.ends - windows.starts}
    begins = {FIRST: asked[:-1][of_question], SECOND: offsets[:-1][of_context] + windows.starts}
    tokens = {FIRST: asked_ids, SECOND: context_ids}
    rows = row_offsets(counts[FIRST] + counts[SECOND] + tokenizer.pair_special_tokens)
    ids = np.empty(rows[-1], np.int32)
    place, firsts = rows[:-1].copy(), np.zeros(len(windows), np.int64)
    for piece, _ in tokenizer.pair_template.pieces:
        if piece in tokens:
            if piece == SECOND:
                firsts = place - rows[:-1]
            taken, placed = places(begins[piece], place, counts[piece])
            ids[placed] = tokens[piece][taken]
            place += counts[piece]
        else:
            ids[place] = piece
            place += 1
    in_context, _ = places(begins[SECOND], begins[SECOND], counts[SECOND])
    answers = AnswerWindows(
        rows, of_question, firsts, spans[in_context], row_offsets(counts[SECOND])
    )
    return CutQuestions(
        ids, answers, windows, np.diff(asked) > max_question_length, tokenizer.second_segment
    )


def _tokens(
    tokenizer: Tokenizer, texts: Sequence[str]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns ids, spans and offsets of whole texts, without special tokens."""
    found = tokenizer.encode_offsets(texts, _WHOLE)
    before = int(tokenizer.start_token_id is not None)
    lengths = np.diff(found.offsets) - before - (tokenizer.end_token_id is not None)
    begins = found.offsets[:-1] + before
    taken, _ = places(begins, begins, lengths)
    return found.ids[taken], found.spans[taken], row_offsets(lengths)
