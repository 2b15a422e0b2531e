"""Models made without drawing weights that are read from a file a moment later."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import keras

# All that Keras and KerasHub draw weights with: others, such as Glorot's, are kinds of the last.
_DRAWING = (
    keras.initializers.RandomNormal,
    keras.initializers.RandomUniform,
    keras.initializers.TruncatedNormal,
    keras.initializers.VarianceScaling,
)


@contextmanager
def weights_to_come() -> Iterator[None]:
    """Makes layers that are built in the block begin with zeros where they would draw weights.

    For models all of whose weights are read afterwards: drawing 135 million takes two cores a
    second, as long as reading them. Seeds are used up as ever, so that what is drawn behind the
    block is what it would have been.
    """
    drawn = {kind: kind.__call__ for kind in _DRAWING}
    for kind in _DRAWING:
        kind.__call__ = _zeros
    try:
        yield
    finally:
        for kind, call in drawn.items():
            kind.__call__ = call


def _zeros(initializer, shape, dtype=None):
    return keras.ops.zeros(shape, dtype)
