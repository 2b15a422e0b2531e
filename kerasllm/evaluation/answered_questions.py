"""Evaluates a model on questions: each once, over all windows of its context."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from kerasllm.data.loading import place_of
from kerasllm.evaluation.answer_decoding import Found, decode_answers, log_probabilities
from kerasllm.evaluation.answers import answers_report, best_threshold, scores_of
from kerasllm.tasks.task import Evaluation

if TYPE_CHECKING:
    from kerasllm.data.question_windows import QuestionWindows
    from kerasllm.models.answer_model import AnswerModel

# Characters of a context that are shown around an answer.
_AROUND = 60


def evaluate_questions(
    model: AnswerModel,
    rows: QuestionWindows,
    *,
    notify: Callable[[str], None] | None = None,
) -> Evaluation:
    """Measures a model on questions.

    Args:
        model: The model.
        rows: All windows of the questions.
        notify: Called with how far it is. Defaults to `None`.

    Returns:
        The metrics of `answers_report`, and `loss`. `outputs` is what was found for each question,
        `decisions` where its answer starts and ends, -1 for none, `rows` each question with its
        answer, and `document` the file that the official scripts read: answers by id.
    """
    from kerasllm.models.answer_texts import answers_none
    from kerasllm.models.token_outputs import token_logits

    batches = -(-len(rows) // model.prediction_batch)

    def done(number: int) -> None:
        notify(f"answering: batch {number + 1} of {batches}")

    logits = token_logits(model, rows, notify=done if notify else None)
    windows, contexts = rows.answer_windows, rows.contexts()
    answering = model.answering
    found = decode_answers(logits, windows, contexts, max_answer_length=answering.max_answer_length)
    spans = [
        (-1, -1) if answers_none(each, answering.threshold) else each.candidates[0][:2]
        for each in found
    ]
    answers = [text_of(context, span) for context, span in zip(contexts, spans, strict=True)]
    report = answers_report(answers, rows.references)
    return Evaluation(
        {"loss": _loss(logits, rows), **report},
        found,
        np.array(spans, np.int64).reshape(-1, 2),
        _Predictions(rows, answers),
        lambda: dict(zip(rows.ids(), answers, strict=True)),
    )


def text_of(context: str, span: tuple[int, int]) -> str:
    """Returns the text of a span; `""` where it starts at -1."""
    return "" if span[0] < 0 else context[span[0] : span[1]]


def threshold_of(rows: QuestionWindows, found: list[Found]) -> tuple[float, float]:
    """Returns the best threshold of no answer, and the F1 with it.

    Args:
        rows: The questions, some of which have no answer.
        found: What was found for each.
    """
    contexts, references = rows.contexts(), rows.references
    best = [
        text_of(context, each.candidates[0][:2]) if each.candidates else ""
        for context, each in zip(contexts, found, strict=True)
    ]
    _, f1 = scores_of(best, references)
    answered = np.array([bool(wanted) for wanted in references], bool)
    return best_threshold(f1, np.array([each.no_answer for each in found]), answered)


def mistakes_in(rows: QuestionWindows, evaluation: Evaluation, count: int) -> list[dict[str, Any]]:
    """Returns the most confident mistakes: answers without a word of the right ones.

    Args:
        rows: What was measured.
        evaluation: What `evaluate_questions` gave of it.
        count: How many to return.

    Returns:
        For each `text`, the question and what stands around the answer, `expected`, `predicted` and
        `where` (`file:line`).
    """
    contexts, references = rows.contexts(), rows.references
    spans = [tuple(span) for span in evaluation.decisions.tolist()]
    answers = [text_of(context, span) for context, span in zip(contexts, spans, strict=True)]
    _, f1 = scores_of(answers, references)
    sure = np.array(
        [
            each.no_answer_score if span[0] < 0 else each.candidates[0].score
            for each, span in zip(evaluation.outputs, spans, strict=True)
        ]
    )
    wrong = np.flatnonzero(f1 == 0)
    chosen = wrong[np.argsort(-sure[wrong], kind="stable")][:count]
    place, questions = place_of(rows.store), rows.questions(chosen)
    return [
        {
            "text": f"{question} | {_around(contexts[number], spans[number])}",
            "expected": repr(references[number][0]) if references[number] else "no answer",
            "predicted": (repr(answers[number]) if spans[number][0] >= 0 else "no answer")
            + f" ({sure[number]:.0%})",
            "where": place(int(rows.question_rows[number])),
        }
        for number, question in zip(chosen, questions, strict=True)
    ]


def _around(context: str, span: tuple[int, int]) -> str:
    start, end = (0, 0) if span[0] < 0 else span
    first, last = max(start - _AROUND, 0), end + _AROUND
    shown = " ".join(context[first:last].split())
    return f"{'…' * (first > 0)}{shown}{'…' * (last < len(context))}"


def _loss(logits: np.ndarray, rows: QuestionWindows) -> float:
    """Returns the mean of what `SpanCrossentropy` gives of each window."""
    if not len(rows):
        return 0.0
    windows, targets = rows.answer_windows, rows.targets
    # No answer, and then the tokens of the context.
    places = np.where(targets[:, :2] > 0, targets[:, :2] - targets[:, 2:3] + 1, 0)
    sides = log_probabilities(logits, windows)
    total = sum(
        float(each[place])
        for side, chances in enumerate(sides)
        for each, place in zip(chances, places[:, side], strict=True)
    )
    return -total / 2 / len(rows)


class _Predictions:
    """The answers of an evaluation as rows of a file, made when it is written."""

    def __init__(self, rows: QuestionWindows, answers: list[str]):
        self._rows, self._answers = rows, answers

    def __len__(self) -> int:
        return len(self._answers)

    def __iter__(self):
        ids, questions = self._rows.ids(), self._rows.questions()
        triples = zip(ids, questions, self._answers, self._rows.references, strict=True)
        for id, question, answer, references in triples:
            yield {"id": id, "question": question, "answer": answer, "references": references}
