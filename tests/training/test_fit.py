"""However a batch is computed, cut or compiled, the numbers of the training are the same."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from kerasllm.training.fit import FineTunedModel
from kerasllm.training.losses import SmoothedSparseCategoricalCrossentropy
from kerasllm.training.optimizers import build_optimizer
from tests.training.tiny import small_model, tiny_batches, tiny_model, weights_of


def trained(model: FineTunedModel, epochs: int = 3, **options):
    optimizer = build_optimizer(
        "adamw", 1e-3, model.trainable_variables, weight_decay=0.01, clip_norm=1.0
    )
    model.compile(optimizer, **options)
    history = model.fit(tiny_batches(), epochs=epochs, verbose=0).history
    return history, weights_of(model)


@pytest.fixture(scope="module")
def plainly():
    """Losses and weights of a training that nothing is asked of."""
    return trained(tiny_model())


@pytest.mark.parametrize("accumulate", [1, 2, pytest.param(8, marks=pytest.mark.slow)])
@pytest.mark.parametrize("xla", [False, True])
def test_accumulation_and_xla_give_the_numbers_of_one_large_batch(accumulate, xla, plainly):
    expected_history, expected = plainly
    history, weights = trained(tiny_model(), accumulate=accumulate, xla=xla)
    np.testing.assert_allclose(history["loss"], expected_history["loss"], rtol=1e-5)
    assert history["accuracy"] == expected_history["accuracy"]
    for ours, theirs in zip(weights, expected, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=2e-6)


def test_it_agrees_with_keras_own_step(plainly):
    ours, weights = plainly
    reference = tiny_model().task
    optimizer = build_optimizer(
        "adamw", 1e-3, reference.trainable_variables, weight_decay=0.01, clip_norm=1.0
    )
    loss = keras.losses.SparseCategoricalCrossentropy(
        from_logits=True, reduction="mean_with_sample_weight"
    )
    plain = keras.Model(reference.input, reference.output)
    plain.compile(optimizer, loss, jit_compile=False)
    plain.fit(tiny_batches(), epochs=3, verbose=0)
    assert len(ours["loss"]) == 3
    for mine, other in zip(weights, weights_of(plain), strict=True):
        np.testing.assert_allclose(mine, other, atol=2e-6)


@pytest.mark.parametrize(("xla", "slices"), [(False, 1), (True, 1), (False, 2)])
def test_each_slice_of_a_batch_and_each_step_drops_other_units(xla, slices):
    """Of the same row, drawn again and again: one mask for all would give one output for all."""
    x, y, weight = next(iter(tiny_batches()))
    same = tf.nest.map_structure(lambda part: tf.repeat(part[:1], 8, axis=0), (x, y, weight))
    seen = []

    class Outputs(keras.metrics.Mean):
        def update_state(self, y_true, y_pred, sample_weight=None):
            tf.py_function(lambda logits: seen.append(logits.numpy()), [y_pred], [])
            return super().update_state(y_pred)

    model = small_model(dropout=0.5)
    model.compile(
        keras.optimizers.SGD(0.0), metrics=[Outputs()], accumulate=4, xla=xla, slices=slices
    )
    model.fit(tf.data.Dataset.from_tensors(same).repeat(2), verbose=0)
    outputs = np.concatenate(seen)
    assert outputs.shape == (16, 3)
    assert len(np.unique(outputs.round(6), axis=0)) == 16


def test_it_learns():
    history, _ = trained(tiny_model(), epochs=60)
    assert history["accuracy"][-1] == 1.0
    assert history["loss"][-1] < 0.2 * history["loss"][0]


def test_a_row_of_weight_0_changes_nothing():
    """The padding rows of the short last batch of an epoch must not be learned from."""
    full = next(iter(tiny_batches(rows=6, batch_size=6)))
    x, y, weight = next(iter(tiny_batches(rows=8, batch_size=8)))
    weight = tf.concat([full[2], [0.0, 0.0]], 0)
    results = []
    for batch in (full, (x, y, weight)):
        model = small_model()
        model.compile(build_optimizer("sgd", 0.1, model.trainable_variables))
        history = model.fit(tf.data.Dataset.from_tensors(batch), verbose=0).history
        results.append((history["loss"], history["accuracy"], weights_of(model)))
    np.testing.assert_allclose(results[0][0], results[1][0], rtol=1e-6)
    np.testing.assert_allclose(results[0][1], results[1][1], rtol=1e-6)
    for one, other in zip(results[0][2], results[1][2], strict=True):
        np.testing.assert_allclose(one, other, atol=1e-6)


@pytest.mark.parametrize("accumulate", [1, 4])
def test_regularisation_counts_once_for_a_batch(accumulate):
    model = small_model()
    kernel = model.task.layers[-1].kernel
    kernel.regularizer = keras.regularizers.L2(0.5)
    before = kernel.numpy().copy()
    plain = small_model()
    for each, options in ((model, {"accumulate": accumulate}), (plain, {})):
        each.compile(keras.optimizers.SGD(0.1), **options)
        each.fit(tiny_batches(rows=8), verbose=0)
    other = plain.task.layers[-1].kernel
    np.testing.assert_allclose(kernel.numpy(), other.numpy() - 0.1 * 2 * 0.5 * before, atol=1e-6)


def test_a_batch_that_cannot_be_cut_is_refused():
    model = small_model()
    model.compile(keras.optimizers.SGD(0.1), accumulate=3)
    with pytest.raises(tf.errors.InvalidArgumentError, match="accumulate=3"):
        model.fit(tiny_batches(), verbose=0)


def test_a_loss_that_is_no_loss_is_refused():
    with pytest.raises(ValueError, match="msee"):
        small_model().compile(keras.optimizers.SGD(0.1), loss="msee")


@pytest.mark.parametrize("precision", ["mixed_bfloat16", "mixed_float16", "bfloat16"])
def test_it_learns_in_every_precision(precision):
    model = small_model(precision=precision)
    optimizer = build_optimizer("adam", 1e-2, model.trainable_variables, clip_norm=1.0)
    model.compile(optimizer)
    history = model.fit(tiny_batches(), epochs=25, verbose=0).history
    assert history["loss"][-1] < 0.6 * history["loss"][0]
    wrapped = isinstance(model.optimizer, keras.optimizers.LossScaleOptimizer)
    assert wrapped == (precision == "mixed_float16")


def test_evaluate_gives_the_weighted_mean_of_the_rows():
    model = small_model()
    model.compile(keras.optimizers.SGD(0.1))
    result = model.evaluate(tiny_batches(rows=20), verbose=0, return_dict=True)
    x, y, weight = next(iter(tiny_batches(rows=20, batch_size=20)))
    loss = SmoothedSparseCategoricalCrossentropy(reduction="none")(y, model(x))
    expected = np.average(loss, weights=weight)
    np.testing.assert_allclose(result["loss"], expected, rtol=1e-5)
