"""Matrix products with constant weights, packed once in the layout of the CPU's kernel.

For a few rows oneDNN spends more time on laying out a matrix than on multiplying by it: in bfloat16
it takes twice as long as the product. TensorFlow keeps what was laid out where it knows that the
matrix is constant. That is known of weights in the graph, which would then be in it once for each
function; `packed_product` says it of weights that are given, by the op that TensorFlow's own
optimizer would put there.
"""

from __future__ import annotations

import functools

import numpy as np
import tensorflow as tf
from tensorflow.python.framework import ops

_OP = "_MklNativeFusedMatMul"


def packed_product(x: tf.Tensor, weight: tf.Tensor, bias: tf.Tensor | None = None) -> tf.Tensor:
    """Multiplies by a matrix that is the same in every call of the function that this stands in.

    The matrix of the first call is kept in a new layout: as much memory again. Matrices given
    later are ignored. Only where `can_pack` says so, in a `tf.function`, without
    XLA.

    Args:
        x: `[rows, inputs]`.
        weight: `[outputs, inputs]`, of the same dtype.
        bias: `[outputs]`. Defaults to `None`.

    Returns:
        `[rows, outputs]`, of the same dtype; sums are float32.
    """
    bias = tf.zeros([weight.shape[0]], weight.dtype) if bias is None else bias
    value = tf.compat.v1.AttrValue
    attributes = {
        "T": value(type=weight.dtype.as_datatype_enum),
        "transpose_a": value(b=False),
        "transpose_b": value(b=True),
        "num_args": value(i=1),
        "fused_ops": value(list=value.ListValue(s=[b"BiasAdd"])),
        "is_filter_const": value(b=True),
        "_kernel": value(s=b"MklNameChangeOp"),
    }
    made = ops.get_default_graph().create_op(
        _OP, [x, weight, bias], [weight.dtype], attrs=attributes, name="packed_product"
    )
    (product,) = made.outputs
    product.set_shape([x.shape[0], weight.shape[0]])
    return product


@functools.cache
def can_pack(dtype: str) -> bool:
    """Returns whether `packed_product` works here: on processors that oneDNN serves.

    Tried out, since the op is not one of those that TensorFlow promises to keep.

    Args:
        dtype: Of the weights.
    """
    if tf.config.list_logical_devices("GPU") or tf.config.list_logical_devices("TPU"):
        return False
    numbers = np.arange(-32, 32, dtype="float32")
    x = tf.cast(numbers.reshape(2, 32) / 32, dtype)
    weight = tf.cast(np.tile(numbers, 8).reshape(16, 32) / 32, dtype)
    try:
        product = tf.function(packed_product, autograph=False)(x, weight)
    except (tf.errors.OpError, ValueError, TypeError, AttributeError):
        return False
    expected = tf.cast(x, tf.float32) @ tf.transpose(tf.cast(weight, tf.float32))
    return bool(tf.reduce_all(tf.abs(tf.cast(product, tf.float32) - expected) < 0.2))
