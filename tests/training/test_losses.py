"""Losses are what Keras or their formula gives."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from kerasllm.training.losses import (
    SmoothedSparseCategoricalCrossentropy,
    SoftenedBinaryCrossentropy,
    SoftenedKLDivergence,
)


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.6])
def test_it_is_keras_loss_on_one_hot_labels(smoothing):
    random = np.random.default_rng(0)
    logits = random.normal(0, 4, (20, 5)).astype("float32")
    labels = random.integers(0, 5, 20)
    ours = SmoothedSparseCategoricalCrossentropy(smoothing, reduction="none")(labels, logits)
    reference = keras.losses.CategoricalCrossentropy(
        from_logits=True, label_smoothing=smoothing, reduction="none"
    )
    np.testing.assert_allclose(ours, reference(np.eye(5)[labels], logits), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("shape", [(20,), (4, 5)])
def test_its_gradient_is_that_of_keras_loss_whatever_the_weights(shape):
    random = np.random.default_rng(1)
    logits = tf.constant(random.normal(0, 4, (*shape, 7)), tf.float32)
    labels, weights = random.integers(0, 7, shape), random.random(shape).astype("float32")

    def gradient(loss, labels):
        with tf.GradientTape() as tape:
            tape.watch(logits)
            found = loss(labels, logits, sample_weight=weights)
        return tape.gradient(found, logits)

    ours = SmoothedSparseCategoricalCrossentropy(0.1, reduction="sum")
    reference = keras.losses.CategoricalCrossentropy(
        from_logits=True, label_smoothing=0.1, reduction="sum"
    )
    found, expected = gradient(ours, labels), gradient(reference, np.eye(7)[labels])
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_large_logits_stay_finite(smoothing):
    loss = SmoothedSparseCategoricalCrossentropy(smoothing)
    expected = 2000.0 * (1 - smoothing / 2)
    assert float(loss([1], [[1000.0, -1000.0]])) == pytest.approx(expected)


@pytest.mark.parametrize("temperature", [1.0, 3.0])
def test_the_distillation_losses_compare_probabilities_at_a_temperature(temperature):
    teacher, student = np.random.default_rng(0).normal(0, 3, (2, 20, 4))

    def softmax(logits):
        exponents = np.exp(logits / temperature)
        return exponents / exponents.sum(-1, keepdims=True)

    one, other = softmax(teacher), softmax(student)
    found = SoftenedKLDivergence(temperature, reduction="none")(teacher, student)
    expected = temperature**2 * (one * np.log(one / other)).sum(-1)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)

    one, other = (1 / (1 + np.exp(-logits / temperature)) for logits in (teacher, student))
    found = SoftenedBinaryCrossentropy(temperature, reduction="none")(teacher, student)
    each = one * np.log(other) + (1 - one) * np.log(1 - other)
    np.testing.assert_allclose(found, -(temperature**2) * each.mean(-1), rtol=1e-4)
