"""Filters of logits give transformers' numbers, and draws follow the probabilities."""

from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st

from kerasllm.errors import CommandError
from kerasllm.generation import sampling
from kerasllm.generation.settings import GenerationSettings

REFERENCE = Path(__file__).parents[1] / "reference" / "generation"


@pytest.fixture(scope="module")
def reference():
    return dict(np.load(REFERENCE / "samplers.npz"))


def _seen(reference):
    seen = np.zeros(reference["logits"].shape, bool)
    np.put_along_axis(seen, reference["tokens"], True, 1)
    return seen


def test_each_filter_gives_the_numbers_of_transformers(reference):
    logits = tf.constant(reference["logits"])
    found = {
        "penalty": sampling.penalized(logits, _seen(reference), 1.3),
        "temperature": logits / 0.7,
        "top_k": sampling.keep_top_k(logits, 5),
        "top_p": sampling.keep_top_p(logits, 0.8),
        "min_p": sampling.keep_min_p(logits, 0.1),
    }
    for name, values in found.items():
        np.testing.assert_allclose(values, reference[name], rtol=1e-6, err_msg=name)


def test_all_filters_are_applied_in_the_order_of_transformers(reference, monkeypatch):
    settings = GenerationSettings(
        temperature=0.7, top_k=5, top_p=0.8, min_p=0.1, repetition_penalty=1.3
    )
    monkeypatch.setattr(sampling, "draw", lambda logits, uniform: logits)
    choose = tf.function(sampling.Sampler.of(settings).choose)
    numbers = tf.constant(sampling.numbers_of(settings))
    found = choose(tf.constant(reference["logits"]), _seen(reference), numbers, None)
    np.testing.assert_allclose(found, reference["all"], rtol=1e-6)


def test_draws_follow_the_probabilities_and_never_take_what_is_filtered():
    logits = tf.math.log([[0.5, 0.0, 0.3, 0.2, 0.0]])
    uniform = (np.arange(1000, dtype=np.float32) + 0.5) / 1000
    drawn = sampling.draw(tf.repeat(logits, 1000, 0), uniform).numpy()
    np.testing.assert_allclose(np.bincount(drawn, minlength=5), [500, 0, 300, 200, 0], atol=1)
    ends = sampling.draw(tf.repeat(logits, 2, 0), np.array([0.0, np.nextafter(1, 0, dtype="f4")]))
    assert ends.numpy().tolist() == [0, 3]


@pytest.mark.parametrize("xla", [False, True])
def test_few_functions_are_compiled_for_any_top_k(reference, xla):
    samplers = {}
    for k in (*range(1, 40), 10**9):
        settings = GenerationSettings(top_k=k)
        sampler = sampling.Sampler.of(settings)
        choose = tf.function(sampler.choose, jit_compile=xla)
        choose = samplers.setdefault(sampler, choose)
        if k in (1, 3, 4, 10**9):
            logits, uniform = tf.constant(reference["logits"]), np.float32([0.99])
            uniform = np.repeat(uniform, len(logits))
            found = choose(logits, (), tf.constant(sampling.numbers_of(settings)), uniform)
            expected = sampling.draw(sampling.keep_top_k(logits, k), uniform)
            np.testing.assert_array_equal(found, expected)
    assert len(samplers) == 8


def test_decoding_is_greedy_without_sampling_options():
    assert not GenerationSettings().samples and not GenerationSettings(temperature=0.0).samples
    assert not GenerationSettings(temperature=0, top_p=0.9).samples
    assert GenerationSettings(top_p=0.9).samples and GenerationSettings(temperature=0.5).samples


@given(st.integers(0, 2**40), st.lists(st.lists(st.integers(0, 99), min_size=1), min_size=1))
def test_random_numbers_depend_on_the_seed_and_the_prompt_alone(seed, prompts):
    together = sampling.uniform_numbers(prompts, seed, 4)
    for number, prompt in enumerate(prompts):
        if prompt not in prompts[:number]:
            np.testing.assert_array_equal(
                together[number], sampling.uniform_numbers([prompt], seed, 4)[0]
            )
    assert len({each.tobytes() for each in together}) == len(prompts)
    assert together[0].tobytes() != sampling.uniform_numbers(prompts, seed + 1, 4)[0].tobytes()


@pytest.mark.parametrize(
    "wrong",
    [
        {"max_new_tokens": 0},
        {"max_new_tokens": 1.5},
        {"temperature": -1},
        {"temperature": float("nan")},
        {"top_k": 0},
        {"top_p": 0},
        {"top_p": 1.1},
        {"min_p": -0.1},
        {"repetition_penalty": 0},
        {"beams": 0},
        {"seed": -1},
    ],
)
def test_values_out_of_range_are_refused_by_name(wrong):
    (name,) = wrong
    with pytest.raises(CommandError, match=f"{name} must be .*Received"):
        GenerationSettings(**wrong)


def test_beams_do_not_go_with_sampling_nor_an_empty_stop():
    with pytest.raises(CommandError, match="beams=2"):
        GenerationSettings(beams=2, temperature=0.7)
    with pytest.raises(CommandError, match="empty"):
        GenerationSettings(stop=("",))
