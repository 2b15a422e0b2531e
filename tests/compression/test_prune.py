"""Magnitude pruning: how many weights become 0, which ones, and that they stay so."""

import itertools

import keras
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kerasllm.compression.prune import MagnitudePruning, kernels_of, sparsity_of
from kerasllm.models import bert_classifier
from kerasllm.recipe.compression import Pruning
from kerasllm.training.fit import FineTunedModel

SCHEDULES = st.sampled_from(["cubic", "linear", "once"])


@given(st.floats(0.01, 0.99), SCHEDULES, st.floats(0, 0.5), st.floats(0.51, 1), st.integers(1, 300))
def test_sparsity_only_rises_and_ends_where_it_should(sparsity, schedule, begin, end, steps):
    settings = Pruning(sparsity=sparsity, schedule=schedule, begin=begin, end=end)
    pruning = MagnitudePruning({}, settings, steps)
    course = [pruning.sparsity_at(step) for step in range(steps + 1)]
    assert all(one <= other for one, other in itertools.pairwise(course))
    assert course[0] == 0 and course[-1] == pytest.approx(sparsity)


def test_the_cubic_schedule_is_that_of_the_paper():
    pruning = MagnitudePruning({}, Pruning(sparsity=0.8, begin=0.0, end=1.0), 100)
    assert pruning.sparsity_at(50) == pytest.approx(0.8 * (1 - 0.5**3))


def tiny() -> FineTunedModel:
    """Returns a model that trains as classifiers do, and is traced at once."""
    values = keras.Input((6,), name="values")
    hidden = keras.layers.Dense(32, activation="tanh", name="lower")(values)
    logits = keras.layers.Dense(2, name="upper")(hidden)
    return FineTunedModel(keras.Model({"values": values}, logits))


@pytest.mark.parametrize("scope", ["global", "layer"])
def test_the_smallest_weights_are_0_through_the_training(scope):
    keras.utils.set_random_seed(0)
    model = tiny()
    kernels = kernels_of(model.task)
    upper = model.task.get_layer("upper").kernel
    upper.assign(upper / 100)  # Smaller than all others.
    start = {name: np.abs(kernel.numpy()) for name, kernel in kernels.items()}
    # A rate that changes no order: what is 0 must be what was smallest at the start.
    model.compile(keras.optimizers.Adam(1e-9))
    pruning = MagnitudePruning(kernels, Pruning(sparsity=0.6, scope=scope, every=2, end=0.5), 12)
    zeros = []

    class Watch(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            found = [(kernel.numpy() == 0) for kernel in kernels.values()]
            zeros.append(np.concatenate([part.reshape(-1) for part in found]))

    x = np.random.default_rng(0).random((48, 6)).astype("float32")
    model.fit(
        {"values": x},
        np.zeros(48, "int32"),
        batch_size=4,
        callbacks=[pruning, Watch()],
        verbose=0,
    )

    assert not zeros[0].any()
    for before, after in itertools.pairwise(zeros):
        assert not (before & ~after).any(), "what is 0 stays 0"
    assert zeros[5].mean() == pytest.approx(0.6, abs=5e-3), "all are pruned at the end of the rise"
    layers = sparsity_of(kernels)
    if scope == "layer":
        assert list(layers.values()) == pytest.approx([0.6, 0.6], abs=0.01)
    else:
        assert layers[upper.path] == 1.0
        kept = min(start[name][kernels[name].numpy() != 0].min(initial=np.inf) for name in start)
        gone = max(start[name][kernels[name].numpy() == 0].max(initial=0) for name in start)
        assert gone <= kept + 1e-7


def test_embeddings_are_pruned_if_asked_for(toy_preset):
    backbone = bert_classifier(toy_preset, 2, precision="float32").task.backbone
    more = kernels_of(backbone, embeddings=True).keys() - kernels_of(backbone).keys()
    assert more == {backbone.token_embedding.embeddings.path}
