"""The learning rate of each step is the formula's."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kerasllm.training.schedules import SCHEDULES, WarmupSchedule, warmup_steps


def formula(kind, step, steps, warmup, power):
    """The rate as a share of the peak, in plain Python."""
    if step < warmup:
        return (step + 1) / warmup
    progress = min(max((step - warmup) / max(steps - warmup, 1), 0), 1)
    return {
        "linear": 1 - progress,
        "cosine": (1 + math.cos(math.pi * progress)) / 2,
        "polynomial": (1 - progress) ** power,
        "constant": 1,
        "inverse_sqrt": math.sqrt(max(warmup, 1) / max(step + 1, warmup, 1)),
    }[kind]


@given(
    st.sampled_from(SCHEDULES),
    st.integers(1, 200),
    st.integers(0, 250),
    st.integers(0, 50),
    st.sampled_from([0.5, 1.0, 2.0, 3.0]),
)
def test_the_rate_is_the_formulas(kind, steps, step, warmup, power):
    warmup = min(warmup, steps)
    schedule = WarmupSchedule(2e-3, steps, warmup, kind, power)
    expected = 2e-3 * formula(kind, step, steps, warmup, power)
    np.testing.assert_allclose(float(schedule(step)), expected, rtol=1e-4, atol=1e-9)


@pytest.mark.parametrize("kind", SCHEDULES)
def test_the_peak_is_reached_once_warm_up_ends(kind):
    schedule = WarmupSchedule(1.0, 100, 10, kind)
    rates = [float(schedule(step)) for step in range(100)]
    assert rates.index(max(rates)) == 9
    assert rates[0] == pytest.approx(0.1) and max(rates) == pytest.approx(1.0)


def test_warm_up_is_a_share_or_a_number_of_steps():
    assert warmup_steps(0.1, 227) == 23
    assert warmup_steps(0.0, 227) == 0
    assert warmup_steps(50, 227) == 50
    assert warmup_steps(500, 227) == 227


def test_a_schedule_survives_saving():
    schedule = WarmupSchedule(1e-4, 100, 10, "cosine")
    again = WarmupSchedule.from_config(schedule.get_config())
    assert float(again(40)) == float(schedule(40))


def test_an_unknown_schedule_is_refused():
    with pytest.raises(ValueError, match="Received: kind='step'"):
        WarmupSchedule(1e-4, 100, kind="step")
