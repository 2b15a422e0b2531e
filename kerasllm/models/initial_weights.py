"""New weights that are the same on every backend of Keras."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import keras
import numpy as np
import tensorflow as tf

_LARGEST = 2**31 - 2
# Of a normal distribution that is cut at two standard deviations.
_TRUNCATED_DEVIATION = 0.87962566103423978


@contextmanager
def drawn_by_tensorflow() -> Iterator[None]:
    """Makes initializers of any backend draw, in the block, what TensorFlow's would.

    The heads of two trainings that differ in their backend alone begin with the same weights, and
    their loss curves are those of one job.
    """
    kept = {kind: kind.__call__ for kind in _DRAWS}
    for kind, draw in _DRAWS.items():
        kind.__call__ = _with(draw)
    try:
        yield
    finally:
        for kind, call in kept.items():
            kind.__call__ = call


def _with(draw: Callable) -> Callable:
    def call(initializer, shape, dtype=None):
        dtype = keras.backend.standardize_dtype(dtype or keras.config.floatx())
        values = draw(initializer, tuple(shape), dtype, _seed(initializer.seed))
        return keras.ops.convert_to_tensor(values.numpy())

    return call


def _seed(seed) -> tf.Tensor:
    """Returns the seed that TensorFlow draws with, int32 `[2]`."""
    if isinstance(seed, keras.random.SeedGenerator):
        both = np.asarray(keras.ops.convert_to_numpy(seed.next())).astype(np.int64)
    else:
        both = np.array([seed, 0], np.int64)
    return tf.constant(both % _LARGEST, tf.int32)


def _normal(initializer, shape, dtype, seed):
    return tf.random.stateless_normal(
        shape, seed, mean=initializer.mean, stddev=initializer.stddev, dtype=dtype
    )


def _truncated(initializer, shape, dtype, seed):
    return tf.random.stateless_truncated_normal(
        shape, seed, mean=initializer.mean, stddev=initializer.stddev, dtype=dtype
    )


def _uniform(initializer, shape, dtype, seed):
    low, high = (tf.cast(end, dtype) for end in (initializer.minval, initializer.maxval))
    return tf.random.stateless_uniform(shape, seed, minval=low, maxval=high, dtype=dtype)


def _scaled(initializer, shape, dtype, seed):
    # As Keras counts them.
    if initializer.input_axes is not None and initializer.output_axes is not None:
        fan_in, fan_out = (
            math.prod(shape[axis] for axis in axes)
            for axes in (initializer.input_axes, initializer.output_axes)
        )
    elif len(shape) < 2:
        fan_in = fan_out = shape[0] if shape else 1
    else:
        field = math.prod(shape[:-2])
        fan_in, fan_out = shape[-2] * field, shape[-1] * field
    of = {"fan_in": fan_in, "fan_out": fan_out, "fan_avg": (fan_in + fan_out) / 2.0}
    scale = initializer.scale / max(1.0, of[initializer.mode])
    if initializer.distribution == "truncated_normal":
        stddev = math.sqrt(scale) / _TRUNCATED_DEVIATION
        return tf.random.stateless_truncated_normal(shape, seed, stddev=stddev, dtype=dtype)
    if initializer.distribution == "untruncated_normal":
        return tf.random.stateless_normal(shape, seed, stddev=math.sqrt(scale), dtype=dtype)
    limit = math.sqrt(3.0 * scale)
    low, high = tf.cast(-limit, dtype), tf.cast(limit, dtype)
    return tf.random.stateless_uniform(shape, seed, minval=low, maxval=high, dtype=dtype)


_DRAWS = {
    keras.initializers.RandomNormal: _normal,
    keras.initializers.TruncatedNormal: _truncated,
    keras.initializers.RandomUniform: _uniform,
    keras.initializers.VarianceScaling: _scaled,
}
