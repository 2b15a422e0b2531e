"""What stands between two products of a decoder's layer, each piece one XLA program.

All layers of a model share these programs: XLA compiles each once a shape. The gradient of a piece
is computed of what it gave, where that suffices: what it was given is not kept then. See
`fused_operations`.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import NamedTuple

import tensorflow as tf

from kerasllm.models.accelerated.fused_operations import (
    compiled,
    dropout,
    halved,
    layer_norm,
)

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

    @property
    def tensors(self) -> int:
        """How many tensors there are."""
        return self.summands + self.biased

    def sum(self, tensors) -> tf.Tensor:
        """Returns the sum of all of them, float32; for use in a program."""
        product = sum(map(_float32, tensors[: self.summands]))
        if not self.biased:
            return product
        # Flat, where the product has an axis of heads.
        own = product.shape[-1:] if len(product.shape) == 2 else product.shape[-2:]
        return product + tf.reshape(_float32(tensors[-1]), own)

    def of_bias(self, gradient: tf.Tensor, dtype: tf.DType) -> list[tf.Tensor]:
        """Returns the gradient of a bias that trains, in a list; for use in a program."""
        if not (self.biased and self.bias_trains):
            return []
        axes = 1 if len(gradient.shape) == 2 else 2
        summed = tf.reduce_sum(_float32(gradient), range(len(gradient.shape) - axes))
        return [tf.cast(tf.reshape(summed, [-1]), dtype)]

    def gradients(self, of_product: tf.Tensor, of_bias: list[tf.Tensor]) -> list:
        """Returns the gradients of all tensors, `None` for a bias that does not train."""
        return [of_product] * self.summands + ((of_bias or [None]) if self.biased else [])


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

    def compute(self, x: tf.Tensor, parts) -> tf.Tensor:
        """Returns float32 `x` normalised; for use in a program."""
        scale, *shift = map(_float32, parts)
        if shift:
            return layer_norm(x, scale, *shift, self.epsilon)
        return x * tf.pow(_row_means(tf.square(x)) + self.epsilon, -0.5) * scale

    def gradient(self, x: tf.Tensor, parts, upstream: tf.Tensor) -> tuple[tf.Tensor, list]:
        """Returns the gradients of float32 `x` and, where they train, of the parts."""
        watched = [x, *parts] if self.trains else [x]
        with tf.GradientTape() as tape:
            tape.watch(watched)
            outputs = self.compute(x, parts)
        of_x, *of_parts = tape.gradient(outputs, watched, upstream)
        return of_x, of_parts

    def gradients(self, of_parts: list) -> list:
        """Returns what `gradient` gave of the parts, `None` where they do not train."""
        return of_parts or [None] * self.parts


@functools.cache
def normalising(norm: Norm, dtype: tf.DType) -> Callable:
    """Returns what normalises: `(x, *norm)`."""

    def normalise(x, *parts):
        return tf.cast(norm.compute(_float32(x), parts), dtype)

    def gradient(x, upstream, *parts):
        of_x, of_parts = norm.gradient(_float32(x), parts, _float32(upstream))
        return [tf.cast(of_x, x.dtype), *of_parts]

    forward, backward = compiled(normalise, "norm"), compiled(gradient, "norm_gradient")

    @tf.custom_gradient
    def call(x, *parts):
        def gradients(upstream):
            of_x, *of_parts = backward(x, upstream, *parts)
            return [of_x, *norm.gradients(of_parts)]

        return forward(*_constant(x, *parts)), gradients

    return call


@functools.cache
def adding(product: Summed, rate: float, norm: Norm, dtype: tf.DType) -> Callable:
    """Returns what adds a product to `x`, and normalises the sum; it gives both.

    It takes `(x, seed, *product, *norm)`.
    """

    def add(x, seed, *rest):
        summed = dropout(product.sum(rest[: product.tensors]), rate, seed)
        added = tf.cast(_float32(x) + summed, dtype)
        return [added, tf.cast(norm.compute(_float32(added), rest[product.tensors :]), dtype)]

    def gradient(added, seed, of_added, of_normed, bias_dtype, *parts):
        of_x, of_parts = norm.gradient(_float32(added), parts, _float32(of_normed))
        of_x += _float32(of_added)
        of_product = dropout(of_x, rate, seed)
        of_bias = product.of_bias(of_product, bias_dtype.dtype)
        dropped = [tf.cast(of_product, dtype)] if rate else []
        return [tf.cast(of_x, dtype), *dropped, *of_bias, *of_parts]

    forward, backward = compiled(add, "add"), compiled(gradient, "add_gradient")

    @tf.custom_gradient
    def call(x, seed, *rest):
        added, normed = forward(*_constant(x, seed, *rest))
        parts = rest[product.tensors :]

        def gradients(of_added, of_normed):
            bias_dtype = tf.zeros([0], rest[product.tensors - 1].dtype)
            of_x, *found = backward(added, seed, of_added, of_normed, bias_dtype, *parts)
            of_product = found.pop(0) if rate else of_x
            of_bias = [found.pop(0)] if product.biased and product.bias_trains else []
            of_summands = product.gradients(of_product, of_bias)
            return [of_x, None, *of_summands, *norm.gradients(found)]

        return (added, normed), gradients

    return call


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
    trains = any(norm.trains for norm in norms)

    def split(whole, parts, cosine, sine):
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

    def whole_split(cosine, sine, *rest):
        return split(product.sum(rest[: product.tensors]), rest[product.tensors :], cosine, sine)

    def gradient(cosine, sine, upstream, *rest):
        whole, parts = product.sum(rest[: product.tensors]), rest[product.tensors :]
        watched = [whole, *parts] if trains else [whole]
        with tf.GradientTape() as tape:
            tape.watch(watched)
            outputs = split(whole, parts, cosine, sine)
        of_whole, *of_parts = tape.gradient(outputs, watched, list(upstream))
        of_bias = product.of_bias(of_whole, rest[product.tensors - 1].dtype)
        return [tf.cast(of_whole, rest[0].dtype), *of_bias, *of_parts]

    forward, backward = compiled(whole_split, "split"), compiled(gradient, "split_gradient")

    @tf.custom_gradient
    def call(cosine, sine, *rest):
        def gradients(*upstream):
            of_product, *found = backward(cosine, sine, upstream, *rest)
            of_bias = [found.pop(0)] if product.biased and product.bias_trains else []
            of_norms = found or [None] * len(norms)
            return [None, None, *product.gradients(of_product, of_bias), *of_norms]

        return forward(*_constant(cosine, sine, *rest)), gradients

    return call


@functools.cache
def attending(
    scale: float, rate: float, window: int | None, packed: bool, dtype: tf.DType
) -> Callable:
    """Returns what makes shares of scores, float `[rows, heads, length, length]`, by their softmax.

    It takes `(scores, seed, [segments])`, the segments int32 `[rows, length]`: a token sees itself
    and those before it in its segment.
    """

    def shares_of(scores, segments):
        length = tf.shape(scores)[-1]
        distance = tf.range(length)[:, None] - tf.range(length)[None, :]
        visible = distance >= 0
        if window:
            visible &= distance < window
        if packed:
            [own] = segments
            visible = (visible & (own[:, :, None] == own[:, None, :]))[:, None]
        scores = tf.where(visible, _float32(scores) * scale, _HIDDEN)
        weights = tf.exp(scores - tf.reduce_max(scores, -1, keepdims=True))
        return weights / _row_sums(weights)

    def attend(scores, seed, *segments):
        return tf.cast(dropout(shares_of(scores, segments), rate, seed), dtype)

    def gradient(given, seed, upstream, *segments):
        # Without dropout what was given are the shares themselves.
        shares = shares_of(given, segments) if rate else _float32(given)
        upstream = dropout(_float32(upstream), rate, seed)
        products = upstream * shares
        return tf.cast((products - shares * _row_sums(products)) * scale, dtype)

    forward, backward = compiled(attend, "attend"), compiled(gradient, "attend_gradient")

    @tf.custom_gradient
    def call(scores, seed, *segments):
        shares = forward(*_constant(scores, seed, *segments))

        def gradients(upstream):
            found = backward(scores if rate else shares, seed, upstream, *segments)
            return [found, None, *(None for _ in segments)]

        return shares, gradients

    return call


@functools.cache
def dropping(rate: float) -> Callable:
    """Returns what drops elements: `(x, seed)`."""

    def drop(x, seed):
        return tf.cast(dropout(_float32(x), rate, seed), x.dtype)

    # Its gradient is that of the same elements.
    forward, backward = compiled(drop, "drop"), compiled(drop, "drop_gradient")

    @tf.custom_gradient
    def call(x, seed):
        return forward(*_constant(x, seed)), lambda upstream: [backward(upstream, seed), None]

    return call


@functools.cache
def activating(product: Summed, function: Callable, dtype: tf.DType) -> Callable:
    """Returns what activates a product: `(*product)`."""

    def activate(*rest):
        return tf.cast(function(product.sum(rest)), dtype)

    def gradient(upstream, *rest):
        summed = product.sum(rest)
        with tf.GradientTape() as tape:
            tape.watch(summed)
            outputs = function(summed)
        of_product = tape.gradient(outputs, summed, _float32(upstream))
        of_bias = product.of_bias(of_product, rest[-1].dtype)
        return [tf.cast(of_product, rest[0].dtype), *of_bias]

    forward, backward = compiled(activate, "activate"), compiled(gradient, "activate_gradient")

    @tf.custom_gradient
    def call(*rest):
        def gradients(upstream):
            of_product, *of_bias = backward(upstream, *rest)
            return product.gradients(of_product, of_bias)

        return forward(*_constant(*rest)), gradients

    return call


@functools.cache
def gating(gate: Summed, product: Summed, dtype: tf.DType) -> Callable:
    """Returns what multiplies a product by the SiLU of another one: `(*gate, *product)`."""

    def activate(*rest):
        gated, summed = gate.sum(rest[: gate.tensors]), product.sum(rest[gate.tensors :])
        return tf.cast(gated * _sigmoid(gated) * summed, dtype)

    def gradient(upstream, *rest):
        gated, summed = gate.sum(rest[: gate.tensors]), product.sum(rest[gate.tensors :])
        sigmoid, upstream = _sigmoid(gated), _float32(upstream)
        of_gate = upstream * summed * sigmoid * (1.0 + gated * (1.0 - sigmoid))
        return [tf.cast(of_gate, dtype), tf.cast(upstream * gated * sigmoid, dtype)]

    forward, backward = compiled(activate, "gate"), compiled(gradient, "gate_gradient")

    @tf.custom_gradient
    def call(*rest):
        def gradients(upstream):
            of_gate, of_product = backward(upstream, *rest)
            return [*gate.gradients(of_gate, []), *product.gradients(of_product, [])]

        return forward(*_constant(*rest)), gradients

    return call


def _constant(*tensors) -> list[tf.Tensor]:
    """Returns tensors for which TensorFlow keeps nothing for its own gradient."""
    return [tf.stop_gradient(tensor) for tensor in tensors]


def _row_sums(x: tf.Tensor) -> tf.Tensor:
    """Returns the sums along the last axis, kept as one: as a product, which XLA vectorizes."""
    shape = tf.shape(x)
    flat = tf.reshape(x, [-1, shape[-1]])
    sums = tf.matmul(flat, tf.ones([shape[-1], 1]))
    return tf.reshape(sums, tf.concat([shape[:-1], [1]], 0))


def _row_means(x: tf.Tensor) -> tf.Tensor:
    return tf.reduce_sum(halved(x, tf.add, 2), -1, keepdims=True) / x.shape[-1]


def _sigmoid(x: tf.Tensor) -> tf.Tensor:
    # In XLA's polynomial of tanh, which is faster than its exponential and a division.
    return 0.5 * tf.tanh(0.5 * x) + 0.5


def _turned(x: tf.Tensor, cosine: tf.Tensor, sine: tf.Tensor) -> tf.Tensor:
    first, second = tf.split(x, 2, -1)
    cosine, sine = cosine[:, None], sine[:, None]
    return tf.concat([first * cosine - second * sine, second * cosine + first * sine], -1)


def _float32(x: tf.Tensor) -> tf.Tensor:
    return tf.cast(x, tf.float32)
