"""Creates models without initializing weights that are loaded afterwards."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import keras

# All that Keras and KerasHub draw weights with: others, such as Glorot's, are kinds of the last.
_DRAWING = (
    keras.initializers.RandomNormal,
    keras.initializers.RandomUniform,
    keras.initializers.TruncatedNormal,
    keras.initializers.VarianceScaling,
)
# Blocks of two threads would put back what the other had replaced.
_one_at_a_time = threading.RLock()


@contextmanager
def skip_initialization() -> Iterator[None]:
    """Makes layers that this thread builds in the block begin with zeros instead of drawn weights.

    For models all of whose weights are read afterwards: drawing 135 million takes two cores a
    second, as long as reading them. Seeds are consumed as usual, so that what is drawn after the
    block is what it would have been.
    """
    with _one_at_a_time:
        drawn = {kind: kind.__call__ for kind in _DRAWING}
        for kind, call in drawn.items():
            kind.__call__ = _zeros_here(call)
        try:
            yield
        finally:
            for kind, call in drawn.items():
                kind.__call__ = call


def _zeros_here(call: Callable) -> Callable:
    here = threading.get_ident()

    def begin(initializer, shape, dtype=None, **options):
        if threading.get_ident() == here:
            return keras.ops.zeros(shape, dtype)
        return call(initializer, shape, dtype, **options)

    return begin
