"""Metrics of scores, number for number those of SciPy and scikit-learn."""

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy import stats
from sklearn import metrics as reference

from kerasllm.errors import JobError
from kerasllm.evaluation.regression import regression_report

scores = st.floats(-100, 100).map(lambda x: round(x, 2))


@given(st.lists(st.tuples(scores, scores), min_size=2, max_size=30))
def test_the_numbers_are_those_of_the_references(pairs):
    targets, predictions = (np.array(each) for each in zip(*pairs))
    report = regression_report(targets, predictions, std=2.0)
    mse = reference.mean_squared_error(targets, predictions)
    assert report["mse"] == pytest.approx(mse)
    assert report["loss"] == pytest.approx(mse / 4)
    assert report["rmse"] == pytest.approx(mse**0.5)
    assert report["mae"] == pytest.approx(reference.mean_absolute_error(targets, predictions))
    assert report["rows"] == len(pairs)
    assume(np.ptp(targets) > 0 and np.ptp(predictions) > 0)
    assert report["r2"] == pytest.approx(reference.r2_score(targets, predictions))
    assert report["pearson"] == pytest.approx(stats.pearsonr(targets, predictions)[0], abs=1e-6)
    assert report["spearman"] == pytest.approx(stats.spearmanr(targets, predictions)[0], abs=1e-9)


def test_what_is_not_defined_is_0():
    report = regression_report([1.0, 1.0], [1.0, 2.0])
    assert report["pearson"] == report["spearman"] == report["r2"] == 0


def test_shapes_that_differ_are_refused():
    with pytest.raises(ValueError, match="of one length"):
        regression_report([1.0], [1.0, 2.0])


def test_scores_that_are_not_finite_are_refused():
    with pytest.raises(JobError, match="not finite for 1 of 3 rows"):
        regression_report([1.0, 2.0, 3.0], [1.0, float("nan"), 2.0])
