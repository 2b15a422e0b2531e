"""Low-rank updates of dense layers: what they compute, what they train, and how they are merged."""

import math

import keras
import numpy as np
import pytest
import tensorflow as tf

from kerasllm.models.adapters.low_rank import (
    LowRank,
    add_update,
    base_matrix,
    freeze,
    merged_matrix,
    remove_update,
    thaw,
)

KINDS = {
    "plain": LowRank(3, 6),
    "rank_stabilized": LowRank(3, 6, rank_stabilized=True),
    "dora": LowRank(3, 6, dora=True),
}
LAYERS = {
    "dense": lambda dtype: keras.layers.Dense(10, activation="relu", dtype=dtype, name="dense"),
    "heads": lambda dtype: keras.layers.EinsumDense(
        "btd,ndh->btnh", (None, 5, 2), bias_axes="nh", dtype=dtype, name="heads"
    ),
    "no_bias": lambda dtype: keras.layers.EinsumDense("bqm,muh->bquh", (None, 2, 5), dtype=dtype),
}


def built(kind="dense", dtype="float32"):
    keras.utils.set_random_seed(0)
    layer = LAYERS[kind](dtype)
    layer.build((None, 4, 64))
    if layer.bias is not None:
        layer.bias.assign(np.random.default_rng(1).normal(size=layer.bias.shape))
    return layer


def shaken(update):
    """An update that has learned something."""
    rng = np.random.default_rng(2)
    for variable in update.variables:
        variable.assign(variable + rng.normal(0, 0.3, variable.shape))
    return update


def inputs_of(seed=0):
    return np.random.default_rng(seed).normal(size=(2, 4, 64)).astype("float32")


@pytest.mark.parametrize("quantize_to", [None, "int8", "int4"])
@pytest.mark.parametrize("settings", KINDS.values(), ids=KINDS)
@pytest.mark.parametrize("kind", LAYERS)
def test_an_update_changes_nothing_at_first_and_is_merged_to_rounding(kind, settings, quantize_to):
    layer, x = built(kind), inputs_of()
    before = np.asarray(layer(x))
    freeze(layer, quantize_to)
    frozen = np.asarray(layer(x))
    assert np.abs(frozen - before).max() < {None: 1e-5, "int8": 0.05, "int4": 1}[quantize_to]
    update = add_update(layer, "default", settings)
    np.testing.assert_allclose(layer(x), frozen, atol=1e-5)
    assert [id(w) for w in layer.trainable_weights] == [id(w) for w in update.variables]
    shaken(update)
    adapted = np.asarray(layer(x))
    assert np.abs(adapted - frozen).max() > 0.1
    thaw(layer)
    assert type(layer) in (keras.layers.Dense, keras.layers.EinsumDense)
    assert len(layer.weights) == 1 + (layer.bias is not None)
    np.testing.assert_allclose(layer(x), adapted, rtol=1e-4, atol=2e-5)


def test_scales():
    assert LowRank(4, 10).scale == 2.5
    assert LowRank(4, 10, rank_stabilized=True).scale == 5


def test_the_first_matrix_is_uniform_as_in_peft_and_the_second_zero():
    layer = built()
    freeze(layer)
    update = add_update(layer, "default", LowRank(50))
    a = update.a.numpy()
    assert np.abs(a).max() <= 1 / math.sqrt(64)
    assert a.std() == pytest.approx(1 / math.sqrt(3 * 64), rel=0.05)
    assert not update.b.numpy().any()


@pytest.mark.parametrize("settings", KINDS.values(), ids=KINDS)
def test_gradients_are_those_of_the_formula(settings):
    layer, x = built("no_bias"), inputs_of()
    freeze(layer)
    update = shaken(add_update(layer, "default", settings))
    upstream = np.random.default_rng(3).normal(size=(2, 4, 2, 5)).astype("float32")
    variables = [variable.value for variable in update.variables]

    @tf.function
    def gradients():
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(layer(x, training=True) * upstream)
        return tape.gradient(loss, variables)

    rows, g = x.reshape(-1, 64), upstream.reshape(-1, 10)
    w = base_matrix(layer).T
    a, b, s = update.a.numpy(), update.b.numpy(), settings.scale
    turn = np.ones(10)
    expected = []
    if settings.dora:
        # The norm is a constant to the gradient, as in 4.3 of the paper.
        norm = np.linalg.norm(w + s * b @ a, axis=1)
        turn = update.magnitude.numpy() / norm
        expected = [(g * (rows @ (w + s * b @ a).T)).sum(0) / norm]
    expected = [s * ((g * turn) @ b).T @ rows, s * (g * turn).T @ (rows @ a.T), *expected]
    for ours, formula in zip(gradients(), expected, strict=True):
        np.testing.assert_allclose(ours, formula, rtol=1e-3, atol=1e-3)


def test_dropout_is_of_the_inputs_of_the_update_alone():
    layer, x = built("no_bias"), np.ones((1, 1, 64), "float32")
    freeze(layer)
    update = add_update(layer, "default", LowRank(1, 1, dropout=0.5))
    base = np.asarray(layer(x, training=True))
    np.testing.assert_array_equal(base, layer(x))
    update.a.assign(np.ones((1, 64)))
    update.b.assign(np.ones((10, 1)))
    np.testing.assert_allclose(layer(x) - base, np.full((1, 1, 2, 5), 64.0), rtol=1e-5)
    added = [np.asarray(layer(x, training=True) - base) for _ in range(300)]
    # Each is twice the number of inputs that were kept.
    assert np.ptp(added, axis=(1, 2, 3, 4)).max() < 1e-4
    assert np.mean(added) == pytest.approx(64, rel=0.05)
    assert 4 < np.std(added) < 12


def test_dora_with_dropout_turns_the_dropped_inputs_as_peft_does():
    layer, x = built("no_bias"), np.ones((1, 1, 64), "float32")
    freeze(layer)
    update = add_update(layer, "default", LowRank(1, 1, dropout=0.5, dora=True))
    update.magnitude.assign(2 * update.magnitude.value)
    base, added = np.asarray(layer(x)) / 2, []
    for _ in range(300):
        added.append(np.asarray(layer(x, training=True)) - base)
    # With m / |W| = 2: the base of all inputs, and once that of the dropped ones.
    np.testing.assert_allclose(np.mean(added, 0), base, atol=0.3)
    assert np.std(added, 0).min() > 0.1


def test_updates_of_a_layer_add_up_and_can_be_chosen():
    layer, x = built("no_bias"), inputs_of()
    freeze(layer)
    base = np.asarray(layer(x))
    for name, settings in KINDS.items():
        shaken(add_update(layer, name, settings, seed=len(name)))
    whole, alone = np.asarray(layer(x)), {}
    for name in KINDS:
        layer.active = (name,)
        alone[name] = np.asarray(layer(x)) - base
    np.testing.assert_allclose(whole - base, sum(alone.values()), atol=1e-4)
    layer.active = ("plain", "dora")
    merged = x.reshape(-1, 64) @ merged_matrix(layer)
    np.testing.assert_allclose(merged.reshape(whole.shape), np.asarray(layer(x)), atol=1e-4)
    remove_update(layer, "plain")
    assert layer.active == ("dora",)
    with pytest.raises(ValueError, match="name=dora"):
        add_update(layer, "dora", LowRank())


@pytest.mark.parametrize("policy", ["float32", "mixed_bfloat16", "bfloat16"])
@pytest.mark.parametrize("quantize_to", [None, "int4"])
def test_masters_are_float32_and_the_rest_is_computed_as_the_policy_says(policy, quantize_to):
    layer = built("heads", policy)
    freeze(layer, quantize_to)
    update = shaken(add_update(layer, "default", KINDS["dora"]))
    assert {variable.dtype for variable in update.variables} == {"float32"}
    x = inputs_of()
    eager = layer(x)
    assert eager.dtype == keras.DTypePolicy(policy).compute_dtype
    compiled = tf.function(layer, jit_compile=True)(x)
    close = {"rtol": 1e-4, "atol": 1e-4} if policy == "float32" else {"rtol": 0.05, "atol": 0.1}
    np.testing.assert_allclose(tf.cast(compiled, "float32"), tf.cast(eager, "float32"), **close)


def test_a_stateless_scope_gives_an_update_other_values():
    layer, x = built(), inputs_of()
    freeze(layer)
    update = shaken(add_update(layer, "default", LowRank(2)))
    other = np.zeros(update.b.shape, "float32")
    with keras.StatelessScope(state_mapping=[(update.b, other)]):
        stateless = layer(x)
    layer.active = ()
    np.testing.assert_array_equal(stateless, layer(x))


@pytest.mark.parametrize("quantize_to", [None, "int8"])
def test_what_is_saved_is_the_plain_layer_with_its_updates(quantize_to, tmp_path):
    layer, x = built("heads"), inputs_of()
    model = keras.Sequential([keras.Input((4, 64)), layer])
    freeze(layer, quantize_to)
    shaken(add_update(layer, "default", KINDS["dora"]))
    model.save_weights(tmp_path / "all.weights.h5")
    plain = keras.Sequential([keras.Input((4, 64)), built("heads")])
    plain.load_weights(tmp_path / "all.weights.h5")
    np.testing.assert_allclose(plain(x), model(x), atol=1e-4)
    # And back, without the updates: what is read is the kernel.
    layer.active = ()
    model.load_weights(tmp_path / "all.weights.h5")
    np.testing.assert_allclose(plain(x), model(x), atol=0.05 if quantize_to else 1e-6)
