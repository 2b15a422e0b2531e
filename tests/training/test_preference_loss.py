"""Losses and rewards of preferences, against their formulas, and against PyTorch's numbers."""

import json
import math
from pathlib import Path

import numpy as np
import pytest

from kerasllm.training.preference_loss import LOSSES, REWARDS, PreferenceLoss, RewardMean, rewards

RANDOM = np.random.default_rng(0)
REFERENCE = RANDOM.normal(-30, 8, (50, 2)).astype(np.float32)
MODEL = REFERENCE + RANDOM.normal(0, 6, (50, 2)).astype(np.float32)
GAINED = ((MODEL - REFERENCE) @ [1.0, -1.0]).astype(np.float64)


def log_sigmoid(values):
    return -np.log1p(np.exp(-values))


FORMULAS = {
    "sigmoid": lambda gained, beta: -log_sigmoid(beta * gained),
    "ipo": lambda gained, beta: (gained - 1 / (2 * beta)) ** 2,
    "hinge": lambda gained, beta: np.maximum(0, 1 - beta * gained),
}


@pytest.mark.parametrize("beta", [0.1, 0.7])
@pytest.mark.parametrize("kind", LOSSES)
def test_a_loss_is_its_formula(kind, beta):
    found = PreferenceLoss(kind, beta).call(REFERENCE, MODEL)
    np.testing.assert_allclose(found, FORMULAS[kind](GAINED, beta), rtol=2e-5, atol=1e-5)


def test_smoothing_counts_a_share_of_the_pairs_the_other_way_round():
    found = PreferenceLoss("sigmoid", 0.3, label_smoothing=0.2).call(REFERENCE, MODEL)
    swapped = PreferenceLoss("sigmoid", 0.3).call(REFERENCE[:, ::-1], MODEL[:, ::-1])
    expected = -0.8 * log_sigmoid(0.3 * GAINED) + 0.2 * np.array(swapped)
    np.testing.assert_allclose(found, expected, rtol=2e-5)


def test_without_a_difference_to_the_reference_a_pair_costs_the_logarithm_of_two():
    found = PreferenceLoss().call(REFERENCE, REFERENCE)
    np.testing.assert_allclose(found, math.log(2), rtol=1e-6)


@pytest.mark.parametrize("kind", LOSSES)
def test_answers_that_nobody_would_give_keep_the_loss_finite(kind):
    found = PreferenceLoss(kind).call(np.array([[-1.0, -9e3]]), np.array([[-9e3, -1.0]]))
    assert np.isfinite(found).all() and found[0] > 1


def test_rewards_are_what_the_answers_gained():
    found = {name: np.array(value) for name, value in rewards(REFERENCE, MODEL, 0.2).items()}
    assert tuple(found) == REWARDS
    np.testing.assert_allclose(found["chosen_reward"], 0.2 * (MODEL - REFERENCE)[:, 0], rtol=1e-6)
    np.testing.assert_allclose(found["rejected_reward"], 0.2 * (MODEL - REFERENCE)[:, 1], rtol=1e-6)
    np.testing.assert_allclose(found["margin"], 0.2 * GAINED, atol=1e-5)
    np.testing.assert_array_equal(found["accuracy"], GAINED > 0)


def test_a_mean_of_rewards_counts_pairs_by_their_weight():
    weights = np.arange(50) % 3
    metric = RewardMean("margin", 0.2)
    metric.update_state(REFERENCE[:20], MODEL[:20], weights[:20])
    metric.update_state(REFERENCE[20:], MODEL[20:], weights[20:])
    assert float(metric.result()) == pytest.approx(
        np.average(0.2 * GAINED, weights=weights), rel=1e-5
    )


def test_an_unknown_loss_is_refused():
    with pytest.raises(ValueError, match="Received: kind='dpo'"):
        PreferenceLoss("dpo")


@pytest.mark.parametrize("case", range(4))
def test_losses_and_gradients_are_those_of_pytorch(case):
    """See tests/reference/make_preference.py."""
    import tensorflow as tf

    file = Path(__file__).parents[1] / "reference" / "preference.json"
    stored = json.loads(file.read_text())
    expected = stored["cases"][case]
    reference, model = (tf.constant(stored[name]) for name in ("reference", "model"))
    loss = PreferenceLoss(expected["kind"], expected["beta"], expected["label_smoothing"])
    with tf.GradientTape() as tape:
        tape.watch(model)
        value = loss(reference, model)
    assert float(value) == pytest.approx(expected["loss"], rel=1e-5)
    np.testing.assert_allclose(tape.gradient(value, model), expected["gradient"], atol=1e-6)
