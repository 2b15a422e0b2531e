"""A notebook's `fit`, `evaluate`, `predict` and callbacks, the same under a strategy."""

import numpy as np
import pytest

from tests.distribution.processes import TWO_WORKERS, run_under

MODULE = "tests.distribution.ordinary"
# Sums of float32 in another order; see test_equal_numbers.
TOLERANCE = 5e-6


@pytest.fixture(scope="module")
def one_device(tmp_path_factory):
    return run_under("one_device", MODULE, tmp_path_factory.mktemp("one_device"))


@pytest.fixture(scope="module")
def virtual(tmp_path_factory):
    return run_under("virtual:2", MODULE, tmp_path_factory.mktemp("virtual"))


@pytest.fixture(scope="module")
def workers(tmp_path_factory):
    return run_under(TWO_WORKERS, MODULE, tmp_path_factory.mktemp("workers"))


@pytest.mark.parametrize("results", ["virtual", pytest.param("workers", marks=pytest.mark.slow)])
def test_datasets_arrays_and_callbacks_give_the_numbers_of_one_device(results, one_device, request):
    """With a short last batch, and with fewer rows than replicas."""
    for key, value in request.getfixturevalue(results).items():
        if value.dtype.kind in "fi":
            expected = one_device[key]
            np.testing.assert_allclose(value, expected, rtol=0, atol=TOLERANCE, err_msg=key)


def test_arrays_are_batches_of_their_rows_and_shuffled_unless_told_not_to_be(one_device):
    for part in ("weights", "measured", "outputs"):
        np.testing.assert_array_equal(one_device[f"arrays/{part}"], one_device[f"dataset/{part}"])
    difference = np.abs(one_device["shuffled"] - one_device["dataset/weights"]).max()
    assert difference > 100 * TOLERANCE


@pytest.mark.parametrize("results", ["one_device", "virtual"])
def test_keras_own_callbacks_work(results, request):
    results = request.getfixturevalue(results)
    accuracy, rates = results["history/val_accuracy"], results["history/learning_rate"]
    assert len(accuracy) == np.argmax(accuracy) + 3 < 12
    np.testing.assert_allclose(rates[1:] / rates[:-1], [1.0] + [0.5] * (len(rates) - 2))
    assert results["checkpoint"][0] == pytest.approx(results["checkpoint"][1], abs=TOLERANCE)
    assert results["restored"][0] == pytest.approx(results["restored"][1], abs=TOLERANCE)
    assert results["events"] == 2
    # The running mean of an epoch of three batches ends as what the history says.
    ends = results["batches"].reshape(-1, 3)[:, -1]
    np.testing.assert_allclose(ends, results["history/loss"], rtol=1e-6)


@pytest.mark.parametrize("results", ["one_device", "virtual"])
def test_the_progress_bar_ends_with_the_numbers_of_the_epoch(results, request):
    results = request.getfixturevalue(results)
    bar = str(results["bar"])
    assert bar.startswith("3/3") and "step_loss" not in bar
    assert f"- loss: {results['bar/loss']:.4f}" in bar


def test_what_was_made_outside_the_scope_is_refused(virtual, one_device):
    for part in ("optimizer", "metric"):
        assert f"The {part}" in str(virtual[f"refused/{part}"])
        assert "`with strategy.scope():`" in str(virtual[f"refused/{part}"])
        assert str(one_device[f"refused/{part}"]) == ""
    assert "created outside its scope" in str(virtual["refused/model"])


@pytest.mark.parametrize("results", ["one_device", "virtual"])
def test_a_dataset_of_the_wrong_length_is_refused(results, request):
    results = request.getfixturevalue(results)
    assert "is infinite" in str(results["refused/endless"])
    assert "ended before step 4 of the 9" in str(results["refused/short"])
