"""What stands between two products of a decoder's layer, each piece one XLA program.

All layers of a model share these programs: XLA compiles each once a shape. See `fused_operations`.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import NamedTuple

import tensorflow as tf

from kerasllm.models.accelerated.fused_operations import dropout, fused, layer_norm, softmax

_HIDDEN = -1e9


class Summed(NamedTuple):
    """The tensors that make up a product: its summands, and a bias, if there is one.

    Attributes:
        summands: How many summands.
        biased: Whether there is a bias.
        bias_trains: Whether that has a gradient.
    """

    summands: int
    biased: bool
    bias_trains: bool

    def constants(self, start: int) -> tuple[int, ...]:
        """Returns the places of what has no gradient, where the first summand is at `start`."""
        frozen = self.biased and not self.bias_trains
        return (start + self.summands,) if frozen else ()

    def take(self, tensors) -> tuple[tf.Tensor, tuple[tf.Tensor, ...]]:
        """Returns the sum, float32, and the tensors that are left."""
        product = _add(tensors[: self.summands])
        rest = tensors[self.summands :]
        if self.biased:
            # Flat, where the product has an axis of heads.
            own = product.shape[-1:] if len(product.shape) == 2 else product.shape[-2:]
            product += tf.reshape(_float32(rest[0]), own)
            rest = rest[1:]
        return product, tuple(rest)


class Norm(NamedTuple):
    """A norm: RMS, or with a shift by the mean and a learned one.

    Attributes:
        parts: 1, a scale; or 2, a scale and a shift.
        epsilon: Added to the mean square.
        trains: Whether scale and shift have gradients.
    """

    parts: int
    epsilon: float
    trains: bool

    def constants(self, start: int) -> tuple[int, ...]:
        """Returns the places of what has no gradient, where the scale is at `start`."""
        return () if self.trains else tuple(range(start, start + self.parts))

    def compute(self, x: tf.Tensor, parts) -> tf.Tensor:
        """Returns float32 `x` normalised, in a program."""
        scale, *shift = map(_float32, parts)
        if shift:
            return layer_norm(x, scale, *shift, self.epsilon)
        mean = tf.reduce_mean(tf.square(x), -1, keepdims=True)
        return x * tf.pow(mean + self.epsilon, -0.5) * scale


@functools.cache
def normalising(norm: Norm, dtype: tf.DType) -> Callable:
    """Returns what normalises: `(x, *norm)`."""

    def normalise(x, *parts):
        return tf.cast(norm.compute(_float32(x), parts), dtype)

    return fused(normalise, norm.constants(1))


@functools.cache
def adding(product: Summed, rate: float, norm: Norm, dtype: tf.DType) -> Callable:
    """Returns what adds a product to `x`, and normalises the sum; it gives both.

    It takes `(x, seed, *product, *norm)`.
    """

    def add(x, seed, *rest):
        summed, parts = product.take(rest)
        added = tf.cast(_float32(x) + dropout(summed, rate, seed), dtype)
        return [added, tf.cast(norm.compute(_float32(added), parts), dtype)]

    start = 2 + product.summands + product.biased
    return fused(add, (*product.constants(2), *norm.constants(start)))


@functools.cache
def splitting(
    product: Summed,
    shape: tuple[int, int, int],
    rotary: bool,
    norms: tuple[Norm, ...],
    dtype: tf.DType,
) -> Callable:
    """Returns what makes queries, keys and values of the product with all three matrices.

    It takes `(cosine, sine, *product, *norms)`, the first two float `[length, size / 2]`, the
    summands of the product `[rows, length, heads, size]`. It gives queries
    `[rows * keys, queries each * length, size]`, and keys and values `[rows * keys, length, size]`.

    Args:
        product: What makes up the product.
        shape: Heads of queries, of keys, and their size.
        rotary: Whether positions turn queries and keys.
        norms: Of queries and of keys, or none.
        dtype: What it gives.
    """
    queries, keys, size = shape

    def split(cosine, sine, *rest):
        whole, parts = product.take(rest)
        rows, length = tf.unstack(tf.shape(whole)[:2])
        *turned, value = tf.split(whole, [queries, keys, keys], 2)
        for place, norm in enumerate(norms):
            turned[place] = norm.compute(turned[place], parts[place : place + 1])
        if rotary:
            turned = [_turned(x, _float32(cosine), _float32(sine)) for x in turned]
        found = []
        for heads, x in zip((queries, keys, keys), (*turned, value), strict=True):
            x = tf.transpose(x, [0, 2, 1, 3])
            x = tf.reshape(x, [rows * keys, heads // keys * length, size])
            found.append(tf.cast(x, dtype))
        return found

    start = 2 + product.summands + product.biased
    of_norms = [norm.constants(start + place) for place, norm in enumerate(norms)]
    return fused(split, (0, 1, *product.constants(2), *(each for one in of_norms for each in one)))


@functools.cache
def attending(
    scale: float, rate: float, window: int | None, packed: bool, dtype: tf.DType
) -> Callable:
    """Returns what makes shares of scores, float `[rows, heads, length, length]`, by their softmax.

    It takes `(scores, seed, [segments])`, the segments int32 `[rows, length]`: a token sees itself
    and those before it in its segment.
    """

    @fused
    def attend(scores, seed, *segments):
        length = tf.shape(scores)[-1]
        distance = tf.range(length)[:, None] - tf.range(length)[None, :]
        visible = distance >= 0
        if window:
            visible &= distance < window
        if packed:
            [own] = segments
            visible = (visible & (own[:, :, None] == own[:, None, :]))[:, None]
        shares = softmax(tf.where(visible, _float32(scores) * scale, _HIDDEN))
        return tf.cast(dropout(shares, rate, seed), dtype)

    return attend


@functools.cache
def dropping(rate: float) -> Callable:
    """Returns what drops elements: `(x, seed)`."""
    return fused(lambda x, seed: tf.cast(dropout(_float32(x), rate, seed), x.dtype))


@functools.cache
def activating(product: Summed, function: Callable, dtype: tf.DType) -> Callable:
    """Returns what activates a product: `(*product)`."""

    def activate(*rest):
        return tf.cast(function(product.take(rest)[0]), dtype)

    return fused(activate, product.constants(0))


@functools.cache
def gating(gate: Summed, product: Summed, dtype: tf.DType) -> Callable:
    """Returns what multiplies a product by the SiLU of another one: `(*gate, *product)`."""

    def activate(*rest):
        gated, rest = gate.take(rest)
        # The sigmoid, without an operation that goes through MLIR.
        silu = gated * (0.5 * tf.tanh(0.5 * gated) + 0.5)
        return tf.cast(silu * product.take(rest)[0], dtype)

    start = gate.summands + gate.biased
    return fused(activate, (*gate.constants(0), *product.constants(start)))


def _add(summands) -> tf.Tensor:
    return sum(map(_float32, summands))


def _turned(x: tf.Tensor, cosine: tf.Tensor, sine: tf.Tensor) -> tf.Tensor:
    first, second = tf.split(x, 2, -1)
    cosine, sine = cosine[:, None], sine[:, None]
    return tf.concat([first * cosine - second * sine, second * cosine + first * sine], -1)


def _float32(x: tf.Tensor) -> tf.Tensor:
    return tf.cast(x, tf.float32)
