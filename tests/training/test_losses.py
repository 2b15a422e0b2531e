"""The loss is the cross-entropy with the smoothed target, as Keras has it for one-hot labels."""

import keras
import numpy as np
import pytest

from kerasllm.training.losses import SmoothedSparseCategoricalCrossentropy


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


def test_large_logits_stay_finite():
    loss = SmoothedSparseCategoricalCrossentropy()
    assert float(loss([1], [[1000.0, -1000.0]])) == pytest.approx(2000.0)
