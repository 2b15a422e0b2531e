"""Tuning by preferences, too, has one loss curve and one set of weights, however it is computed.

See test_equal_numbers.py for what may differ.
"""

import numpy as np
import pytest

from tests.distribution.processes import TWO_WORKERS, run_under

MODULE = "tests.distribution.equal_numbers_preference"


@pytest.fixture(scope="module")
def reference(tmp_path_factory):
    """The numbers of one device."""
    return run_under("one_device", MODULE, tmp_path_factory.mktemp("one_device"))


def check(results, reference):
    plain = {key.split("/")[1]: value for key, value in reversed(reference.items())}
    assert results
    for key, value in results.items():
        # Log-probabilities are sums over an answer's tokens, of about 4 each.
        rtol = 2e-6 if key.endswith("scores") else 0
        np.testing.assert_allclose(
            value, plain[key.split("/")[1]], rtol=rtol, atol=2e-6, err_msg=key
        )


def test_pieces_and_micro_batches_change_nothing(reference):
    check(reference, reference)
    for key, losses in reference.items():
        if key.endswith("losses"):
            assert losses[0] == pytest.approx(np.log(2), abs=1e-5) and losses[-1] < losses[0], key


@pytest.mark.parametrize(
    "strategy", ["virtual:2", pytest.param(TWO_WORKERS, marks=pytest.mark.slow)]
)
def test_a_strategy_changes_nothing(strategy, reference, tmp_path):
    check(run_under(strategy, MODULE, tmp_path), reference)
