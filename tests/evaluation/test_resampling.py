"""Intervals and tests of differences, against closed forms and enumeration."""

import itertools
import math

import numpy as np
import pytest

from kerasllm.evaluation.resampling import (
    bootstrap,
    higher_mean,
    holm,
    interval,
    mcnemar,
    more_wrong,
    paired_p,
    wilson,
)


def test_the_interval_of_a_share_is_that_of_its_standard_error():
    right = np.arange(1000) < 850
    found = bootstrap(lambda drawn: {"accuracy": drawn @ right / drawn.sum()}, len(right))
    low, high = interval(found["accuracy"])
    half = 1.96 * math.sqrt(0.85 * 0.15 / 1000)
    assert low == pytest.approx(0.85 - half, abs=0.004)
    assert high == pytest.approx(0.85 + half, abs=0.004)


def test_the_same_seed_draws_the_same_rows():
    draws = [[], []]
    for kept in draws:
        bootstrap(lambda drawn, kept=kept: kept.append(drawn.tolist()) or {}, 20, resamples=5)
    assert draws[0] == draws[1]
    assert all(sum(drawn) == 20 for drawn in draws[0])


@pytest.mark.parametrize(("one", "other"), [(0, 0), (3, 3), (1, 8), (10, 2), (400, 300)])
def test_mcnemar_is_the_sign_test_on_the_rows_that_differ(one, other):
    count = one + other
    tail = sum(math.comb(count, k) for k in range(min(one, other) + 1))
    assert mcnemar(one, other) == pytest.approx(min(1.0, 2 * tail / 2**count))


def test_fishers_test_is_the_share_of_drawings_as_bad():
    wrong = [1] * 4 + [0] * 6
    bad = [sum(chosen) >= 3 for chosen in itertools.combinations(wrong, 4)]
    assert more_wrong(3, 4, 4, 10) == pytest.approx(sum(bad) / len(bad))


def test_welchs_test_finds_a_higher_mean_and_no_lower_one():
    random = np.random.default_rng(0)
    high, low = random.normal(1, 1, 100), random.normal(0, 1, 100)
    assert higher_mean(high, low) < 1e-6
    assert higher_mean(low, high) > 0.99


def test_a_share_that_is_0_has_an_interval_above_0():
    assert wilson(0, 10) == pytest.approx((0, 0.2775), abs=1e-3)


def test_holm_corrects_for_the_number_of_tests():
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([]) == []


def test_a_difference_that_all_resamples_show_is_as_small_as_their_number_allows():
    assert paired_p(np.full(999, 0.1)) == pytest.approx(2 / 1000)
    assert paired_p(np.zeros(999)) == 1
