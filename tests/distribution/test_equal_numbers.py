"""The promise: one loss curve and one set of weights, under every strategy and however computed.

All arithmetic is float32, of numbers near 1. What differs between two ways is the order of sums:
over rows, micro-batches and replicas, and inside XLA's kernels. Each rounds by 6e-8 of the number,
and a few such roundings add up over the steps: 2e-7 was seen. Were a batch's last rows counted
twice, a replica's mean taken for the sum, or a part clipped by itself, it would be 1e-3 and more.
"""

import numpy as np
import pytest

from tests.distribution.processes import TWO_WORKERS, run_under

MODULE = "tests.distribution.equal_numbers"
TOLERANCE = 2e-6


@pytest.fixture(scope="module")
def reference(tmp_path_factory):
    """The numbers of one device."""
    return run_under("one_device", MODULE, tmp_path_factory.mktemp("one_device"))


def check(results, reference):
    plain = {key.split("/")[1]: value for key, value in reversed(reference.items())}
    for key, value in results.items():
        expected = plain[key.split("/")[1]]
        np.testing.assert_allclose(value, expected, rtol=0, atol=TOLERANCE, err_msg=key)


def test_xla_accumulation_and_executions_change_nothing_on_one_device(reference):
    check(reference, reference)
    first = {key.split("/")[1]: value for key, value in reversed(reference.items())}
    # What is compared is worth comparing: it learns, and every row has a prediction.
    assert first["losses"][-1] < 0.95 * first["losses"][0]
    assert np.isfinite(first["logits"]).all()
    assert len(reference) == 4 * 3 + 2


@pytest.mark.parametrize("strategy", ["virtual:2", "virtual:4", TWO_WORKERS])
def test_a_strategy_changes_nothing(strategy, reference, tmp_path):
    check(run_under(strategy, MODULE, tmp_path), reference)
