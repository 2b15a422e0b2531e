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
DECODERS = "tests.distribution.equal_numbers_causal_lm"
FUSED = "tests.distribution.equal_numbers_fused"
SEQ2SEQ = "tests.distribution.equal_numbers_seq2seq"
TOLERANCE = 2e-6


@pytest.fixture(scope="module")
def reference(tmp_path_factory):
    """The numbers of one device."""
    return run_under("one_device", MODULE, tmp_path_factory.mktemp("one_device"))


def check(results, reference):
    plain = {key.split("/")[1]: value for key, value in reversed(reference.items())}
    for key, value in results.items():
        expected = plain[key.split("/")[1]]
        # Scores are sums over a row's tokens, of about 4 each.
        rtol = TOLERANCE if key.endswith("scores") else 0
        np.testing.assert_allclose(value, expected, rtol=rtol, atol=TOLERANCE, err_msg=key)


def test_xla_accumulation_and_executions_change_nothing_on_one_device(reference):
    check(reference, reference)
    first = {key.split("/")[1]: value for key, value in reversed(reference.items())}
    # What is compared is worth comparing: it learns, and every row has a prediction.
    assert first["losses"][-1] < 0.95 * first["losses"][0]
    assert np.isfinite(first["logits"]).all()
    assert len(reference) == 4 * 3 + 2


@pytest.fixture(scope="module")
def decoders_reference(tmp_path_factory):
    """The numbers of decoders on one device."""
    return run_under("one_device", DECODERS, tmp_path_factory.mktemp("one_device_decoders"))


def test_ways_to_compute_a_decoder_change_nothing_on_one_device(decoders_reference):
    check(decoders_reference, decoders_reference)
    for key, losses in decoders_reference.items():
        if key.endswith("losses"):
            assert losses[-1] < losses[0], key


@pytest.mark.parametrize(
    "strategy",
    [
        "virtual:2",
        pytest.param("virtual:4", marks=pytest.mark.slow),
        pytest.param(TWO_WORKERS, marks=pytest.mark.slow),
    ],
)
def test_a_strategy_changes_nothing_for_decoders(strategy, decoders_reference, tmp_path):
    check(run_under(strategy, DECODERS, tmp_path), decoders_reference)


@pytest.mark.parametrize(
    "strategy",
    ["virtual:2", pytest.param("virtual:4", marks=pytest.mark.slow), TWO_WORKERS],
)
def test_a_strategy_changes_nothing(strategy, reference, tmp_path):
    check(run_under(strategy, MODULE, tmp_path), reference)


def test_a_strategy_changes_nothing_for_fused_layers(tmp_path):
    reference = run_under("one_device", FUSED, tmp_path)
    losses = reference["accumulate=1/losses"]
    assert losses[-1] < 0.8 * losses[0]
    check(reference, reference)
    check(run_under("virtual:2", FUSED, tmp_path), reference)


def test_a_strategy_changes_nothing_for_encoder_decoders(tmp_path):
    reference = run_under("one_device", SEQ2SEQ, tmp_path)
    check(reference, reference)
    for key, losses in reference.items():
        if key.endswith("losses"):
            assert losses[-1] < losses[0], key
    check(run_under("virtual:2", SEQ2SEQ, tmp_path), reference)
