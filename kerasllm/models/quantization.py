"""Matrices in 8 or 4 bits a weight, and products with them.

Only the weights are quantized: a product brings them back to the dtype of its other side, in
pieces that are let go. They do not train.
"""

from __future__ import annotations

from dataclasses import dataclass

import keras
import numpy as np
import tensorflow as tf

if keras.config.backend() == "jax":
    from kerasllm.training.sharded import quantized as on_jax
else:
    on_jax = None

# How many weights, one below another in a column, share a scale in 4 bits.
BLOCK = 64
KINDS = ("int8", "int4")


@dataclass(frozen=True)
class Quantized:
    """A quantized matrix, its parts tensors, arrays or variables.

    Attributes:
        kind: `"int8"` or `"int4"`.
        values: int8 `[inputs, outputs]`; or uint8 `[blocks * BLOCK / 2, outputs]`, where byte `i`
            holds row `i` in its low half and row `i + blocks * BLOCK / 2` in its high one.
        scales: float32 `[outputs]`; or float16 `[blocks, outputs]`.
        inputs: The number of rows of the matrix.
    """

    kind: str
    values: object
    scales: object
    inputs: int

    def dequantized(self, dtype: str = "float32"):
        """Returns the matrix, `[inputs, outputs]`: what every product computes with."""
        if on_jax:
            return on_jax.dequantized(self.kind, self.values, self.scales, self.inputs, dtype)
        if self.kind == "int8":
            return tf.cast(self.values, dtype) * tf.cast(self.scales, dtype)[None]
        return _four_bits(self.values, self.scales, self.inputs, dtype)

    def product(self, rows):
        """Returns `rows @ matrix`, `[rows, outputs]`, in the dtype of `rows`.

        The backward pass dequantizes again, so that no copy is held until then. There is a
        gradient for `rows` only.
        """
        if on_jax:
            return on_jax.product(self.kind, self.values, self.scales, self.inputs, rows)
        values, scales = (
            tf.convert_to_tensor(self.values),
            tf.convert_to_tensor(self.scales),
        )
        compute = _product_int8 if self.kind == "int8" else _product_int4

        # Values and scales as they are, not as arguments: those would need gradients.
        @tf.custom_gradient
        def with_gradient(rows):
            outputs = compute(rows, values, scales, transpose=False)

            def gradient(upstream):
                # Later than `upstream`, or the graph's optimizer would make one of both
                # dequantizations and hold on to what it gives.
                with tf.control_dependencies([upstream]):
                    again = tf.identity(values)
                return compute(upstream, again, scales, transpose=True, inputs=self.inputs)

            return outputs, gradient

        return with_gradient(rows)


def quantize(matrix: np.ndarray, kind: str) -> Quantized:
    """Quantizes a matrix, each weight to the nearest of its scale's levels.

    In 8 bits an output has one scale, and 255 levels around 0. In 4 bits each `BLOCK` weights of
    an output have a scale, and 16 levels from -8 to 7 times it; the scale takes the sign that
    makes the largest weight -8. What was quantized and dequantized comes out the same if that is
    done again, to the rounding of the scales.

    Args:
        matrix: `[inputs, outputs]`, finite.
        kind: `"int8"` or `"int4"`.

    Returns:
        Arrays. An entry is off by half its scale at most; in 4 bits by a whole one where a block
        holds a weight as large as its largest, of the other sign.
    """
    matrix = np.asarray(matrix, "float32")
    inputs, outputs = matrix.shape
    if kind == "int8":
        scales = np.abs(matrix).max(0) / 127
        values = np.round(_divided(matrix, scales)).astype("int8")
        return Quantized(kind, values, scales, inputs)
    padded = np.pad(matrix, [(0, -inputs % BLOCK), (0, 0)]).reshape(-1, BLOCK, outputs)
    largest = np.take_along_axis(padded, np.abs(padded).argmax(1)[:, None], 1)
    scales = (largest / -8).astype("float16")
    levels = np.round(_divided(padded, scales.astype("float32"))).clip(-8, 7) + 8
    low, high = np.split(levels.astype("uint8").reshape(-1, outputs), 2)
    return Quantized(kind, low | high << 4, scales[:, 0], inputs)


def _divided(values: np.ndarray, scales: np.ndarray) -> np.ndarray:
    return np.divide(values, scales, out=np.zeros_like(values), where=scales != 0)


def _product_int8(rows, values, scales, *, transpose, inputs=None):
    # Every int8 is exact in bfloat16, and scaling the rows is less work than the matrix.
    matrix, scales = tf.cast(values, rows.dtype), tf.cast(scales, rows.dtype)
    if transpose:
        return tf.matmul(rows * scales, matrix, transpose_b=True)
    return tf.matmul(rows, matrix) * scales


def _product_int4(rows, values, scales, *, transpose, inputs=None):
    inputs = rows.shape[-1] if inputs is None else inputs
    matrix = _four_bits(values, scales, inputs, rows.dtype)
    return tf.matmul(rows, matrix, transpose_b=transpose)


def _four_bits(values, scales, inputs: int, dtype) -> tf.Tensor:
    scales = tf.cast(scales, dtype)
    blocks, outputs = scales.shape
    values = tf.convert_to_tensor(values)
    halves = tf.concat([values & 15, tf.bitwise.right_shift(values, tf.constant(4, "uint8"))], 0)
    levels = tf.cast(tf.reshape(halves, [blocks, BLOCK, outputs]), dtype) - 8
    return tf.reshape(levels * scales[:, None], [-1, outputs])[:inputs]
