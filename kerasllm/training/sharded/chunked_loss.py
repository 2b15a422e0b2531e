"""The loss of a language model in pieces, on JAX; see `kerasllm.training.chunked_loss`."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp


def chunked_loss(hidden, y, share, *, head: Callable, loss: Callable, tokens: int):
    """Computes the loss of logits that are made and forgotten a piece at a time.

    The pieces are cut along the length of the rows, which are split over devices: each device has
    its part of every piece. The backward pass makes the logits of a piece again.

    Args:
        hidden: float `[rows, length, width]`, what the last layer gives.
        y: int32 `[rows, length]`, the target tokens.
        share: float32 `[rows, length]`, the part of the loss that each target makes up.
        head: Gives the logits, float32 `[tokens, vocabulary]`, of hidden states `[tokens, width]`.
        loss: A Keras loss on logits whose reduction is `"sum"`.
        tokens: How many tokens a piece has.

    Returns:
        The loss, a float32 scalar, and whether the most likely token is the target, float32
        `[rows, length]`.
    """

    def of_piece(hidden, y, share):
        logits = head(hidden.reshape(-1, hidden.shape[-1]))
        piece = loss(y.reshape(-1), logits, sample_weight=share.reshape(-1))
        hits = jnp.argmax(logits, -1).astype(y.dtype) == y.reshape(-1)
        return piece, hits.astype(jnp.float32).reshape(y.shape)

    total, correct = _in_pieces(of_piece, (hidden, y, share), tokens)
    return jnp.sum(total), jax.lax.stop_gradient(correct)


def chunked_scores(hidden, y, *, head: Callable, tokens: int):
    """Computes the negative log-likelihood of targets, a piece of the logits at a time.

    Args:
        hidden: float `[rows, length, width]`.
        y: int32 `[rows, length]`, the target tokens.
        head: As for `chunked_loss`.
        tokens: How many tokens a piece has.

    Returns:
        The negative log-likelihoods in nats, and whether the most likely token is the target, each
        float32 `[rows, length]`.
    """

    def of_piece(hidden, y):
        logits = head(hidden.reshape(-1, hidden.shape[-1]))
        targets = y.reshape(-1)
        own = jnp.take_along_axis(logits, targets[:, None], axis=-1)[:, 0]
        each = jax.nn.logsumexp(logits, axis=-1) - own
        hits = (jnp.argmax(logits, -1).astype(y.dtype) == targets).astype(jnp.float32)
        return jnp.float32(0), jnp.stack([each.reshape(y.shape), hits.reshape(y.shape)], axis=-1)

    _, found = _in_pieces(of_piece, (hidden, y), tokens)
    return found[..., 0], found[..., 1]


def _in_pieces(of_piece: Callable, arrays: tuple, tokens: int):
    """Returns what a function gives of pieces: its sums, and its values of all tokens."""
    rows, length = arrays[0].shape[:2]
    pieces = -(-length // max(tokens // rows, 1))
    if pieces == 1:
        return of_piece(*arrays)
    size = -(-length // pieces)

    def cut(array):
        tail = array.shape[2:]
        padding = [(0, 0), (0, pieces * size - length), *[(0, 0)] * len(tail)]
        parts = jnp.pad(array, padding).reshape(rows, pieces, size, *tail)
        return jnp.moveaxis(parts, 1, 0)

    again = jax.checkpoint(lambda _, part: (None, of_piece(*part)))
    _, (sums, values) = jax.lax.scan(again, None, tuple(cut(array) for array in arrays))
    values = jnp.moveaxis(values, 0, 1)
    return jnp.sum(sums), values.reshape(rows, pieces * size, *values.shape[3:])[:, :length]
