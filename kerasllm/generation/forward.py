"""The forward pass of a decoder with a cache of keys and values, as pure functions.

`prefill` reads whole prompts, `step` one token of each row. Prompts of a batch are padded at
their end to a common length P, and generated tokens follow in slots P, P + 1, ... of the cache, the
same for every row. So a row's position in its own text is not its slot, and a mask hides the
padding: a row computes what it would compute alone.
"""

from __future__ import annotations

import math

import tensorflow as tf

from kerasllm.generation.packed import packed_product
from kerasllm.generation.threads import parts_of
from kerasllm.generation.weights import Architecture

HIDDEN = -1e9
Cache = list[tuple[tf.Tensor, tf.Tensor]]


def prefill(
    architecture: Architecture, weights: dict, token_ids, lengths, slots: int
) -> tuple[tf.Tensor, Cache]:
    """Reads prompts.

    Args:
        architecture: What the decoder computes.
        weights: Of `read_weights`.
        token_ids: int32 `[rows, P]`, each row padded at its end.
        lengths: int32 `[rows]`: the tokens of each prompt, at least 1.
        slots: The size of the cache, at least P.

    Returns:
        The logits after each prompt, float32 `[rows, vocabulary]`, and the cache: for each layer
        keys and values, `[rows, key and value heads, slots, size]`.
    """
    rows, length = _sizes(token_ids)
    positions = tf.range(length)[None, :]
    place = places(architecture, weights, tf.broadcast_to(positions, [rows, length]))
    distance = positions[0][:, None] - positions[0][None, :]
    visible = (distance >= 0)[None] & (positions < lengths[:, None])[:, None, :]
    if architecture.window:
        visible &= (distance < architecture.window)[None]
    hidden = tf.where(visible, 0.0, HIDDEN)[:, None, None]
    cache = []

    def attend(query, key, value):
        query, key, value = (_heads_first(each) for each in (query, key, value))
        space = [[0, 0], [0, 0], [0, slots - length], [0, 0]]
        cache.append((tf.pad(key, space), tf.pad(value, space)))
        # The heads that share a key come after it: [rows, key heads, queries each, length, size].
        shape = [rows, architecture.key_value_heads, -1, length, architecture.head_size]
        mixed = _attention(tf.reshape(query, shape), key[:, :, None], value[:, :, None], hidden)
        mixed = tf.reshape(mixed, [rows, architecture.heads, length, architecture.head_size])
        return tf.transpose(mixed, [0, 2, 1, 3])

    x = embed(architecture, weights, token_ids, place)
    x = blocks(architecture, weights, tf.reshape(x, [rows * length, -1]), place, attend, rows)
    last = tf.gather(x, tf.range(rows) * length + lengths - 1)
    return logits(architecture, weights, last), cache


def step(
    architecture: Architecture,
    weights: dict,
    cache: Cache,
    token_ids,
    slot,
    prompt: int,
    lengths,
    packed: bool = False,
) -> tuple[tf.Tensor, Cache]:
    """Reads one more token of each row.

    Args:
        architecture: What the decoder computes.
        weights: Of `read_weights`.
        cache: Of the call before.
        token_ids: int32 `[rows]`.
        slot: int32, scalar or `[rows]`: where in the cache they go.
        prompt: P, the slots of the prompts. With P and lengths of 0 a row has nothing to skip, and
            its slot is its position.
        lengths: int32 `[rows]`: the tokens of each prompt.
        packed: Whether the matrices are the same in every call, and kept as the kernels read them;
            see `kerasllm.generation.packed`. Defaults to `False`.

    Returns:
        The logits after the tokens, float32 `[rows, vocabulary]`, and the cache with them.
    """
    rows, slots = _sizes(token_ids)[0], _sizes(cache[0][0])[2]
    slot = tf.reshape(slot, [-1, 1])
    position = lengths + slot[:, 0] - prompt
    place = places(architecture, weights, position[:, None])
    numbers = tf.range(slots)[None, :]
    own = numbers - prompt + lengths[:, None]
    visible = (numbers < lengths[:, None]) | ((numbers >= prompt) & (numbers <= slot))
    if architecture.window:
        distance = position[:, None] - tf.where(numbers < prompt, numbers, own)
        visible &= distance < architecture.window
    hidden = tf.where(visible, 0.0, HIDDEN)[:, None, None]
    cache = list(cache)
    layers = iter(range(len(cache)))

    def attend(query, key, value):
        number = next(layers)
        keys, values = (_written(old, slot, new) for old, new in zip(cache[number], (key, value)))
        cache[number] = keys, values
        shape = [rows, architecture.key_value_heads, -1, architecture.head_size]
        return _attention(tf.reshape(query, shape), keys, values, hidden)

    x = embed(architecture, weights, token_ids, place)
    x = blocks(architecture, weights, x, place, attend, rows, packed)
    return logits(architecture, weights, x, packed), cache


def embed(architecture: Architecture, weights: dict, token_ids, place):
    """Returns the embeddings of tokens, with their positions where these are added.

    Args:
        architecture: What the decoder computes.
        weights: Of `read_weights`.
        token_ids: int32 `[rows]` or `[rows, length]`.
        place: Of `places`.
    """
    x = tf.gather(weights["embedding"], token_ids)
    return x if architecture.rotary else x + tf.reshape(place, tf.shape(x))


def places(architecture: Architecture, weights: dict, positions):
    """Returns what positions are made known with: `[rows, length, ...]`.

    Cosines and signed sines that turn the heads, or what is added to the embeddings.

    Args:
        architecture: What the decoder computes.
        weights: Of `read_weights`.
        positions: int32 `[rows, length]`.
    """
    if not architecture.rotary:
        # A row that has ended continues with the others, and may go past the last position.
        known = weights["positions"].shape[0]
        return tf.gather(weights["positions"], tf.minimum(positions, known - 1))
    angles = tf.cast(positions, tf.float32)[:, :, None, None] * weights["frequencies"]
    cosine, sine = tf.cos(angles), tf.sin(angles)
    both = tf.concat([cosine, cosine], -1), tf.concat([-sine, sine], -1)
    return tuple(tf.cast(each, architecture.dtype) for each in both)


def blocks(architecture: Architecture, weights: dict, x, place, attend, rows, packed=False):
    """Returns the hidden states `[rows * length, width]` after all layers.

    Args:
        architecture: What the decoder computes.
        weights: Of `read_weights`.
        x: `[rows * length, width]`, of `embed`.
        place: Of `places`.
        attend: Called in each layer with its queries, keys and values, each
            `[rows, length, heads, size]`; returns what the queries gather, of their shape.
        rows: How many.
        packed: See `step`. Defaults to `False`.
    """
    heads, shared = architecture.heads, architecture.key_value_heads
    shape = [rows, -1, heads + 2 * shared, architecture.head_size]
    for block in weights["blocks"]:
        normed = norm(architecture, block["attention_norm"], x)
        whole = tf.reshape(dense(block["query_key_value"], normed, packed), shape)
        # Together: for a token, operations take longer to start than to run.
        turned = whole[:, :, : heads + shared]
        if "query_norm" in block:
            query = norm(architecture, block["query_norm"], turned[:, :, :heads])
            key = norm(architecture, block["key_norm"], turned[:, :, heads:])
            turned = tf.concat([query, key], 2)
        if architecture.rotary:
            turned = _turned(turned, *place)
        query, key = tf.split(turned, [heads, shared], 2)
        mixed = attend(query, key, whole[:, :, heads + shared :])
        mixed = tf.reshape(mixed, [-1, heads * architecture.head_size])
        x += dense(block["attention_output"], mixed, packed)
        normed = norm(architecture, block["feedforward_norm"], x)
        inner = dense(block["feedforward"], normed, packed)
        if architecture.gated:
            # In float32, and the sigmoid last: bfloat16 products are slow, and TensorFlow makes of
            # `gate * sigmoid(gate)` an op that wakes all threads for so little.
            gate, inner = tf.split(tf.cast(inner, tf.float32), 2, -1)
            inner = tf.cast(inner * gate * tf.sigmoid(gate), architecture.dtype)
        else:
            inner = tf.nn.gelu(inner, approximate=True)
        x += dense(block["feedforward_output"], inner, packed)
    return x


def _attention(query, key, value, hidden):
    """Returns `[..., queries, size]` for queries of this shape; softmax is in float32."""
    scores = tf.matmul(query, key, transpose_b=True)
    scores = tf.cast(scores, tf.float32) / math.sqrt(query.shape[-1]) + hidden
    return tf.matmul(tf.cast(tf.nn.softmax(scores), value.dtype), value)


def _written(cache, slot, new):
    """Returns a cache `[rows, heads, slots, size]` with `[rows, 1, heads, size]` in a slot."""
    rows, heads, slots, size = _sizes(cache)
    flat = tf.reshape(cache, [rows * heads * slots, size])
    where = tf.reshape(tf.range(rows * heads), [rows, heads]) * slots + slot
    new = tf.reshape(new, [rows * heads, size])
    written = tf.tensor_scatter_nd_update(flat, tf.reshape(where, [-1, 1]), new)
    return tf.reshape(written, [rows, heads, slots, size])


def _sizes(tensor) -> list:
    """Returns the sizes of a tensor: a number, or a scalar tensor if it is unknown yet."""
    known, found = tensor.shape, tf.shape(tensor)
    return [found[i] if size is None else size for i, size in enumerate(known)]


def _turned(heads, cosine, sine):
    first, second = tf.split(heads, 2, -1)
    return heads * cosine + tf.concat([second, first], -1) * sine


def norm(architecture, weights: dict, x):
    """Returns a layer norm, or an RMS norm where there is no `bias`, computed in float32.

    Args:
        architecture: Has `epsilon`, and the `dtype` of what is returned.
        weights: `scale`, and maybe `bias`, float32 `[width]`.
        x: `[..., width]`.
    """
    x = tf.cast(x, tf.float32)
    if "bias" in weights:
        x -= tf.reduce_mean(x, -1, keepdims=True)
    mean = tf.reduce_mean(tf.square(x), -1, keepdims=True)
    x = x * tf.math.rsqrt(mean + architecture.epsilon) * weights["scale"]
    return tf.cast(x + weights["bias"] if "bias" in weights else x, architecture.dtype)


def dense(weights: dict, x, packed: bool = False):
    """Returns the product with `weight` `[outputs, inputs]`, and the sum with `bias`, if any.

    Where a core computes each operation, it is one product for each core; see
    `kerasllm.generation.threads`.
    """
    parts = parts_of(weights["weight"])
    if parts == 1:
        return _product(weights["weight"], weights.get("bias"), x, packed)
    # Of a matrix that is cut across its rows the parts are not copied.
    matrices = tf.split(weights["weight"], parts)
    biases = tf.split(weights["bias"], parts) if "bias" in weights else [None] * parts
    return tf.concat([_product(*part, x, packed) for part in zip(matrices, biases)], -1)


def _product(weight, bias, x, packed):
    if packed:
        return packed_product(x, weight, bias)
    x = tf.matmul(x, weight, transpose_b=True)
    return x if bias is None else tf.nn.bias_add(x, bias)


def logits(architecture: Architecture, weights: dict, x, packed: bool = False):
    """Returns the logits, float32 `[rows, vocabulary]`, of hidden states `[rows, width]`."""
    x = norm(architecture, weights["norm"], x)
    return tf.cast(dense({"weight": weights["head"]}, x, packed), tf.float32)


def _heads_first(heads):
    return tf.transpose(heads, [0, 2, 1, 3])
