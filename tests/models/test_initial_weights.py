"""New weights are those that TensorFlow draws, whatever Keras computes with."""

import keras
import numpy as np
import pytest

from kerasllm.models.initial_weights import drawn_by_tensorflow

KINDS = {
    "normal": lambda seed: keras.initializers.RandomNormal(0.1, 0.02, seed=seed),
    "truncated": lambda seed: keras.initializers.TruncatedNormal(0.1, 0.02, seed=seed),
    "uniform": lambda seed: keras.initializers.RandomUniform(-0.3, 0.2, seed=seed),
    "glorot": lambda seed: keras.initializers.GlorotUniform(seed=seed),
    "he": lambda seed: keras.initializers.HeNormal(seed=seed),
    "lecun": lambda seed: keras.initializers.VarianceScaling(
        2.0, "fan_avg", "untruncated_normal", seed=seed
    ),
}
SHAPES = [(5,), (4, 6), (3, 2, 5)]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_each_initializer_draws_what_it_drew(kind, shape):
    # This process computes with TensorFlow: what is drawn in the block is what it draws itself.
    for seed in (7, 2**31 + 5):
        expected = np.array(KINDS[kind](seed)(shape))
        with drawn_by_tensorflow():
            found = np.array(KINDS[kind](seed)(shape))
        np.testing.assert_array_equal(found, expected)


def test_generators_of_seeds_are_drawn_from_as_well():
    def drawn():
        generator = keras.random.SeedGenerator(3)
        initializer = keras.initializers.RandomNormal(seed=generator)
        return [np.array(initializer((2, 3))) for _ in range(2)]

    expected = drawn()
    with drawn_by_tensorflow():
        found = drawn()
    np.testing.assert_array_equal(found, expected)
    assert (found[0] != found[1]).any()


def test_initializers_are_as_they_were_after_the_block():
    call = keras.initializers.RandomNormal.__call__
    with drawn_by_tensorflow():
        assert keras.initializers.RandomNormal.__call__ is not call
    assert keras.initializers.RandomNormal.__call__ is call
