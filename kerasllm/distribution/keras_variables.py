"""Variables and where they lie on Keras' JAX backend: what Keras has no public way for.

All use of Keras' internals for models in shards is here, and pinned by
`tests/distribution/test_keras_variables.py`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import jax
import keras
from keras.src.backend.jax import core


@contextmanager
def made_on_host() -> Iterator[None]:
    """Makes the values of new variables in the host's memory in the block, also of large ones.

    Keras compiles the initializer of a variable that is large for the mesh, so that each device
    makes its own part. Ours cannot be compiled: they draw what TensorFlow draws, or return a value
    that was read.
    """
    kept = core.should_shard_at_init
    core.should_shard_at_init = lambda layout, shape: False
    try:
        yield
    finally:
        core.should_shard_at_init = kept


def put(variable: keras.Variable, value: jax.Array) -> None:
    """Gives a variable a value that lies anywhere, not by the variable's layout."""
    variable._value = value


def distribute(variable: keras.Variable) -> None:
    """Gives each device its part of a variable that was made where there was no distribution."""
    variable._initialize_layout()
    variable._direct_assign(variable.value)


def averages_of(optimizer: keras.optimizers.Optimizer) -> list[keras.Variable | None]:
    """Returns the average of each trainable weight that an optimizer with `use_ema` keeps."""
    return optimizer._model_variables_moving_average
