"""The answers of a model to questions, as character spans of the context."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from kerasllm.data.question_tokens import CutQuestions
from kerasllm.evaluation.answer_decoding import Candidate, Found, decode_answers
from kerasllm.models.answer_model import AnswerModel
from kerasllm.models.token_outputs import token_logits

N_BEST = 5
"""How many answers `predict` tells of each question, unless it is told."""


class Prepared(NamedTuple):
    """Questions with their contexts, cut into windows of tokens."""

    pairs: Sequence[tuple[str, str]]
    windows: CutQuestions


def answer_texts(
    model: AnswerModel,
    pairs: Sequence[tuple[str, str]],
    *,
    n_best: int = N_BEST,
    prepared: Prepared | None = None,
    logits: Callable[..., np.ndarray] | None = None,
) -> list[dict[str, Any]]:
    """Answers questions.

    Args:
        model: The model.
        pairs: Questions, each with the context that may hold the answer.
        n_best: How many answers there may be under `n_best`. Defaults to `5`.
        prepared: The pairs with their windows. Defaults to `None`: they are cut now.
        logits: Computes the outputs of all tokens of rows, as `token_logits` does of a model.
            Defaults to `None`: that.

    Returns:
        What `described` does of each, in order, with the question under `text` and the context
        under `text_pair`.
    """
    pairs, windows = prepared or Prepared(pairs, model.cut(pairs))
    outputs = logits(windows.tokens) if logits else token_logits(model, windows.tokens)
    contexts = [context for _, context in pairs]
    found = decode_answers(
        outputs,
        windows.answers,
        contexts,
        max_answer_length=model.answering.max_answer_length,
        n_best=n_best,
    )
    return [
        {
            "text": question,
            "text_pair": context,
            **described(context, each, model.answering.threshold),
        }
        for (question, context), each in zip(pairs, found, strict=True)
    ]


def described(context: str, found: Found, threshold: float | None) -> dict[str, Any]:
    """Returns what was found for a question.

    Args:
        context: The context.
        found: What was found in it.
        threshold: From which no-answer score on there is no answer; `None`: there is always one,
            where the context has a token.

    Returns:
        `answer`, its text, `start` and `end`, its characters in the context, and `score`, its
        probability; of no answer `""`, `None`, `None` and the probability of none. `n_best`, the
        best spans, each with these four. And with a threshold `no_answer`, which is above it where
        there is no answer.
    """
    spans = [_span(context, one) for one in found.candidates]
    none = {"answer": "", "start": None, "end": None, "score": found.no_answer_score}
    best = none if answers_none(found, threshold) else spans[0]
    told = {**best, "n_best": spans}
    return told if threshold is None else {**told, "no_answer": found.no_answer}


def answers_none(found: Found, threshold: float | None) -> bool:
    """Returns whether the answer to a question is that there is none."""
    return not found.candidates or (threshold is not None and found.no_answer > threshold)


def _span(context: str, one: Candidate) -> dict[str, Any]:
    answer = context[one.start : one.end]
    return {"answer": answer, "start": one.start, "end": one.end, "score": one.score}


def answer_stream(
    model: AnswerModel,
    pairs: Iterable[tuple[str, str]],
    *,
    n_best: int = N_BEST,
    chunk: int = 2048,
) -> Iterator[dict[str, Any]]:
    """Answers questions as they come, in memory that does not grow with their number.

    While some are computed, the next ones are prepared.

    Args:
        model: The model.
        pairs: Questions with contexts, read as they are needed.
        n_best: As for `answer_texts`. Defaults to `5`.
        chunk: Questions that are computed together. With `1` a question is answered before the next
            one is read. Defaults to `2048`.

    Yields:
        What `answer_texts` gives, in the order of the questions.
    """
    from kerasllm.models.classify import ahead, chunks

    def ready(some: list[tuple[str, str]]) -> Prepared:
        return Prepared(some, model.cut(some))

    groups = chunks(pairs, chunk)
    for prepared in map(ready, groups) if chunk == 1 else ahead(ready, groups):
        yield from answer_texts(model, prepared.pairs, n_best=n_best, prepared=prepared)
