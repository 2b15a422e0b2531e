"""The learning rate that a range test suggests."""

import numpy as np

from kerasllm.tuning.learning_rate import has_diverged, suggested
from kerasllm.tuning.verdict import verdict

RATES = [10.0 ** (-7 + 6 * step / 99) for step in range(100)]


def curve(fall_at: float, rise_at: float, noise: float = 0.02) -> np.ndarray:
    rates = np.array(RATES)
    noise = np.random.default_rng(0).normal(0, noise, 100)
    return 0.7 - 0.3 / (1 + (fall_at / rates) ** 2) + (rates / rise_at) ** 2 + noise


def test_it_is_where_the_loss_falls_fastest():
    assert 2e-5 < suggested(RATES, curve(1e-4, 1e-1)) < 4e-4
    assert 2e-4 < suggested(RATES, curve(1e-3, 1e-1)) < 4e-3


def test_none_is_suggested_where_the_loss_does_not_fall_by_more_than_its_noise():
    flat = 0.7 + np.random.default_rng(1).normal(0, 0.02, 100)
    assert suggested(RATES, flat) is None
    assert suggested(RATES, 0.7 + np.arange(100) / 100) is None


def test_a_sweep_ends_where_the_loss_is_not_finite_or_far_above_its_lowest():
    losses = list(curve(1e-4, 1e-1))
    assert not has_diverged(losses[:60])
    assert has_diverged([*losses[:60], float("nan")])
    assert has_diverged([*losses[:60], 3.0, 3.0, 3.0])


def test_a_difference_within_the_spread_of_the_seeds_is_no_better_model():
    better = verdict([0.86, 0.87, 0.85], [0.80, 0.82, 0.81], higher_is_better=True)
    assert better.is_better and not better.is_worse
    noise = verdict([0.86, 0.80, 0.85], [0.83, 0.82, 0.84], higher_is_better=True)
    assert not noise.is_better and not noise.is_worse
    assert verdict([0.3, 0.31, 0.3], [0.5, 0.52, 0.51], higher_is_better=False).is_better
    assert not verdict([0.9], [0.1], higher_is_better=True).is_better
