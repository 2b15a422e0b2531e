"""What an encoder's layer computes between its products, in few and small programs of XLA's.

A program costs XLA some 50 ms for each length of a batch, and as much again for each loop in it.
So XLA has what it alone makes one pass of: dropout, GELU, norms and their gradients. TensorFlow has
what it computes as fast: products, softmax, transposed heads, sums of rows and columns.

A dropout's draw depends on the row, the position and the channel of an element, and not on the
length that the batch is padded to.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable

import tensorflow as tf

from kerasllm.models.accelerated.fused_operations import dropout
from kerasllm.models.accelerated.program import Program

_ROWS = ("rows", "length")


class Attention:
    """Mixes values by the softmax of scores, with dropout of its weights.

    Args:
        heads: Heads of the layer.
        size: Width of a head.
        rate: The rate of the dropout.
        dtype: What products are computed in.
        compiled: Whether XLA compiles what it can. Not worth it for a single query. Defaults to
            `True`.
    """

    def __init__(self, heads: int, size: int, rate: float, dtype: tf.DType, compiled: bool = True):
        self._scale = 1 / math.sqrt(size)
        self._dtype = dtype
        self._rate = rate
        self._drop, self._score_gradient = _attention_programs(heads, self._scale, rate, dtype)
        self.programs = [self._score_gradient, *([self._drop] if rate else [])] if compiled else []
        if not compiled:
            self._drop, self._score_gradient = self._drop.function, self._score_gradient.function

    def __call__(self, query, key, value, hidden, seed) -> tf.Tensor:
        """Returns `[rows, heads, queries, size]`.

        Args:
            query: `[rows, heads, queries, size]`.
            key: `[rows, heads, length, size]`.
            value: As `key`.
            hidden: float32 `[rows, 1, 1, length]`, added to the scores.
            seed: uint32 `[2]`, of the dropout's draw.
        """

        @tf.custom_gradient
        def attend(query, key, value):
            scores = tf.cast(tf.matmul(query, key, transpose_b=True), tf.float32)
            weights = tf.cast(tf.nn.softmax(scores * self._scale + hidden), self._dtype)
            dropped = self._drop(weights, seed) if self._rate else weights
            mixed = tf.matmul(dropped, value)

            def gradient(upstream):
                of_dropped = tf.matmul(upstream, value, transpose_b=True)
                # What softmax subtracts of its gradient: the sum over the keys of weights times
                # their gradients, which is this one over the channels.
                mean = tf.reduce_sum(_float32(upstream) * _float32(mixed), -1, keepdims=True)
                of_scores = self._score_gradient(weights, of_dropped, mean, seed)
                return (
                    tf.matmul(of_scores, key),
                    tf.matmul(of_scores, query, transpose_a=True),
                    tf.matmul(dropped, upstream, transpose_a=True),
                )

            return mixed, gradient

        return attend(query, key, value)


class Drop:
    """Drops channels of tokens; see `kerasllm.models.accelerated.fused_operations.dropout`.

    Args:
        width: Channels.
        rate: The rate.
        dtype: Of what is dropped.
    """

    def __init__(self, width: int, rate: float, dtype: tf.DType):
        self._drop = _drop_program(width, rate, dtype) if rate else None
        self.programs = [self._drop] if rate else []

    def __call__(self, x, seed) -> tf.Tensor:
        """Returns `[rows, length, width]`.

        Args:
            x: `[rows, length, width]`.
            seed: uint32 `[2]`, of the draw.
        """
        if self._drop is None:
            return x

        @tf.custom_gradient
        def drop(x):
            return self._drop(x, seed), lambda upstream: self._drop(upstream, seed)

        return drop(x)


class Add:
    """Adds a product with its bias, after dropout, to the residual.

    Args:
        width: Channels.
        rate: The rate of the dropout.
        dtype: What is added and returned.
    """

    def __init__(self, width: int, rate: float, dtype: tf.DType):
        self._add = _add_program(width, rate, dtype)
        self._drop = Drop(width, rate, dtype)
        self.programs = [self._add, *self._drop.programs]

    def __call__(self, product, bias, x, seed) -> tf.Tensor:
        """Returns `[rows, length, width]`.

        Args:
            product: `[rows, length, width]`.
            bias: float32 `[width]`.
            x: The residual, `[rows, length, width]`.
            seed: uint32 `[2]`, of the dropout's draw.
        """

        @tf.custom_gradient
        def add(product, bias, x):
            def gradient(upstream):
                of_product = self._drop(upstream, seed)
                return of_product, _over_tokens(of_product), upstream

            return self._add(product, bias, x, seed), gradient

        return add(product, bias, x)


class Norm:
    """Normalises the channels of each token.

    Args:
        width: Channels.
        epsilon: Added to the variance.
        dtype: Of what is normalised. Moments and sums are float32.

    Reference:
        [Ba et al., 2016](https://arxiv.org/abs/1607.06450)
    """

    def __init__(self, width: int, epsilon: float, dtype: tf.DType):
        self._epsilon = epsilon
        self.programs = _norm_programs(width, dtype)
        self._norm, self._of_gamma, self._of_x = self.programs

    def __call__(self, x, gamma, beta) -> tf.Tensor:
        """Returns `[rows, length, width]`.

        Args:
            x: `[rows, length, width]`.
            gamma: float32 `[width]`.
            beta: float32 `[width]`.
        """

        @tf.custom_gradient
        def norm(x, gamma, beta):
            wide = _float32(x)
            mean = tf.reduce_mean(wide, -1, keepdims=True)
            variance = tf.reduce_mean(tf.square(wide - mean), -1, keepdims=True)
            inverse = tf.math.rsqrt(variance + self._epsilon)

            def gradient(upstream):
                # Of each token's share in gamma's gradient.
                of_gamma = self._of_gamma(x, mean, inverse, upstream)
                of_beta = _float32(upstream)
                means = (_weighted_mean(each, gamma) for each in (of_beta, of_gamma))
                of_x = self._of_x(x, mean, inverse, upstream, gamma, *means)
                return of_x, _over_tokens(of_gamma), _over_tokens(of_beta)

            return self._norm(x, mean, inverse, gamma, beta), gradient

        return norm(x, gamma, beta)


class Activate:
    """Adds a bias to a product, and activates the sum.

    Args:
        width: Channels.
        function: The activation.
        dtype: Of the product and of what is returned.
    """

    def __init__(self, width: int, function: Callable, dtype: tf.DType):
        self.programs = _activation_programs(width, function, dtype)
        self._activate, self._of_product = self.programs

    def __call__(self, product, bias) -> tf.Tensor:
        """Returns `[tokens, width]`.

        Args:
            product: `[tokens, width]`.
            bias: float32 `[width]`.
        """

        @tf.custom_gradient
        def activate(product, bias):
            def gradient(upstream):
                of_product = self._of_product(product, bias, upstream)
                return of_product, _over_tokens(of_product)

            return self._activate(product, bias), gradient

        return activate(product, bias)


# All layers of a model share their programs.
@functools.cache
def _attention_programs(
    heads: int, scale: float, rate: float, dtype: tf.DType
) -> tuple[Program, Program]:
    def drop(weights, seed):
        return tf.cast(dropout(_float32(weights), rate, seed), dtype)

    def of_scores(weights, of_dropped, mean, seed):
        of_weights = dropout(_float32(of_dropped), rate, seed)
        return tf.cast(_float32(weights) * (of_weights - mean) * scale, dtype)

    scores, row = (dtype, ("rows", heads, "length", "length")), ("rows", heads, "length", 1)
    name = f"{heads}_{rate}_{dtype.name}"
    return (
        Program(drop, f"attention_drop_{name}", [scores, _SEED]),
        Program(
            of_scores,
            f"attention_gradient_{name}_{scale}",
            [scores, scores, (tf.float32, row), _SEED],
        ),
    )


@functools.cache
def _drop_program(width: int, rate: float, dtype: tf.DType) -> Program:
    def drop(x, seed):
        return tf.cast(dropout(_float32(x), rate, seed), dtype)

    return Program(drop, f"drop_{width}_{rate}_{dtype.name}", [_tokens(width, dtype), _SEED])


@functools.cache
def _add_program(width: int, rate: float, dtype: tf.DType) -> Program:
    def add(product, bias, x, seed):
        return tf.cast(dropout(_float32(product) + bias, rate, seed) + _float32(x), dtype)

    tokens = _tokens(width, dtype)
    signature = [tokens, (tf.float32, (width,)), tokens, _SEED]
    return Program(add, f"add_{width}_{rate}_{dtype.name}", signature)


@functools.cache
def _norm_programs(width: int, dtype: tf.DType) -> list[Program]:
    def normed(x, mean, inverse):
        return (_float32(x) - mean) * inverse

    def norm(x, mean, inverse, gamma, beta):
        return tf.cast(normed(x, mean, inverse) * gamma + beta, dtype)

    def of_gamma(x, mean, inverse, upstream):
        return normed(x, mean, inverse) * _float32(upstream)

    def of_x(x, mean, inverse, upstream, gamma, of_beta, of_gamma):
        found = _float32(upstream) * gamma - of_beta - normed(x, mean, inverse) * of_gamma
        return tf.cast(found * inverse, dtype)

    tokens, token = _tokens(width, dtype), (tf.float32, (*_ROWS, 1))
    channels, name = (tf.float32, (width,)), f"{width}_{dtype.name}"
    upstream = tokens
    return [
        Program(norm, f"norm_{name}", [tokens, token, token, channels, channels]),
        Program(of_gamma, f"norm_of_gamma_{name}", [tokens, token, token, upstream]),
        Program(
            of_x, f"norm_of_x_{name}", [tokens, token, token, upstream, channels, token, token]
        ),
    ]


@functools.cache
def _activation_programs(width: int, function: Callable, dtype: tf.DType) -> list[Program]:
    def activate(product, bias):
        return tf.cast(function(_float32(product) + bias), dtype)

    def of_product(product, bias, upstream):
        summed = _float32(product) + bias
        with tf.GradientTape() as tape:
            tape.watch(summed)
            found = function(summed)
        return tf.cast(tape.gradient(found, summed, _float32(upstream)), dtype)

    product, bias = (dtype, ("tokens", width)), (tf.float32, (width,))
    name = f"{getattr(function, '__name__', 'own')}_{width}_{dtype.name}"
    return [
        Program(activate, f"activate_{name}", [product, bias]),
        Program(of_product, f"activate_gradient_{name}", [product, bias, product]),
    ]


_SEED = (tf.uint32, (2,))


def _tokens(width: int, dtype: tf.DType) -> tuple:
    return dtype, (*_ROWS, width)


def _over_tokens(x: tf.Tensor) -> tf.Tensor:
    """Returns the sum over all tokens, float32 `[width]`."""
    return _float32(tf.raw_ops.BiasAddGrad(out_backprop=tf.reshape(x, [-1, x.shape[-1]])))


def _weighted_mean(x: tf.Tensor, weights: tf.Tensor) -> tf.Tensor:
    """Returns the mean over the channels of what is weighted, `[rows, length, 1]`."""
    width = x.shape[-1]
    mean = tf.matmul(tf.reshape(x, [-1, width]), weights[:, None] / width)
    return tf.reshape(mean, [*tf.unstack(tf.shape(x)[:-1]), 1])


def _float32(x: tf.Tensor) -> tf.Tensor:
    return tf.cast(x, tf.float32)
