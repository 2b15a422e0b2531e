"""What a model answered to each question of the test data, and its metrics again from that."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from kerasllm.evaluation.answered_questions import text_of
from kerasllm.evaluation.answers import scores_of
from kerasllm.evaluation.outcomes import DATA, TEXT_CHARACTERS, Outcomes, names_column
from kerasllm.evaluation.resampling import Measure, weighted_sum
from kerasllm.evaluation.scored_rows import place_columns

if TYPE_CHECKING:
    from kerasllm.data.question_windows import QuestionWindows
    from kerasllm.tasks.task import Evaluation

_NONE = "no answer"


def answered_rows(rows: QuestionWindows, evaluation: Evaluation) -> Outcomes:
    """Returns what became of each question.

    Args:
        rows: All windows of the questions.
        evaluation: What `kerasllm.evaluation.answered_questions.evaluate_questions` gave of them.
    """
    references = rows.references
    spans = [tuple(span) for span in evaluation.decisions.tolist()]
    contexts = rows.contexts()
    answers = [text_of(context, span) for context, span in zip(contexts, spans, strict=True)]
    exact, f1 = scores_of(answers, references)
    sure = [
        each.no_answer_score if span[0] < 0 else each.candidates[0].score
        for each, span in zip(evaluation.outputs, spans, strict=True)
    ]
    answered = np.array([bool(wanted) for wanted in references], bool)
    columns = {
        **place_columns(rows.store.where(int(row)) for row in rows.question_rows),
        "tokens": np.bincount(np.cumsum(rows.first) - 1, rows.lengths).astype(np.int64),
        "expected": pa.array([(one[0] if one else _NONE)[:TEXT_CHARACTERS] for one in references]),
        "predicted": pa.array([(answer or _NONE)[:TEXT_CHARACTERS] for answer in answers]),
        "error": (1 - f1).astype(np.float32),
        "confidence": np.array(sure, np.float32),
        "exact": exact.astype(np.uint8),
        "answered": answered.astype(np.uint8),
    }
    if answered.any() and not answered.all():
        names = (_NONE, "has an answer")
        columns[f"{DATA}answer"] = names_column(answered.astype(np.int64), names)
    return Outcomes(columns, rows.questions(), noun="question", error="1 - F1")


def measure_answered(outcomes: Outcomes) -> Measure:
    """Returns what measures rows of `answered_rows`, each as often as it is told."""
    f1, exact = 1 - outcomes["error"].astype(np.float64), outcomes["exact"].astype(np.float64)
    answered = outcomes["answered"].astype(np.float64)
    groups = {"": np.ones(len(f1)), "has_answer_": answered, "no_answer_": 1 - answered}

    def measure(drawn: np.ndarray) -> Mapping[str, float]:
        found = {}
        for name, mine in groups.items():
            some = drawn * mine
            count = some.sum()
            if count:
                found[f"{name}exact_match"] = weighted_sum(some, exact) / count
                found[f"{name}f1"] = weighted_sum(some, f1) / count
        return found

    return measure
