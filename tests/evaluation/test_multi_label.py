"""Metrics of several labels, number for number those of scikit-learn."""

import itertools
import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from sklearn import metrics as reference

from kerasllm.errors import JobError
from kerasllm.evaluation.multi_label import (
    average_precision,
    best_thresholds,
    multi_label_report,
    sigmoid,
)

SHAPES = st.tuples(st.integers(1, 12), st.integers(2, 4))


@st.composite
def cases(draw):
    shape = draw(SHAPES)
    targets = draw(arrays.arrays(bool, shape))
    # Few distinct numbers, so that scores are tied.
    logits = draw(arrays.arrays(np.float64, shape, elements=st.sampled_from([-2, -0.5, 0, 1, 3])))
    return targets, logits


@given(cases())
def test_the_numbers_are_scikit_learns(case):
    targets, logits = case
    names = [f"label {number}" for number in range(targets.shape[1])]
    report = multi_label_report(targets, logits, names)
    given_labels = logits >= 0
    for average in ("micro", "macro", "samples"):
        expected = reference.f1_score(targets, given_labels, average=average, zero_division=0)
        assert report[f"{average}_f1"] == pytest.approx(expected)
    assert report["subset_accuracy"] == reference.accuracy_score(targets, given_labels)
    chances = sigmoid(logits)
    expected = [
        reference.average_precision_score(targets[:, i], chances[:, i])
        for i in range(len(names))
        if targets[:, i].any()
    ]
    assert report["map"] == pytest.approx(np.mean(expected) if expected else 0)
    losses = [
        reference.log_loss(targets.ravel(), chances.ravel(), labels=[False, True]),
        report["loss"],
    ]
    assert losses[0] == pytest.approx(losses[1])
    json.dumps(report, allow_nan=False)


def test_thresholds_decide_and_half_is_reported_beside_them():
    targets = [[1, 0], [1, 0], [0, 1], [0, 1]]
    logits = np.array([[-1.0, -3], [-1.5, -3], [-3, 2], [-3, 1]])
    thresholds = best_thresholds(targets, sigmoid(logits))
    assert 0.04 < thresholds[0] < 0.19 and sigmoid(-3) < thresholds[1] <= sigmoid(1)
    report = multi_label_report(targets, logits, ["rare", "common"], thresholds)
    assert report["micro_f1"] == 1 and report["micro_f1_at_0.5"] == pytest.approx(2 / 3)
    assert report["per_class"]["rare"]["threshold"] == thresholds[0]


@given(cases())
def test_no_other_thresholds_have_a_better_micro_f1(case):
    targets, logits = case
    chances = sigmoid(logits)
    found = best_thresholds(targets, chances)
    assert (found[~targets.any(axis=0)] == 0.5).all()

    def micro(thresholds):
        given_labels = chances >= thresholds
        return 2 * (targets & given_labels).sum() / max(targets.sum() + given_labels.sum(), 1)

    # All rows at once is a decision that lies below every probability.
    tried = [
        [0.5, *(one for one in (0.15, 0.4, 0.6, 0.8) if one > chances[:, label].min())]
        if targets[:, label].any()
        else [0.5]
        for label in range(targets.shape[1])
    ]
    best = max(micro(np.array(one)) for one in itertools.product(*tried))
    assert micro(found) >= best - 1e-12 or best < 0.1


def test_a_label_that_no_row_has_is_left_out_of_the_mean():
    found = average_precision(np.array([[True, False]]), np.array([[0.2, 0.9]]))
    assert found[0] == 1 and np.isnan(found[1])


def test_shapes_that_differ_are_refused():
    with pytest.raises(ValueError, match="one name for each label"):
        multi_label_report([[1, 0]], [[1.0, 2.0]], ["one"])
    with pytest.raises(ValueError, match="at least one row"):
        multi_label_report(np.zeros((0, 1)), np.zeros((0, 1)), ["one"])


def test_a_label_that_the_model_has_not_learned_keeps_its_threshold():
    random = np.random.default_rng(0)
    targets = np.zeros((5000, 1), bool)
    targets[:5] = True
    chances = random.uniform(0.001, 0.002, targets.shape)
    assert best_thresholds(targets, chances)[0] == 0.5


def test_logits_that_are_not_finite_are_refused():
    with pytest.raises(JobError, match="not finite for 1 of 2 rows"):
        multi_label_report([[1, 0], [0, 1]], [[1.0, 2.0], [np.nan, 0.0]], ["a", "b"])
