"""The forward pass of a decoder over rows that grow in place, each at its own length.

`kerasllm.generation.forward` computes prompts of one batch from their first token on, and then a
token of each row at the same slot. Here any row may be given any number of tokens after any number
that it has: the next token of an answer, a prompt, or what follows a beginning that was computed
before. All keys and values are one tensor, which is written in place where TensorFlow can: a copy
of it for each token would take a third of the time of a step of 32 rows.
"""

from __future__ import annotations

import functools

import tensorflow as tf

from kerasllm.generation import forward
from kerasllm.generation.weights import Architecture


def new_cache(architecture: Architecture, layers: int, rows: int, slots: int) -> tf.Tensor:
    """Returns an empty cache: `[2 * layers, rows, key and value heads, slots, head size]`.

    Keys of a layer are followed by its values. The slot of a token is its position.
    """
    shape = [2 * layers, rows, architecture.key_value_heads, slots, architecture.head_size]
    return tf.zeros(shape, architecture.dtype)


def extend(
    architecture: Architecture,
    weights: dict,
    cache: tf.Tensor,
    token_ids: tf.Tensor,
    starts: tf.Tensor,
    lengths: tf.Tensor,
    packed: bool = False,
) -> tuple[tf.Tensor, tf.Tensor]:
    """Reads more tokens of each row.

    Args:
        architecture: What the decoder computes.
        weights: Of `kerasllm.generation.weights.read_weights`.
        cache: Of `new_cache`, or of the call before. It may be overwritten, so nothing else may
            read it afterwards.
        token_ids: int32 `[rows, L]`, each row padded at its end. Padding is written to the cache
            after the row's tokens, where no token attends to it before it is overwritten.
        starts: int32 `[rows]`: how many tokens the cache has of each row. There must be L slots
            from there on.
        lengths: int32 `[rows]`: how many of the given tokens are no padding, at least 1.
        packed: See `kerasllm.generation.packed`. Defaults to `False`.

    Returns:
        The logits after the last token of each row, float32 `[rows, vocabulary]`, and the cache
        with the tokens.
    """
    rows, length = tf.shape(token_ids)[0], tf.shape(token_ids)[1]
    slots, heads = tf.shape(cache)[3], architecture.key_value_heads
    each = architecture.heads // heads
    positions = starts[:, None] + tf.range(length)
    place = forward.places(architecture, weights, positions)
    # [rows, queries, slots]
    distance = positions[:, :, None] - tf.range(slots)
    visible = distance >= 0
    if architecture.window:
        visible &= distance < architecture.window
    hidden = tf.where(visible, 0.0, forward.HIDDEN)[:, None, None]
    # Where the keys and values of a layer go, in a cache whose first dimensions are one.
    row_heads = tf.range(rows)[:, None] * heads + tf.range(heads)
    where = row_heads[:, None] * slots + positions[:, :, None]
    of_a_layer = rows * heads * slots
    shape, flat = tf.shape(cache), tf.reshape(cache, [-1, architecture.head_size])
    layers = iter(range(cache.shape[0]))

    def written(new):
        """Writes `[rows, L, heads, size]` to the next part of the cache, and returns that part."""
        nonlocal flat
        part = next(layers)
        flat = _write(flat, tf.reshape(where + part * of_a_layer, [-1]), new)
        return tf.reshape(flat, shape)[part]

    def attend(query, key, value):
        keys, values = written(key), written(value)
        # The queries of the heads that share a key stand side by side.
        query = tf.reshape(query, [rows, length, heads, each, architecture.head_size])
        query = tf.transpose(query, [0, 2, 3, 1, 4])
        query = tf.reshape(query, [rows, heads, each * length, architecture.head_size])
        scores = tf.matmul(query, keys, transpose_b=True)
        scores = tf.reshape(tf.cast(scores, tf.float32), [rows, heads, each, length, slots])
        scores = scores * architecture.head_size**-0.5 + hidden
        shares = tf.cast(tf.nn.softmax(scores), architecture.dtype)
        mixed = tf.matmul(tf.reshape(shares, [rows, heads, each * length, slots]), values)
        mixed = tf.reshape(mixed, [rows, heads, each, length, architecture.head_size])
        return tf.transpose(mixed, [0, 3, 1, 2, 4])

    x = forward.embed(architecture, weights, token_ids, place)
    x = tf.reshape(x, [rows * length, x.shape[-1]])
    x = forward.blocks(architecture, weights, x, place, attend, rows, packed)
    last = tf.gather(x, tf.range(rows) * length + lengths - 1)
    return forward.logits(architecture, weights, last, packed), tf.reshape(flat, shape)


def _write(flat, where, new):
    """Returns `[places, size]` with new values at some places."""
    new = tf.reshape(new, [-1, flat.shape[-1]])
    if can_write_in_place(flat.dtype):
        return tf.raw_ops.InplaceUpdate(x=flat, i=where, v=new)
    return tf.tensor_scatter_nd_update(flat, where[:, None], new)


@functools.cache
def can_write_in_place(dtype: tf.DType) -> bool:
    """Returns whether `InplaceUpdate` writes to its argument itself here: on processors.

    Tried out, since the op is deprecated.
    """
    if tf.config.list_logical_devices("GPU") or tf.config.list_logical_devices("TPU"):
        return False
    write = tf.function(lambda x, i, v: tf.raw_ops.InplaceUpdate(x=x, i=i, v=v), autograph=False)
    with tf.init_scope():
        x, new = tf.zeros([4, 16], dtype), tf.ones([1, 16], dtype)
        try:
            made = write(x, tf.constant([2]), new)
        except (tf.errors.OpError, ValueError, AttributeError):
            return False
        expected = tf.one_hot([4, 4, 0, 4], 1, dtype=dtype) * new
        return bool(tf.reduce_all(made == expected) & tf.reduce_all(x == expected))
