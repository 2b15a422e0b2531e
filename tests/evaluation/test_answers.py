"""Tests of exact match, F1, the threshold of no answer, and the decoder of answers."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kerasllm.evaluation.answer_decoding import AnswerWindows, decode_answers
from kerasllm.evaluation.answers import (
    answers_report,
    best_threshold,
    exact_match,
    f1_score,
    normalize,
    scores_of,
)

# answer, reference, exact match and F1, by the scripts of SQuAD; worked out by hand.
CASES = [
    ("the Eiffel Tower", "Eiffel tower!", 1, 1.0),
    ("a  cat", "The cat.", 1, 1.0),
    ("U.S.", "us", 1, 1.0),
    ("an apple a day", "apple day", 1, 1.0),
    ("in London", "London", 0, 2 / 3),
    ("London London", "London", 0, 2 / 3),
    ("Paris", "London", 0, 0.0),
    ("well-known fact", "wellknown fact", 1, 1.0),
    ("10,000 people", "10000", 0, 2 / 3),
    ("thea", "a", 0, 0.0),
    ("“quoted”", "quoted", 0, 0.0),
    ("CAFÉ", "café", 1, 1.0),
    ("new\nyork\tcity", "New York City", 1, 1.0),
]


@pytest.mark.parametrize(("answer", "reference", "exact", "f1"), CASES)
def test_exact_match_and_f1_are_those_of_the_official_scripts(answer, reference, exact, f1):
    assert exact_match(answer, reference) == exact
    for both in (True, False):
        assert f1_score(answer, reference, none_counts=both) == pytest.approx(f1)


def test_an_answer_of_articles_alone_is_none_in_version_2_only():
    assert normalize("The") == normalize("!") == ""
    exact, f1 = scores_of(["an"], [["the"]])
    assert (exact[0], f1[0]) == (1, 0)
    exact, f1 = scores_of(["an", "x"], [["the"], []])
    assert exact.tolist() == f1.tolist() == [1, 0]


def test_the_best_of_all_references_counts():
    exact, f1 = scores_of(["in London"], [["Paris", "the London", "in the london"]])
    assert (exact[0], f1[0]) == (1, 1)


def test_questions_with_and_without_an_answer_are_reported_apart():
    found = answers_report(["London", "in Rome", "", "x"], [["London"], ["Rome"], [], []])
    assert found == {
        "exact_match": 0.5,
        "f1": pytest.approx((1 + 2 / 3 + 1 + 0) / 4),
        "questions": 4,
        "has_answer_exact_match": 0.5,
        "has_answer_f1": pytest.approx(5 / 6),
        "has_answer_questions": 2,
        "no_answer_exact_match": 0.5,
        "no_answer_f1": 0.5,
        "no_answer_questions": 2,
    }
    assert set(answers_report(["a b"], [["a b"]])) == {"exact_match", "f1", "questions"}


@given(
    st.lists(
        st.tuples(st.sampled_from([0.0, 0.5, 1.0]), st.integers(-4, 4), st.booleans()), min_size=1
    )
)
def test_no_threshold_is_better_than_the_best_one(questions):
    scores, no_answer, answered = (np.array(each) for each in zip(*questions))

    def score(threshold):
        none = no_answer > threshold
        return np.where(none, ~answered, np.where(answered, scores, 0.0)).mean()

    threshold, best = best_threshold(scores, no_answer, answered)
    assert score(threshold) == pytest.approx(best)
    assert best >= max(map(score, np.arange(-6, 6, 0.5))) - 1e-9


def test_a_threshold_is_between_questions_and_not_at_one():
    threshold, _ = best_threshold(
        np.array([1.0, 1.0, 0.0]), np.array([-3.0, -2.0, 4.0]), np.array([True, True, False])
    )
    assert threshold == 1.0
    all_answered = best_threshold(np.array([1.0]), np.array([2.0]), np.array([True]))
    assert all_answered == (3.0, 1.0)


CONTEXT = "a b c d e f"


def windows(*, firsts=(2,), tokens=((0, 6),), questions=None):
    """Windows of two tokens of a question, tokens of the context, and one after them."""
    spans = [[2 * n, 2 * n + 1] for start, end in tokens for n in range(start, end)]
    counts = [end - start for start, end in tokens]
    return AnswerWindows(
        np.cumsum([0, *(first + count + 1 for first, count in zip(firsts, counts))]),
        np.array(questions or [0] * len(tokens)),
        np.array(firsts),
        np.array(spans, np.int32).reshape(-1, 2),
        np.cumsum([0, *counts]),
    )


def logits_of(some, peaks):
    """Logits that are high at `(window, token of the window, start 0 or end 1): logit`."""
    logits = np.zeros((some.offsets[-1], 2), np.float32)
    for (window, token, side), value in peaks.items():
        logits[some.offsets[window] + token, side] = value
    return logits


def texts(found, context=CONTEXT):
    return [context[one.start : one.end] for one in found.candidates]


def test_the_best_span_is_within_the_context_and_not_too_long():
    some = windows()
    # The question and what follows the context are no answers, whatever their logits.
    logits = logits_of(
        some, {(0, 3, 0): 5, (0, 6, 1): 5, (0, 4, 1): 4, (0, 1, 0): 99, (0, 8, 1): 99}
    )
    (found,) = decode_answers(logits, some, [CONTEXT], max_answer_length=6)
    assert texts(found) == ["b c d e"]
    (found,) = decode_answers(logits, some, [CONTEXT], max_answer_length=3)
    assert texts(found) == ["b c"]


def test_n_best_are_in_order_and_probabilities():
    some = windows()
    logits = logits_of(some, {(0, 3, 0): 5, (0, 4, 1): 5, (0, 5, 1): 4})
    (found,) = decode_answers(logits, some, [CONTEXT], max_answer_length=6, n_best=40)
    assert texts(found)[:2] == ["b c", "b c d"]
    assert len(found.candidates) == 21
    scores = [one.score for one in found.candidates]
    assert scores == sorted(scores, reverse=True)
    assert sum(scores) + found.no_answer_score < 1


def test_windows_of_a_question_are_one_answer():
    some = windows(firsts=(2, 2, 2), tokens=((0, 4), (2, 6), (0, 3)), questions=[0, 0, 1])
    peaks = {(0, 2, 0): 3, (0, 2, 1): 3, (1, 3, 0): 8, (1, 4, 1): 8, (2, 0, 0): 9, (2, 0, 1): 9}
    first, second = decode_answers(
        logits_of(some, peaks), some, [CONTEXT, CONTEXT], max_answer_length=6, n_best=50
    )
    assert texts(first)[0] == "d e"
    # Each span once, though both windows hold some.
    assert len(first.candidates) == len(set(first.candidates)) == 17
    assert first.no_answer < 0 < second.no_answer


def test_one_and_many_candidates_agree_on_the_best():
    generator = np.random.default_rng(0)
    some = windows(firsts=(3, 2), tokens=((0, 5), (1, 6)))
    for _ in range(50):
        logits = generator.normal(size=(some.offsets[-1], 2))
        (one,) = decode_answers(logits, some, [CONTEXT], max_answer_length=3)
        (many,) = decode_answers(logits, some, [CONTEXT], max_answer_length=3, n_best=20)
        assert one.candidates[0] == many.candidates[0]
        assert one.no_answer == many.no_answer


def test_blank_spans_are_no_answers_and_a_context_without_tokens_has_none():
    some = windows(tokens=((0, 2),))
    logits = logits_of(some, {(0, 2, 0): 9, (0, 2, 1): 9})
    (found,) = decode_answers(logits, some, ["\t b"], max_answer_length=2, n_best=5)
    assert texts(found, "\t b") == ["b"]
    none = windows(tokens=((0, 0),))
    (found,) = decode_answers(logits_of(none, {}), none, ["\x00"], max_answer_length=2)
    assert found.candidates == []
