"""Element-wise work of a transformer, each piece one XLA program; matrix products are not here.

On a CPU TensorFlow multiplies matrices by oneDNN, faster than XLA does, and computes everything
else operation by operation, each of which reads and writes all of its memory. XLA makes one pass of
them. So what stands between two products is one program, and its gradient is another one, which
computes again what it needs instead of keeping it.

TensorFlow hands some operations to XLA by way of MLIR, among them `exp`, `rsqrt` and `sqrt`. That
takes ten milliseconds in each program of each shape, as long as all the rest of fetching a program
from the cache: here equivalents replace them, which XLA compiles to the same.
"""

from __future__ import annotations

from collections.abc import Callable

import tensorflow as tf

from kerasllm.runtime.stable_names import stable_names

_BITS = 32
# Odd, and far from each other: no two of a tensor's places get numbers that are alike.
_FACTORS = (0x9E3779B1, 0x85EBCA77, 0xC2B2AE3D, 0x27D4EB2F, 0x165667B1, 0xD3A2646D)


def fused(function: Callable) -> Callable:
    """Returns a function that XLA compiles, once a shape, as its gradient is.

    Args:
        function: Takes tensors (those of a floating dtype have gradients) and returns a
            tensor or a list of tensors. It reads no variable.

    Example:

    ```python
    gelu = fused(lambda x, bias: tf.nn.gelu(x + bias, approximate=True))
    ```
    """
    forward = tf.function(function, jit_compile=True, autograph=False)

    @tf.function(jit_compile=True, autograph=False)
    def backward(arguments, upstream):
        watched = [each for each in arguments if each.dtype.is_floating]
        with tf.GradientTape() as tape:
            tape.watch(watched)
            outputs = function(*arguments)
        return tape.gradient(outputs, watched, upstream)

    name = "".join(filter(str.isalnum, function.__qualname__))

    @tf.custom_gradient
    def call(*arguments):
        # Their gradient is the one below: what else TensorFlow would keep for it is not wanted.
        with stable_names(name):
            outputs = forward(*map(tf.stop_gradient, arguments))

        def gradient(*upstream):
            upstream = list(upstream) if isinstance(outputs, (list, tuple)) else upstream[0]
            with stable_names(f"{name}_gradient"):
                found = iter(backward(arguments, upstream))
            return [next(found) if each.dtype.is_floating else None for each in arguments]

        return outputs, gradient

    return lambda *arguments: call(*map(tf.convert_to_tensor, arguments))


def compiled(function: Callable, name: str) -> Callable:
    """Returns a function that XLA compiles, once a shape, and that has no gradient.

    Args:
        function: Takes and returns tensors. It reads no variable.
        name: Letters, digits and underscores.
    """
    traced = tf.function(function, jit_compile=True, autograph=False)

    def call(*arguments):
        with stable_names(name):
            return traced(*arguments)

    return call


def dropout(x: tf.Tensor, rate: float, seed: tf.Tensor) -> tf.Tensor:
    """Sets a share of the elements to 0, and scales the others up; for use in a fused function.

    Whether an element is kept is a hash of its place and the seed: as good as drawn, and computed
    again for the gradient instead of being kept. It does not depend on how large `x` is: of a
    batch that is padded to another length the same elements are dropped.

    Args:
        x: A tensor of a floating dtype, of six dimensions at most.
        rate: The share, from 0 to below 1.
        seed: uint32 `[2]`; the same one drops the same elements.

    Reference:
        The mixer is `lowbias32` of
        [Wellons, 2018](https://nullprogram.com/blog/2018/07/31/).
    """
    if not rate:
        return x
    mixed = _mixed(_mixed(_places(x) + seed[0]) + seed[1])
    kept = mixed >= tf.constant(round(rate * 2**_BITS), tf.uint32)
    return x * tf.cast(kept, x.dtype) * (1 / (1 - rate))


def layer_norm(x: tf.Tensor, gamma: tf.Tensor, beta: tf.Tensor, epsilon: float) -> tf.Tensor:
    """Normalises the last axis; for use in a fused function.

    Args:
        x: float32 `[..., width]`.
        gamma: float32 `[width]`.
        beta: float32 `[width]`.
        epsilon: Added to the variance.

    Reference:
        [Ba et al., 2016](https://arxiv.org/abs/1607.06450)
    """
    centred = x - tf.reduce_mean(x, -1, keepdims=True)
    variance = tf.reduce_mean(tf.square(centred), -1, keepdims=True)
    return centred * tf.pow(variance + epsilon, -0.5) * gamma + beta


def softmax(x: tf.Tensor) -> tf.Tensor:
    """Returns the shares along the last axis; for use in a fused function.

    Args:
        x: float32 `[..., choices]`.
    """

    @tf.custom_gradient
    def compute(x):
        # exp, as elu knows it below 0.
        weights = tf.nn.elu(x - tf.reduce_max(x, -1, keepdims=True)) + 1.0
        shares = weights / tf.reduce_sum(weights, -1, keepdims=True)

        def gradient(upstream):
            return shares * (upstream - tf.reduce_sum(upstream * shares, -1, keepdims=True))

        return shares, gradient

    return compute(x)


def _places(x: tf.Tensor) -> tf.Tensor:
    """Returns a number for each place, the same one in tensors of other sizes."""
    found, shape = tf.constant(0, tf.uint32), tf.shape(x)
    for axis, factor in zip(range(x.shape.rank), _FACTORS[: x.shape.rank], strict=True):
        along = tf.cast(tf.range(shape[axis]), tf.uint32) * tf.constant(factor, tf.uint32)
        found += tf.reshape(along, [-1] + [1] * (x.shape.rank - 1 - axis))
    return found


def halved(x: tf.Tensor, add: Callable, times: int) -> tf.Tensor:
    """Returns a tensor with its last axis folded, so that less is left to reduce, in a program.

    XLA reduces an axis in order, one element at a time; halves are added in vectors.

    Args:
        x: `[..., size]`, of a known size. It is folded as long as that is even.
        add: Takes two halves, such as `tf.add` and `tf.maximum`.
        times: How often.
    """
    for _ in range(times):
        if x.shape[-1] % 2:
            break
        half = x.shape[-1] // 2
        x = add(x[..., :half], x[..., half:])
    return x


def _mixed(number: tf.Tensor) -> tf.Tensor:
    for shift, factor in ((16, 0x7FEB352D), (15, 0x846CA68B)):
        number = _shifted(number, shift) * tf.constant(factor, tf.uint32)
    return _shifted(number, 16)


def _shifted(number: tf.Tensor, by: int) -> tf.Tensor:
    shifted = tf.bitwise.right_shift(number, tf.constant(by, tf.uint32))
    return tf.bitwise.bitwise_xor(number, shifted)
