"""Products with quantized matrices, on JAX; see `kerasllm.models.quantization`."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp


def dequantized(kind: str, values, scales, inputs: int, dtype) -> jax.Array:
    """Returns the matrix, `[inputs, outputs]`.

    Args:
        kind: See `kerasllm.models.quantization.Quantized`.
        values: As there.
        scales: As there.
        inputs: As there.
        dtype: Of the matrix.
    """
    values, scales = jnp.asarray(values), jnp.asarray(scales).astype(dtype)
    if kind == "int8":
        return values.astype(dtype) * scales[None]
    # The halves are a dimension of their own: where the rows are split, each device unpacks its own
    # part. Of halves that are concatenated, every device would unpack all.
    halves = (values[None] >> jnp.array([0, 4], values.dtype)[:, None, None]) & 15
    blocks, outputs = scales.shape
    levels = halves.reshape(blocks, -1, outputs).astype(dtype) - 8
    return (levels * scales[:, None]).reshape(-1, outputs)[:inputs]


def product(kind: str, values, scales, inputs: int, rows) -> jax.Array:
    """Returns `rows @ matrix`, `[rows, outputs]`, in the dtype of `rows`.

    The backward pass dequantizes again, so that no copy is held until then. There is a gradient
    for `rows` only.

    Args:
        kind: See `dequantized`.
        values: As there.
        scales: As there.
        inputs: As there.
        rows: float `[rows, inputs]`.
    """
    return _product(kind, inputs, rows, jnp.asarray(values), jnp.asarray(scales))


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _product(kind, inputs, rows, values, scales):
    if kind == "int8":
        # Every int8 is exact in bfloat16, and scaling the rows is less work than the matrix.
        return jnp.matmul(rows, values.astype(rows.dtype)) * scales.astype(rows.dtype)
    return jnp.matmul(rows, dequantized(kind, values, scales, inputs, rows.dtype))


def _forward(kind, inputs, rows, values, scales):
    return _product(kind, inputs, rows, values, scales), (values, scales)


def _backward(kind, inputs, held, upstream):
    values, scales = held
    dtype = upstream.dtype
    if kind == "int8":
        of_rows = jnp.matmul(upstream * scales.astype(dtype), values.astype(dtype).T)
    else:
        of_rows = jnp.matmul(upstream, dequantized(kind, values, scales, inputs, dtype).T)
    return of_rows, None, None


_product.defvjp(_forward, _backward)
