"""Keras still has what models in shards need of its internals."""

import inspect

import keras
import pytest

pytest.importorskip("jax")


def test_keras_makes_and_moves_variables_as_before():
    from keras.src.backend.jax import core

    kind = core.JaxVariable
    made = inspect.getsource(kind._initialize_with_initializer)
    assert "should_shard_at_init(" in made and hasattr(core, "should_shard_at_init")
    assert list(inspect.signature(core.should_shard_at_init).parameters) == ["init_layout", "shape"]
    assert "self._layout" in inspect.getsource(kind._initialize_layout)
    assert "self._value = value" in inspect.getsource(kind._direct_assign)


def test_keras_keeps_an_average_of_each_weight_in_their_order():
    from kerasllm.distribution.keras_variables import averages_of

    weights = [keras.Variable([1.0, 2.0], name="a"), keras.Variable([3.0], name="b")]
    optimizer = keras.optimizers.SGD(0.1, use_ema=True)
    optimizer.build(weights)
    assert [each.shape for each in averages_of(optimizer)] == [each.shape for each in weights]
