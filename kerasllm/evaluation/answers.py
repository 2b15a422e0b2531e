"""Exact match and F1 of answers, as the official scripts of SQuAD compute them."""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Sequence

import numpy as np

_ARTICLES = re.compile(r"\b(a|an|the)\b")
_PUNCTUATION = dict.fromkeys(map(ord, string.punctuation))


def normalize(answer: str) -> str:
    """Returns an answer in lower case, without punctuation, articles and extra white space.

    Example:

    >>> normalize("The  U.S. Army!")
    'us army'
    """
    return " ".join(_ARTICLES.sub(" ", answer.lower().translate(_PUNCTUATION)).split())


def exact_match(answer: str, reference: str) -> float:
    """Returns 1 if two answers are the same when they are normalized, else 0."""
    return float(normalize(answer) == normalize(reference))


def f1_score(answer: str, reference: str, *, none_counts: bool = True) -> float:
    """Returns the F1 of the words that two normalized answers share.

    Args:
        answer: What was predicted.
        reference: What is right.
        none_counts: Whether two answers without a word are the same, as in the script of SQuAD
            2.0; in that of 1.1 they share nothing. Defaults to `True`.
    """
    words, wanted = normalize(answer).split(), normalize(reference).split()
    if not words or not wanted:
        return float(none_counts and words == wanted)
    shared = sum((Counter(words) & Counter(wanted)).values())
    if not shared:
        return 0.0
    precision, recall = shared / len(words), shared / len(wanted)
    return 2 * precision * recall / (precision + recall)


def scores_of(
    answers: Sequence[str], references: Sequence[Sequence[str]]
) -> tuple[np.ndarray, np.ndarray]:
    """Returns exact match and F1 of each question: the best over its references.

    With a question that has no answer, they are those of SQuAD 2.0: a reference that holds nothing
    but articles and punctuation is none. Else they are those of SQuAD 1.1.

    Args:
        answers: What was predicted, `""` for no answer.
        references: The right answers of each question; none where it has no answer.

    Returns:
        float64 `[questions]` each.
    """
    version_2 = not all(references)
    exact, f1 = np.zeros(len(answers)), np.zeros(len(answers))
    for number, (answer, wanted) in enumerate(zip(answers, references, strict=True)):
        if version_2:
            wanted = [one for one in wanted if normalize(one)] or [""]
        exact[number] = max(exact_match(answer, one) for one in wanted)
        f1[number] = max(f1_score(answer, one, none_counts=version_2) for one in wanted)
    return exact, f1


def answers_report(
    answers: Sequence[str],
    references: Sequence[Sequence[str]],
    no_answer_scores: np.ndarray | None = None,
) -> dict[str, float | int]:
    """Returns the metrics of some answers.

    Args:
        answers: What was predicted, `""` for no answer.
        references: The right answers of each question; none where it has no answer.
        no_answer_scores: float `[questions]`, how much more likely it is that a question has none;
            see `best_threshold`. Defaults to `None`.

    Returns:
        `exact_match` and `f1`, from 0 to 1, and `questions`. Where some questions have no answer,
        also those of questions that have one (`has_answer_exact_match`, `has_answer_f1`,
        `has_answer_questions`) and of those that have none (`no_answer_exact_match`,
        `no_answer_f1`, `no_answer_questions`).
    """
    exact, f1 = scores_of(answers, references)
    report: dict[str, float | int] = {**_means(exact, f1), "questions": len(answers)}
    if not all(references):
        answered = np.array([bool(wanted) for wanted in references], bool)
        for name, some in (("has_answer", answered), ("no_answer", ~answered)):
            if some.any():
                means = _means(exact[some], f1[some])
                report |= {f"{name}_{key}": value for key, value in means.items()}
                report[f"{name}_questions"] = int(some.sum())
    return report


def _means(exact: np.ndarray, f1: np.ndarray) -> dict[str, float]:
    return {
        "exact_match": float(exact.mean()) if len(exact) else 0.0,
        "f1": float(f1.mean()) if len(f1) else 0.0,
    }


def best_threshold(
    scores: np.ndarray, no_answer_scores: np.ndarray, answered: np.ndarray
) -> tuple[float, float]:
    """Returns from which no-answer score on a model should give no answer.

    Args:
        scores: float `[questions]`, what each question scores if it is answered, as its F1; 0 where
            it has no answer.
        no_answer_scores: float `[questions]`, the higher the more likely it has none. No answer is
            given where it is above the threshold.
        answered: bool `[questions]`, whether each question has an answer.

    Returns:
        The threshold, and the mean score with it. Of thresholds that are as good it is the middle
        of the widest range, as far as that ends.

    Example:

    >>> best_threshold(np.array([1.0, 0.0]), np.array([-3.0, 1.0]), np.array([True, False]))
    (-1.0, 1.0)
    """
    if not len(scores):
        return 0.0, 0.0
    order = np.argsort(no_answer_scores, kind="stable")
    sorted_scores = np.asarray(no_answer_scores, float)[order]
    # With the lowest k answered: what these score, and the others that have none.
    gains = np.where(answered, scores, 0.0)[order] - np.where(answered, 0.0, 1.0)[order]
    totals = (~answered).sum() + np.concatenate([[0.0], np.cumsum(gains)])
    # Questions with the same score are answered together.
    possible = np.append(np.flatnonzero(np.diff(sorted_scores, prepend=-np.inf) > 0), len(order))
    totals = totals[possible]
    best = possible[totals >= totals.max() - 1e-9]
    below = np.where(best > 0, sorted_scores[np.maximum(best - 1, 0)], -np.inf)
    above = np.where(best < len(order), sorted_scores[np.minimum(best, len(order) - 1)], np.inf)
    widest = int(np.argmax(np.where(np.isfinite(above - below), above - below, 0.0)))
    low, high = below[widest], above[widest]
    if not np.isfinite(low):
        threshold = high - 1.0
    elif not np.isfinite(high):
        threshold = low + 1.0
    else:
        threshold = (low + high) / 2
    return float(threshold), float(totals.max() / len(scores))
