"""The metrics are scikit-learn's, number for number, whatever the labels and logits."""

import json
import warnings

import numpy as np
import pytest
import sklearn.metrics
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from kerasllm.errors import JobError
from kerasllm.evaluation.classification import (
    classification_report,
    log_softmax,
    matthews_correlation,
)


@st.composite
def labels_and_logits(draw, max_classes=7, max_rows=40):
    """Labels and logits of any balance: classes may be absent, never predicted, or tied."""
    classes = draw(st.integers(2, max_classes))
    rows = draw(st.integers(1, max_rows))
    labels = draw(hnp.arrays(np.int32, rows, elements=st.integers(0, classes - 1)))
    values = st.floats(-30, 30, width=32)
    logits = draw(hnp.arrays(np.float32, (rows, classes), elements=values))
    return labels, logits


def names_of(logits):
    return [f"class {i}" for i in range(logits.shape[1])]


@given(labels_and_logits())
@settings(max_examples=200, deadline=None)
def test_every_number_is_scikit_learns(case):
    labels, logits = case
    classes = list(range(logits.shape[1]))
    predictions = logits.argmax(axis=1)

    report = classification_report(labels, logits, names_of(logits))

    scores = {"labels": classes, "zero_division": 0}
    assert report["accuracy"] == sklearn.metrics.accuracy_score(labels, predictions)
    for average in ("macro", "weighted"):
        precision, recall, f1, _ = sklearn.metrics.precision_recall_fscore_support(
            labels, predictions, average=average, **scores
        )
        assert report[f"{average}_precision"] == pytest.approx(precision, abs=1e-12)
        assert report[f"{average}_recall"] == pytest.approx(recall, abs=1e-12)
        assert report[f"{average}_f1"] == pytest.approx(f1, abs=1e-12)

    columns = sklearn.metrics.precision_recall_fscore_support(labels, predictions, **scores)
    for i, name in enumerate(names_of(logits)):
        expected = [column[i] for column in columns]
        ours = report["per_class"][name]
        assert list(ours) == ["precision", "recall", "f1", "support"]
        assert list(ours.values()) == pytest.approx(expected, abs=1e-12)

    with warnings.catch_warnings():
        # scikit-learn warns where the labels and the predictions hold a single class between them.
        warnings.simplefilter("ignore", UserWarning)
        matrix = sklearn.metrics.confusion_matrix(labels, predictions, labels=classes)
        mcc = sklearn.metrics.matthews_corrcoef(labels, predictions)
    assert report["confusion_matrix"] == matrix.tolist()
    assert report["mcc"] == pytest.approx(mcc, abs=1e-12)


@given(labels_and_logits(), st.data())
@settings(max_examples=100, deadline=None)
def test_the_loss_is_scikit_learns_log_loss(case, data):
    labels, logits = case
    classes = list(range(logits.shape[1]))
    # Below 1e-15 scikit-learn cuts a probability off, so it is compared on logits less far apart.
    logits = logits / 2
    probabilities = np.exp(log_softmax(logits))
    weights = data.draw(hnp.arrays(np.float64, len(classes), elements=st.floats(0.01, 100)))

    plain = classification_report(labels, logits, names_of(logits))
    weighted = classification_report(labels, logits, names_of(logits), loss_weights=weights)

    log_loss = sklearn.metrics.log_loss
    assert plain["loss"] == pytest.approx(
        log_loss(labels, probabilities, labels=classes), rel=1e-9, abs=1e-12
    )
    assert weighted["loss"] == pytest.approx(
        log_loss(labels, probabilities, labels=classes, sample_weight=weights[labels]),
        rel=1e-9,
        abs=1e-12,
    )
    assert {**weighted, "loss": 0} == {**plain, "loss": 0}


def test_a_case_computed_by_hand():
    # True   a a a b b c   with d never true and never predicted, and c true once but never found.
    # Guess  a a b b a a
    guesses = [0, 0, 1, 1, 0, 0]
    report = classification_report([0, 0, 0, 1, 1, 2], np.eye(4)[guesses], ["a", "b", "c", "d"])

    assert report["confusion_matrix"] == [[2, 1, 0, 0], [1, 1, 0, 0], [1, 0, 0, 0], [0, 0, 0, 0]]
    assert report["per_class"] == {
        "a": {"precision": 2 / 4, "recall": 2 / 3, "f1": 4 / 7, "support": 3},
        "b": {"precision": 1 / 2, "recall": 1 / 2, "f1": 2 / 4, "support": 2},
        "c": {"precision": 0.0, "recall": 0.0, "f1": 0.0, "support": 1},
        "d": {"precision": 0.0, "recall": 0.0, "f1": 0.0, "support": 0},
    }
    assert report["accuracy"] == 3 / 6
    assert report["macro_f1"] == pytest.approx((4 / 7 + 2 / 4) / 4)
    assert report["weighted_f1"] == pytest.approx((3 * 4 / 7 + 2 * 2 / 4) / 6)
    assert report["macro_precision"] == pytest.approx((2 / 4 + 1 / 2) / 4)
    assert report["weighted_recall"] == pytest.approx((3 * 2 / 3 + 2 * 1 / 2) / 6)
    # R_K = (correct * n - sum(true * guessed)) / sqrt((n2 - sum(true2)) * (n2 - sum(guessed2)))
    r_k = (3 * 6 - (3 * 4 + 2 * 2)) / ((36 - (9 + 4 + 1)) * (36 - (16 + 4))) ** 0.5
    assert report["mcc"] == pytest.approx(r_k)
    # A row's loss is log(e + 3) - 1 where the guess is right and log(e + 3) where it is wrong.
    assert report["loss"] == pytest.approx(np.log(np.e + 3) - 0.5)


@given(labels_and_logits())
@settings(max_examples=50, deadline=None)
def test_the_report_survives_json(case):
    labels, logits = case
    report = classification_report(labels, logits, names_of(logits))
    assert json.loads(json.dumps(report, allow_nan=False)) == report


def test_huge_logits_do_not_overflow():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        report = classification_report([0, 1], [[3e38, -3e38], [1e4, 0.0]], ["a", "b"])
    assert report["loss"] == pytest.approx(5e3)
    assert log_softmax([1000.0, 1000.0]) == pytest.approx(np.log([0.5, 0.5]))


def test_the_correlation_of_billions_of_rows_does_not_overflow():
    few = np.array([[30, 10], [20, 40]])
    assert matthews_correlation(few * 10**15) == pytest.approx(matthews_correlation(few))
    assert matthews_correlation(few) == pytest.approx(0.40824829)


def test_the_first_of_equal_logits_is_the_prediction():
    report = classification_report([1, 0], [[0.5, 0.5], [0.5, 0.5]], ["a", "b"])
    assert report["confusion_matrix"] == [[1, 0], [1, 0]]


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_diverged_model_is_not_given_metrics(bad):
    with pytest.raises(JobError, match="not finite for 1 of 3 rows") as caught:
        classification_report([0, 1, 0], [[0, 1], [1, 0], [bad, 0]], ["a", "b"])
    assert "row 3" in str(caught.value)
    assert "learning_rate" in caught.value.fix


@pytest.mark.parametrize(
    ("labels", "logits", "names", "message"),
    [
        ([], np.zeros((0, 2)), ["a", "b"], "at least one"),
        ([0], [[0, 1], [1, 0]], ["a", "b"], "same number of rows"),
        ([0], [[0, 1]], ["a", "b", "c"], r"shape \(1, 2\)"),
        ([0], [[0, 1]], ["a", "a"], "distinct name"),
        ([2], [[0, 1]], ["a", "b"], "from 0 to 1"),
        ([-1], [[0, 1]], ["a", "b"], "from 0 to 1"),
        ([0.0], [[0, 1]], ["a", "b"], "must be integers"),
    ],
)
def test_arguments_that_do_not_fit_are_refused(labels, logits, names, message):
    with pytest.raises(ValueError, match=message):
        classification_report(labels, logits, names)


def test_weights_for_other_classes_are_refused():
    with pytest.raises(ValueError, match="one weight for each class"):
        classification_report([0], [[0, 1]], ["a", "b"], loss_weights=[1, 2, 3])
