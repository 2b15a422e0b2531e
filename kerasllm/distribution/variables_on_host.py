"""How Keras' JAX backend makes a large variable in shards: the one internal that is changed.

Keras compiles the initializer of a variable that is large for the mesh, so that each device makes
its own part. That takes initializers of arrays alone, and ours are more: they draw what TensorFlow
draws, or give a value that was read. `tests/distribution/equal_numbers_sharded.py` makes such a
variable, and fails when Keras no longer asks here.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from keras.src.backend.jax import core


@contextmanager
def variables_on_host() -> Iterator[None]:
    """Makes the values of variables in the host's memory in the block; devices get their parts."""
    kept = core.should_shard_at_init
    core.should_shard_at_init = lambda layout, shape: False
    try:
        yield
    finally:
        core.should_shard_at_init = kept
