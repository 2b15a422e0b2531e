"""Answers from the outputs of a model: the best spans of each question, over all its windows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

# Sums of a start and an end that are held at once.
_SUMS_AT_ONCE = 1 << 23
_IMPOSSIBLE = np.float32(-1e30)


class Candidate(NamedTuple):
    """A span of a context that may be the answer.

    Attributes:
        start: Its first character.
        end: The character after its last one.
        score: Its probability in the window that it is found in: that of its start by that of its
            end.
    """

    start: int
    end: int
    score: float


class Found(NamedTuple):
    """What is found for a question.

    Attributes:
        candidates: Spans, the best first; none where the context has no token.
        no_answer: How much more likely it is that the context holds no answer: the difference of
            the logarithms of the probabilities. The answer is no answer where it is above a
            threshold.
        no_answer_score: The probability of no answer in the window where it is least likely.
    """

    candidates: list[Candidate]
    no_answer: float
    no_answer_score: float


@dataclass(frozen=True, eq=False)
class AnswerWindows:
    """The windows over the contexts of some questions, as a model reads them.

    Attributes:
        offsets: int64 `[windows + 1]`, where the tokens of each window begin and end.
        questions: int64 `[windows]`, the question of each, in order.
        firsts: int64 `[windows]`, the place of its first token of the context.
        spans: int32 `[tokens of contexts, 2]`, the characters of the tokens of the contexts in all
            windows, one window after the other.
        span_offsets: int64 `[windows + 1]`, where those of each window begin and end.
    """

    offsets: np.ndarray
    questions: np.ndarray
    firsts: np.ndarray
    spans: np.ndarray
    span_offsets: np.ndarray

    def __len__(self) -> int:
        return len(self.questions)


def decode_answers(
    logits: np.ndarray,
    windows: AnswerWindows,
    contexts: Sequence[str],
    *,
    max_answer_length: int,
    n_best: int = 1,
) -> list[Found]:
    """Returns the best answers of questions.

    In each window the start, and the end, of the answer is one of the tokens of the context, or the
    first token of the window: no answer. Each has a probability. The best spans of all windows of a
    question are its candidates, and a span that several windows hold counts once. No answer is as
    likely as in the window where it is least so.

    Args:
        logits: float `[tokens, 2]`, start and end, of all tokens of the windows.
        windows: The windows.
        contexts: The contexts by question, in whose characters spans are counted.
        max_answer_length: The maximum number of tokens of an answer.
        n_best: How many candidates there may be of a question. Defaults to `1`.
    """
    starts, ends = log_probabilities(logits, windows)
    counts = np.diff(windows.span_offsets)
    null = np.array([s[0] + e[0] for s, e in zip(starts, ends)], np.float32).reshape(-1)
    best: list[list[tuple[float, int, int]]] = [[] for _ in range(len(windows))]
    order = np.argsort(counts, kind="stable")
    for some in _together(order, counts, max_answer_length):
        for window, found in zip(some, _best_spans(some, starts, ends, max_answer_length, n_best)):
            best[window] = found
    answers: list[Found] = []
    firsts = np.searchsorted(windows.questions, np.arange(len(contexts) + 1))
    for question, context in enumerate(contexts):
        mine = range(firsts[question], firsts[question + 1])
        spans: dict[tuple[int, int], float] = {}
        for window in mine:
            places = windows.spans[windows.span_offsets[window] :]
            for score, start, end in best[window]:
                span = _trimmed(context, int(places[start, 0]), int(places[end, 1]))
                if span is not None and score > spans.get(span, -np.inf):
                    spans[span] = score
        ranked = sorted(spans.items(), key=lambda item: (-item[1], item[0]))[:n_best]
        least = float(min((null[window] for window in mine), default=0.0))
        answers.append(
            Found(
                [Candidate(*span, float(np.exp(score))) for span, score in ranked],
                least - ranked[0][1] if ranked else -least,
                float(np.exp(least)),
            )
        )
    return answers


def log_probabilities(
    logits: np.ndarray, windows: AnswerWindows
) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Returns the logarithms of the probabilities of starts, and of ends.

    Returns:
        For each window float32 `[1 + tokens of the context]`, of no answer and of each token.
    """
    starts, ends = [], []
    for window in range(len(windows)):
        begin = windows.offsets[window]
        count = windows.span_offsets[window + 1] - windows.span_offsets[window]
        first = begin + windows.firsts[window]
        allowed = np.concatenate([logits[begin : begin + 1], logits[first : first + count]])
        allowed = allowed.astype(np.float32)
        allowed -= allowed.max(axis=0)
        allowed -= np.log(np.exp(allowed).sum(axis=0))
        starts.append(allowed[:, 0])
        ends.append(allowed[:, 1])
    return starts, ends


def _together(order: np.ndarray, counts: np.ndarray, longest: int) -> list[np.ndarray]:
    """Cuts windows that are sorted by length into batches whose sums fit into memory."""
    batches, first = [], 0
    for place in range(1, len(order) + 1):
        sums = (place + 1 - first) * counts[order[min(place, len(order) - 1)]] * longest
        if place == len(order) or sums > _SUMS_AT_ONCE:
            batches.append(order[first:place])
            first = place
    return batches


def _best_spans(
    some: np.ndarray,
    starts: Sequence[np.ndarray],
    ends: Sequence[np.ndarray],
    longest: int,
    n_best: int,
) -> list[list[tuple[float, int, int]]]:
    """Returns `(score, first token, last token)` of the best spans of some windows."""
    width = max(len(starts[window]) for window in some) - 1
    if width < 1:
        return [[] for _ in some]
    longest = min(longest, width)
    start = np.full((len(some), width), _IMPOSSIBLE)
    end = np.full((len(some), width + longest - 1), _IMPOSSIBLE)
    for row, window in enumerate(some):
        count = len(starts[window]) - 1
        start[row, :count], end[row, :count] = starts[window][1:], ends[window][1:]
    # [window, first token, tokens - 1]
    sums = start[:, :, None] + np.lib.stride_tricks.sliding_window_view(end, longest, axis=1)
    flat = sums.reshape(len(some), -1)
    # One more, for spans of the same characters are one.
    wanted = min(n_best if n_best == 1 else 2 * n_best, flat.shape[1])
    if wanted == 1:
        chosen = flat.argmax(axis=1)[:, None]
    else:
        chosen = np.argpartition(-flat, wanted - 1, axis=1)[:, :wanted]
    return [
        [
            (
                float(flat[row, place]),
                int(place // longest),
                int(place // longest + place % longest),
            )
            for place in places
            if flat[row, place] > _IMPOSSIBLE / 2
        ]
        for row, places in enumerate(chosen)
    ]


def _trimmed(context: str, start: int, end: int) -> tuple[int, int] | None:
    """Returns a span of characters without the white space around it; `None` if it is blank."""
    text = context[start:end]
    if not text.strip():
        return None
    return end - len(text.lstrip()), start + len(text.rstrip())
