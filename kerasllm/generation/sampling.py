"""Choosing the next token: pure functions of logits, which give transformers' numbers.

Each filter leaves the logits of the tokens that may come and sets the others to minus infinity.
They are applied in transformers' order: repetition penalty, temperature, top-k, top-p, min-p.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import tensorflow as tf

from kerasllm.generation.settings import GenerationSettings


@dataclass(frozen=True)
class Sampler:
    """Which filters a compiled function applies; their numbers come with each call.

    Attributes:
        draws: Whether tokens are drawn; else the most likely one is taken.
        penalizes: Whether there is a repetition penalty.
        top_k: How many of the largest logits a top-k is found among, or `None`: there is no top-k.
            The next power of 2 above it, so that there are few such functions.
        top_p: Whether there is a top-p.
        min_p: Whether there is a min-p.
    """

    draws: bool
    penalizes: bool
    top_k: int | None
    top_p: bool
    min_p: bool

    @classmethod
    def of(cls, settings: GenerationSettings) -> Sampler:
        """Returns the sampler of settings."""
        draws = settings.samples
        return cls(
            draws=draws,
            penalizes=settings.repetition_penalty != 1,
            top_k=1 << (settings.top_k - 1).bit_length() if draws and settings.top_k else None,
            top_p=draws and settings.top_p not in (None, 1),
            min_p=draws and bool(settings.min_p),
        )

    def choose(self, logits, seen, numbers, uniform):
        """Returns the next token of each row, int32 `[rows]`.

        Args:
            logits: float32 `[rows, vocabulary]`.
            seen: bool, of the same shape: which tokens stand in the text already. Read only where
                there is a penalty.
            numbers: See `numbers_of`.
            uniform: float32 `[rows]`, from 0 to below 1. Read only where tokens are drawn.
        """
        penalty, temperature, top_k, top_p, min_p = tf.unstack(numbers)
        if self.penalizes:
            logits = penalized(logits, seen, penalty)
        if not self.draws:
            return tf.argmax(logits, -1, output_type=tf.int32)
        logits /= temperature
        if self.top_k:
            logits = keep_top_k(logits, tf.cast(top_k, tf.int32), self.top_k)
        if self.top_p:
            logits = keep_top_p(logits, top_p)
        if self.min_p:
            logits = keep_min_p(logits, min_p)
        return draw(logits, uniform)


def numbers_of(settings: GenerationSettings) -> np.ndarray:
    """Returns what a sampler's filters are told: penalty, temperature, top-k, top-p and min-p."""
    temperature = 1.0 if settings.temperature is None else settings.temperature
    # So that a float32 holds it; no vocabulary is that large.
    top_k = min(settings.top_k or 0, 1 << 24)
    filters = (top_k, settings.top_p or 1.0, settings.min_p or 0.0)
    return np.array([settings.repetition_penalty, temperature or 1.0, *filters], np.float32)


def penalized(logits, seen, penalty):
    """Returns logits that are lower for tokens that were `seen` (bool, of the same shape)."""
    lower = tf.where(logits < 0, logits * penalty, logits / penalty)
    return tf.where(seen, lower, logits)


def keep_top_k(logits, k, most=None):
    """Keeps the `k` largest logits of a row, and those that are equal to the last of them.

    Args:
        logits: float32 `[rows, vocabulary]`.
        k: A number, or int32 `[rows]`, where 0 keeps all.
        most: A number that no `k` is above. Defaults to `None`: `k` itself, one number.
    """
    most, vocabulary = k if most is None else most, logits.shape[-1]
    # XLA wants a number that it knows when it compiles.
    most = min(most, vocabulary) if isinstance(most, int) else tf.minimum(most, vocabulary)
    largest = tf.math.top_k(logits, most).values
    k = tf.broadcast_to(k, tf.shape(logits)[:1])
    least = tf.gather(largest, tf.clip_by_value(k, 1, most) - 1, batch_dims=1)
    return _keep(logits, (logits >= least[:, None]) | (k == 0)[:, None])


def keep_top_p(logits, p):
    """Keeps the fewest most likely tokens whose probabilities reach the sum `p`, at least one."""
    # Summed from the least likely on, as in transformers: those go that together stay below 1 - p.
    order = tf.argsort(logits, axis=-1, stable=True)
    ascending = tf.gather(logits, order, batch_dims=1)
    kept = tf.cumsum(tf.nn.softmax(ascending), axis=-1) > 1 - p
    kept = tf.concat([kept[:, :-1], tf.ones_like(kept[:, -1:])], -1)
    place = tf.argsort(order, axis=-1)
    return _keep(logits, tf.gather(kept, place, batch_dims=1))


def keep_min_p(logits, p):
    """Keeps tokens of at least `p` times the probability of the most likely one."""
    probabilities = tf.nn.softmax(logits)
    return _keep(logits, probabilities >= p * tf.reduce_max(probabilities, -1, keepdims=True))


def draw(logits, uniform):
    """Draws a token of each row by its probability.

    Args:
        logits: float32 `[rows, vocabulary]`.
        uniform: float32 `[rows]`, from 0 to below 1: each row has random numbers of its own.
    """
    until = tf.cumsum(tf.nn.softmax(logits), axis=-1)
    # A little less than the whole sum, so that no rounding goes past the last possible token.
    drawn = uniform[:, None] * until[:, -1:] * (1 - 1e-6)
    return tf.reduce_sum(tf.cast(until <= drawn, tf.int32), -1)


def uniform_numbers(prompts: Sequence[Sequence[int]], seed: int, count: int) -> list[np.ndarray]:
    """Returns the random numbers that each prompt's tokens are drawn with.

    They depend on the seed and the prompt alone, so that its text is the same in any batch; and,
    where a prompt comes several times, on which of them it is.

    Args:
        prompts: Token ids of all prompts.
        seed: The seed.
        count: How many numbers a prompt needs.

    Returns:
        For each prompt float32 `[count]`, from 0 to below 1.
    """
    times, numbers = {}, []
    for prompt in prompts:
        ids = np.asarray(prompt, np.int64).tobytes()
        times[ids] = times.get(ids, -1) + 1
        key = hashlib.sha256(b"%d %d " % (seed, times[ids]) + ids).digest()
        random = np.random.Generator(np.random.Philox(key=int.from_bytes(key[:16], "little")))
        numbers.append(random.random(count, np.float32))
    return numbers


def _keep(logits, kept):
    return tf.where(kept, logits, -np.inf)
