"""The forward pass of a decoder that reads a source, with caches, as pure functions.

`remember` computes the keys and values of a source once, `step` reads one token of each row. A
source has a row for each beam, one after the other. Its beams share what is remembered of it, and
the cache: a beam reads its own past out of the cells of all beams, by a table that says in which
beam's cell each of its past tokens lies. So beams that change places move numbers, and no keys.
"""

from __future__ import annotations

import tensorflow as tf

from kerasllm.generation.encoder_decoder.weights import Architecture
from kerasllm.generation.forward import dense, norm

_HIDDEN = -1e9


def remember(architecture: Architecture, weights: dict, encoded, padding_mask) -> dict:
    """Returns what cross-attention reads of sources.

    Args:
        architecture: What the decoder computes.
        weights: Of `read_weights`.
        encoded: The encoder's output, `[sources, length, width]`.
        padding_mask: int32 `[sources, length]`, 1 for a token.

    Returns:
        `layers`: keys and values of each layer, `[sources, heads, length, size]`; and `hidden`:
        what is added to scores, `[sources, 1, 1, length]`.
    """
    sources, length = tf.shape(encoded)[0], tf.shape(encoded)[1]
    flat = tf.reshape(encoded, [-1, encoded.shape[-1]])
    layers = []
    for block in weights["blocks"]:
        both = dense(block["cross_key_value"], flat)
        shape = [sources, length, 2, architecture.heads, architecture.head_size]
        both = tf.transpose(tf.reshape(both, shape), [2, 0, 3, 1, 4])
        layers.append((both[0], both[1]))
    hidden = tf.where(padding_mask > 0, 0.0, _HIDDEN)[:, None, None, :]
    return {"layers": layers, "hidden": hidden}


def empty_cache(architecture: Architecture, weights: dict, sources, beams: int, slots) -> dict:
    """Returns the cache of rows that have read nothing.

    Args:
        architecture: What the decoder computes.
        weights: Of `read_weights`.
        sources: The number of sources, int or int32.
        beams: The number of rows of each.
        slots: How many tokens a row may read, int or int32.

    Returns:
        `layers`: keys and values of each layer, `[sources, heads, slots, beams * size]`; and
        `cells`: in which beam's cell a beam's past tokens are, int32 `[sources, beams, slots]`.
    """
    shape = tf.stack([sources, architecture.heads, slots, beams * architecture.head_size])
    cells = tf.broadcast_to(tf.range(beams)[None, :, None], tf.stack([sources, beams, slots]))
    return {
        "layers": [
            tuple(tf.zeros(shape, architecture.dtype) for _ in range(2)) for _ in weights["blocks"]
        ],
        "cells": tf.ensure_shape(cells, [None, beams, None]),
    }


def step(
    architecture: Architecture, weights: dict, memory: dict, cache: dict, token_ids, slot
) -> tuple[tf.Tensor, dict]:
    """Reads one more token of each row.

    Args:
        architecture: What the decoder computes.
        weights: Of `read_weights`.
        memory: Of `remember`.
        cache: Of the call before, or `empty_cache`.
        token_ids: int32 `[sources * beams]`.
        slot: int32: how many tokens were read before.

    Returns:
        The logits after the tokens, float32 `[sources * beams, vocabulary]`, and the cache with
        them.
    """
    heads, size = architecture.heads, architecture.head_size
    beams = cache["cells"].shape[1]
    numbers = tf.range(tf.shape(cache["cells"])[2])
    own = tf.range(beams)[None, :, None]
    cells = tf.where(numbers == slot, own, cache["cells"])
    hidden = _hidden_past(weights, cells, numbers, slot, beams)
    layers = []

    def by_source(rows):
        """Returns rows `[sources * beams, heads * size]` as `[sources, heads, beams, size]`."""
        return tf.transpose(tf.reshape(rows, [-1, beams, heads, size]), [0, 2, 1, 3])

    def attention(query, keys, values, hidden):
        scores = tf.cast(tf.matmul(query, keys, transpose_b=True), tf.float32)
        weights = tf.nn.softmax(scores * architecture.score_scale + hidden)
        mixed = tf.matmul(tf.cast(weights, values.dtype), values)
        return tf.reshape(tf.transpose(mixed, [0, 2, 1, 3]), [-1, heads * size])

    def look_back(block, x, past):
        query, *new = (
            by_source(each) for each in tf.split(dense(block["self_query_key_value"], x), 3, -1)
        )
        past = tuple(_written(old, slot, each) for old, each in zip(past, new, strict=True))
        layers.append(past)
        # The cells of all beams, slot by slot.
        keys, values = (
            tf.reshape(each, [-1, heads, tf.shape(each)[2] * beams, size]) for each in past
        )
        return dense(block["self_output"], attention(query, keys, values, hidden))

    def look_at_source(block, x, remembered):
        query = by_source(dense(block["cross_query"], x))
        mixed = attention(query, *remembered, memory["hidden"])
        return dense(block["cross_output"], mixed)

    def feed_forward(block, x):
        inner = dense(block["feedforward"], x)
        if architecture.gated:
            inner, gate = tf.split(inner, 2, -1)
            inner = architecture.activation(inner) * gate
        else:
            inner = architecture.activation(inner)
        return dense(block["feedforward_output"], inner)

    def added(x, weights, compute, *arguments):
        if architecture.normalizes_first:
            return x + compute(*arguments[:1], norm(architecture, weights, x), *arguments[1:])
        return norm(architecture, weights, x + compute(*arguments[:1], x, *arguments[1:]))

    x = _embedded(architecture, weights, token_ids, slot)
    for block, past, remembered in zip(
        weights["blocks"], cache["layers"], memory["layers"], strict=True
    ):
        x = added(x, block["self_norm"], look_back, block, past)
        x = added(x, block["cross_norm"], look_at_source, block, remembered)
        x = added(x, block["feedforward_norm"], feed_forward, block)
    return _logits(architecture, weights, x), {"layers": layers, "cells": cells}


def reordered(cache: dict, parents) -> dict:
    """Returns the cache of beams that continue others of their source.

    Args:
        cache: Of `step`.
        parents: int32 `[sources, beams]`: the beam that each one continues.
    """
    beams = cache["cells"].shape[1]
    if beams == 1:
        return cache
    return {**cache, "cells": tf.gather(cache["cells"], parents, batch_dims=1)}


def _hidden_past(weights: dict, cells, numbers, slot, beams: int):
    """Returns what is added to the scores of all cells, `[sources, heads or 1, beams, cells]`."""
    seen = numbers <= slot
    hidden = tf.where(seen, 0.0, _HIDDEN)[None, None, None, :, None]
    if "distances" in weights:
        table = weights["distances"]
        back = tf.clip_by_value(slot - numbers, 0, table.shape[0] - 1)
        hidden += tf.transpose(tf.gather(table, back))[None, :, None, :, None]
    if beams > 1:
        own = cells[..., None] == tf.range(beams)
        hidden += tf.where(own, 0.0, _HIDDEN)[:, None]
    shape = tf.shape(hidden)
    return tf.reshape(hidden, [shape[0], shape[1], shape[2], -1])


def _embedded(architecture: Architecture, weights: dict, token_ids, slot):
    x = tf.gather(weights["embedding"], token_ids)
    if architecture.embedding_scale != 1.0:
        x *= tf.cast(architecture.embedding_scale, x.dtype)
    if "positions" in weights:
        # A row that has ended continues with the others, and may go past the last position.
        x += weights["positions"][tf.minimum(slot, weights["positions"].shape[0] - 1)]
    if "embedding_norm" in weights:
        x = norm(architecture, weights["embedding_norm"], x)
    return x


def _logits(architecture: Architecture, weights: dict, x):
    if "norm" in weights:
        x = norm(architecture, weights["norm"], x)
    if architecture.hidden_scale != 1.0:
        x *= tf.cast(architecture.hidden_scale, x.dtype)
    logits = tf.cast(dense({"weight": weights["head"]}, x), tf.float32)
    if architecture.logits_soft_cap is not None:
        logits = tf.tanh(logits / architecture.logits_soft_cap) * architecture.logits_soft_cap
    return logits + weights["head_bias"] if "head_bias" in weights else logits


def _written(past, slot, new):
    """Returns a cache `[sources, heads, slots, beams * size]` with new cells in a slot.

    Args:
        past: The cache.
        slot: int32.
        new: `[sources, heads, beams, size]`.
    """
    shape = tf.shape(past)
    places = tf.range(shape[0] * shape[1]) * shape[2] + slot
    cells = past.shape[-1]
    flat, rows = tf.reshape(past, [-1, cells]), tf.reshape(new, [-1, cells])
    written = tf.tensor_scatter_nd_update(flat, places[:, None], rows)
    # A loop must not lose the sizes that are known.
    return tf.ensure_shape(tf.reshape(written, shape), past.shape)
