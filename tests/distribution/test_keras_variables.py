"""Keras still has what models in shards need of its internals."""

import inspect

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
