"""Weights that are read are not drawn first, and nothing else changes."""

import shutil
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext

import h5py
import keras
import numpy as np
import pytest

from kerasllm.errors import PresetError
from kerasllm.models import bert_classifier
from kerasllm.models import encoder as bert
from kerasllm.models.skip_initialization import skip_initialization


def built(kind: str) -> np.ndarray:
    layer = keras.layers.Dense(5, kernel_initializer=kind)
    layer.build([None, 7])
    return layer.kernel.numpy()


@pytest.mark.parametrize(
    "kind",
    [
        "random_normal",
        "random_uniform",
        "truncated_normal",
        "glorot_uniform",
        "he_normal",
        "lecun_uniform",
        "variance_scaling",
    ],
)
def test_what_would_be_drawn_is_zeros_in_the_block_alone(kind):
    keras.utils.set_random_seed(0)
    first, second = built(kind), built(kind)
    assert np.ptp(first) > 0 and not np.array_equal(first, second)
    keras.utils.set_random_seed(0)
    with pytest.raises(KeyboardInterrupt), skip_initialization():
        assert not built(kind).any()
        raise KeyboardInterrupt
    # After the block, draws are what they would have been without it.
    np.testing.assert_array_equal(built(kind), second)


def test_another_thread_draws_as_ever():
    with ThreadPoolExecutor(1) as other, skip_initialization():
        assert np.ptp(other.submit(built, "glorot_uniform").result()) > 0
        assert not built("glorot_uniform").any()


def test_a_preset_that_lacks_weights_is_refused_and_not_left_at_zeros(toy_preset, tmp_path):
    folder = shutil.copytree(toy_preset, tmp_path / "toy")
    with h5py.File(folder / "model.weights.h5", "a") as stored:
        names = []
        stored.visit(names.append)
        del stored[next(name for name in names if "dense" in name and name.endswith("vars/0"))]
    with pytest.raises(PresetError, match="could not be loaded"):
        bert_classifier(folder, num_classes=2, precision="float32")


def test_constants_are_what_they_are():
    with skip_initialization():
        assert keras.layers.Dense(2, kernel_initializer="ones")(np.ones([1, 3])).numpy().sum() == 6


def test_a_loaded_model_is_what_it_was_without(toy_preset, monkeypatch):
    def weights() -> list[np.ndarray]:
        keras.utils.set_random_seed(0)
        model = bert_classifier(toy_preset, num_classes=2, precision="float32")
        return [weight.numpy() for weight in model.task.weights]

    found = weights()
    monkeypatch.setattr(bert, "skip_initialization", nullcontext)
    # The head too, which is drawn after the weights that are read.
    for ours, expected in zip(found, weights(), strict=True):
        np.testing.assert_array_equal(ours, expected)
