"""Keras still lets built layers be changed in the one way that adapters need."""

import keras
import numpy as np
import pytest

from kerasllm.models.built_layers import cast_weight, remove_weight, turn_into, unlocked


@pytest.fixture
def layer():
    layer = keras.layers.Dense(3)
    layer.build((None, 2))
    return layer


class Doubled(keras.layers.Dense):
    def call(self, inputs):
        return 2 * super().call(inputs)


def test_a_built_layer_is_locked_except_inside_unlocked(layer):
    def add():
        return layer.add_weight(name="new", shape=(2,), initializer="zeros")

    with pytest.raises(ValueError, match="cannot add new elements of state"):
        add()
    with unlocked(layer):
        new = add()
    assert any(new is weight for weight in layer.trainable_weights)
    with pytest.raises(ValueError, match="cannot add new elements of state"):
        add()


def test_a_layer_inside_a_model_becomes_another_and_back(layer):
    inputs = keras.Input((2,))
    model = keras.Model(inputs, layer(inputs))
    x = np.ones((1, 2), "float32")
    before = np.asarray(model(x))
    turn_into(layer, Doubled)
    np.testing.assert_array_equal(model(x), 2 * before)
    turn_into(layer, keras.layers.Dense)
    np.testing.assert_array_equal(model(x), before)
    with pytest.raises(TypeError, match="new_class=EinsumDense"):
        turn_into(layer, keras.layers.EinsumDense)


def test_a_weight_is_removed_with_the_attribute_that_holds_it(layer):
    remove_weight(layer, layer.bias)
    assert layer.bias is None
    assert len(layer.weights) == 1


@pytest.mark.parametrize("trainable", [True, False])
def test_a_weight_changes_its_dtype_in_place(layer, trainable):
    layer.kernel.trainable = trainable
    old = np.asarray(layer.kernel)
    cast_weight(layer, layer.kernel, "bfloat16")
    assert layer.kernel.dtype == "bfloat16"
    assert layer.kernel.trainable is trainable
    assert layer.kernel.path == "dense/kernel" or layer.kernel.path.endswith("/kernel")
    assert len(layer.weights) == 2
    np.testing.assert_allclose(keras.ops.cast(layer.kernel, "float32"), old, rtol=2**-8)
