"""Calibration error and temperature scaling, against their definitions."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import minimize_scalar

from kerasllm.evaluation.calibration import best_temperature, calibration_report
from kerasllm.evaluation.classification import log_softmax


@given(st.lists(st.tuples(st.booleans(), st.floats(0, 1)), min_size=1, max_size=40))
def test_the_error_is_the_definition(predictions):
    correct, confidence = (np.array(each) for each in zip(*predictions))
    report = calibration_report(correct, confidence, bins=10)
    expected = 0.0
    for number in range(10):
        low, high = number / 10, (number + 1) / 10
        inside = (confidence > low) & (confidence <= high)
        if number == 0:
            inside |= confidence == 0
        if inside.any():
            gap = abs(correct[inside].mean() - confidence[inside].mean())
            expected += inside.mean() * gap
    assert report["ece"] == pytest.approx(expected, abs=1e-9)
    assert sum(one["count"] for one in report["reliability"]) == len(predictions)


def test_a_model_that_is_too_sure_is_cooled_and_calibrated():
    generator = np.random.default_rng(0)
    honest = generator.normal(size=(4000, 3)) * 2
    chances = np.exp(log_softmax(honest))
    targets = np.array([generator.choice(3, p=row) for row in chances])
    found = best_temperature(3 * honest, targets)
    assert found == pytest.approx(3, rel=0.06)

    def ece(logits):
        chances = np.exp(log_softmax(logits))
        return calibration_report(chances.argmax(1) == targets, chances.max(1))["ece"]

    assert ece(3 * honest / found) < 0.03 < ece(3 * honest)


@given(st.integers(0, 10_000))
def test_the_temperature_is_the_one_of_the_least_loss(seed):
    generator = np.random.default_rng(seed)
    logits = generator.normal(size=(60, 2)) * generator.uniform(0.5, 5)
    several = generator.integers(2, size=60) if seed % 2 else generator.random((60, 2)) < 0.5

    def loss(log_temperature):
        scaled = logits / np.exp(log_temperature)
        if several.ndim == 2:
            return np.mean(np.logaddexp(0, scaled) - several * scaled)
        return -log_softmax(scaled)[np.arange(60), several].mean()

    found = best_temperature(logits, several)
    best = minimize_scalar(loss, bounds=(np.log(1e-2), np.log(1e2)), method="bounded")
    assert loss(np.log(found)) <= best.fun + 1e-6


def test_a_model_without_a_mistake_is_not_sharpened():
    logits = np.random.default_rng(0).normal(size=(80, 3))
    assert best_temperature(logits, logits.argmax(axis=1)) == 1
    assert best_temperature(logits, logits > 0) == 1
