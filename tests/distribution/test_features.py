"""Each feature of a training gives, cut over replicas, what it gives on one device."""

import numpy as np
import pytest

from tests.distribution.features import features, for_workers
from tests.distribution.processes import TWO_WORKERS, run_under

MODULE = "tests.distribution.features"

# How far the weights may end from those of one device, as a share of the way that they came. Sums
# in another order differ by 1e-7 of float32 numbers; Adam divides by gradients that may be near 0,
# where 6e-6 was seen. Half precision rounds each replica's part to 8 or 11 bits before the sum,
# 4e-3 or 5e-4 of it; a 16-bit weight is then rounded as a whole, to one or the next.
TOLERANCES = {"bfloat16": 0.03, "mixed_bfloat16": 0.03, "mixed_float16": 0.003}
FLOAT32 = 3e-5


WORKERS = pytest.param("workers", marks=pytest.mark.slow)
VIRTUAL = pytest.param("virtual", marks=pytest.mark.slow)


@pytest.fixture(scope="module")
def one_device(tmp_path_factory):
    return run_under("one_device", MODULE, tmp_path_factory.mktemp("one_device"))


@pytest.fixture(scope="module")
def virtual(tmp_path_factory):
    return run_under("virtual:2", MODULE, tmp_path_factory.mktemp("virtual"))


@pytest.fixture(scope="module")
def workers(tmp_path_factory):
    return run_under(TWO_WORKERS, MODULE, tmp_path_factory.mktemp("workers"))


@pytest.mark.slow
@pytest.mark.parametrize("feature", features())
def test_two_replicas_train_as_one_device(feature, virtual, one_device):
    check(feature, virtual, one_device)


@pytest.mark.slow
@pytest.mark.parametrize("feature", for_workers())
def test_two_workers_train_as_one_device(feature, workers, one_device):
    check(feature, workers, one_device)


def check(feature, results, reference):
    ours, theirs = (
        {key.split("/")[1]: value for key, value in each.items() if key.startswith(f"{feature}/")}
        for each in (results, reference)
    )
    tolerance = TOLERANCES.get(feature, FLOAT32)
    way = np.linalg.norm(theirs["moved"])
    assert way > 0.01
    assert np.linalg.norm(ours.pop("moved") - theirs["moved"]) < tolerance * way
    for key, value in ours.items():
        np.testing.assert_allclose(value, theirs[key], rtol=tolerance, err_msg=key)


def test_a_gradient_is_clipped_by_the_norm_of_the_whole_batch(one_device):
    """Two replicas' own clipping would give a step of up to twice the length."""
    assert one_device["clipping/gradient_norm"].min() > 10
    # Four steps at rate 0.1, with momentum 0.9, of gradients of norm 0.1.
    longest = 0.1 * 0.1 * (4 + 3 * 0.9 + 2 * 0.9**2 + 0.9**3)
    assert np.linalg.norm(one_device["clipping/moved"]) < longest * 1.01


@pytest.mark.parametrize("results", ["one_device", VIRTUAL, WORKERS])
def test_a_step_that_is_not_finite_is_left_out_by_all(results, request):
    results = request.getfixturevalue(results)
    assert results["skipped/applied"].tolist() == [True, False, True, True]
    assert results["skipped/iterations"] == 3
    assert np.isfinite(results["skipped/moved"]).all()


@pytest.mark.parametrize("results", ["one_device", VIRTUAL, WORKERS])
def test_an_overflow_halves_the_scale_once_for_all(results, request):
    results = request.getfixturevalue(results)
    left_out = int((~results["mixed_float16/applied"]).sum())
    assert 0 < left_out < 4
    assert results["mixed_float16/iterations"] == 4 - left_out
    assert results["mixed_float16/scale"] == 2.0 ** (16 - left_out)


@pytest.mark.parametrize("xla", [False, True])
@pytest.mark.parametrize("results", ["one_device", VIRTUAL])
def test_each_row_replica_and_step_drops_other_units_and_again_the_same(results, xla, request):
    first, second = (request.getfixturevalue(results)[f"dropout/xla={xla} {run}"] for run in (1, 2))
    assert first.shape == (24, 3)
    assert len(np.unique(first.round(6), axis=0)) == 24
    np.testing.assert_array_equal(first, second)
