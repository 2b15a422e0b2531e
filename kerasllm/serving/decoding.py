"""Answers that are written together: a row of one batch each, that come and go at any token.

A step reads all weights once, whatever the number of rows, so that eight answers take little longer
than one. A row joins the batch with the keys and values of its prompt and leaves it when its text
ends; it computes what it would compute alone. Both functions are traced once, for any number of
rows and tokens.

Reference: [Orca](https://www.usenix.org/conference/osdi22/presentation/yu) (iteration-level
scheduling).
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import tensorflow as tf

from kerasllm.generation.decoders import ReadDecoder
from kerasllm.generation.generator import Generator
from kerasllm.generation.sampling import draw, keep_top_p, uniform_numbers
from kerasllm.generation.settings import GenerationSettings

# Slots of the cache that are free after it was copied: it is copied once in so many tokens.
_FREE_SLOTS = 64


class Decoding(Protocol):
    """Answers that are open."""

    def add(self, key: Hashable, prompt: Sequence[int], settings: GenerationSettings) -> list[int]:
        """Opens an answer and returns its first tokens.

        Args:
            key: What to call it.
            prompt: Token ids.
            settings: How; what ends it is the caller's.
        """

    def step(self) -> dict[Hashable, list[int]]:
        """Returns the next tokens of each open answer."""

    def remove(self, keys: Sequence[Hashable]) -> None:
        """Closes answers."""


def decoding_for(generator: Generator) -> Decoding:
    """Returns the fastest way to write several answers with a model."""
    if isinstance(generator.decoder, ReadDecoder):
        return TogetherDecoding(generator.decoder)
    return InTurnDecoding(generator)


class InTurnDecoding:
    """Answers that get a token in turn, for models whose rows must be of one length.

    Args:
        generator: What computes.
    """

    def __init__(self, generator: Generator):
        self._generator = generator
        self._open: dict[Hashable, Iterator[int]] = {}

    def add(self, key, prompt, settings) -> list[int]:
        """See `Decoding.add`."""
        stream = self._generator.stream(prompt, settings)
        first = [next(stream)]
        self._open[key] = stream
        return first

    def step(self) -> dict[Hashable, list[int]]:
        """See `Decoding.step`."""
        return {key: [next(stream)] for key, stream in self._open.items()}

    def remove(self, keys) -> None:
        """See `Decoding.remove`."""
        for key in keys:
            self._open.pop(key, None)


@dataclass
class _Row:
    """An open answer.

    Attributes:
        key: What it is called.
        settings: How its tokens are chosen.
        uniform: float32, the random number of each of its tokens; the last is for any more.
        tokens: How many it has.
        last: The last of them.
        position: Where that stands in the text.
    """

    key: Hashable
    settings: GenerationSettings
    uniform: np.ndarray
    tokens: int
    last: int
    position: int


class TogetherDecoding:
    """Answers that are computed in one batch.

    Args:
        decoder: What computes logits.
    """

    def __init__(self, decoder: ReadDecoder):
        self._decoder = decoder
        self._rows: list[_Row] = []
        self._cache = None
        weights = tf.nest.map_structure(_spec, decoder.weights)
        numbers = tf.TensorSpec([None], tf.float32)
        choice = (numbers, numbers, numbers)
        prompts = tf.TensorSpec([None, None], tf.int32)
        self._read = _traced(self._read_prompts, weights, prompts, choice)
        made = self._read.get_concrete_function().structured_outputs[1]
        cache = tf.nest.map_structure(_spec, made)
        integers = tf.TensorSpec([None], tf.int32)
        self._advance = _traced(self._read_tokens, weights, cache, integers, integers, choice)
        self._fit = _traced(_fitted, cache, integers, tf.TensorSpec([], tf.int32))
        self._join = _traced(_joined, cache, cache)

    def add(self, key, prompt, settings) -> list[int]:
        """See `Decoding.add`."""
        count = settings.max_new_tokens if settings.samples else 0
        uniform = np.append(*uniform_numbers([prompt], settings.seed, count), np.float32(0))
        row = _Row(key, settings, uniform, 0, 0, len(prompt) - 1)
        prompts = tf.constant([list(prompt)], tf.int32)
        token, cache = self._read(self._decoder.weights, prompts, _choice([row]))
        if self._rows:
            slots = tf.constant(max(self._slots, len(prompt)))
            self._cache = self._join(
                self._fit(self._cache, tf.range(len(self._rows)), slots),
                self._fit(cache, tf.constant([0]), slots),
            )
        else:
            self._cache = cache
        self._rows.append(row)
        return _took(row, token.numpy()[0])

    def step(self) -> dict[Hashable, list[int]]:
        """See `Decoding.step`."""
        rows = self._rows
        if max(row.position for row in rows) >= self._slots:
            self._keep(range(len(rows)))
        token, self._cache = self._advance(
            self._decoder.weights,
            self._cache,
            tf.constant([row.last for row in rows], tf.int32),
            tf.constant([row.position for row in rows], tf.int32),
            _choice(rows),
        )
        return {row.key: _took(row, token) for row, token in zip(rows, token.numpy())}

    def remove(self, keys) -> None:
        """See `Decoding.remove`."""
        kept = [number for number, row in enumerate(self._rows) if row.key not in keys]
        if len(kept) == len(self._rows):
            return
        self._rows, rows = [self._rows[number] for number in kept], len(self._rows)
        if kept:
            self._keep(kept)
        else:
            self._cache = None

    @property
    def _slots(self) -> int:
        return self._cache[0][0].shape[2]

    def _keep(self, numbers: Sequence[int]) -> None:
        """Keeps some rows of the cache, with as many slots as they will need soon."""
        slots = max(row.position for row in self._rows) + _FREE_SLOTS
        self._cache = self._fit(self._cache, tf.constant(numbers, tf.int32), tf.constant(slots))

    def _read_prompts(self, weights, token_ids, choice):
        rows, length = tf.unstack(tf.shape(token_ids))
        lengths = tf.fill([rows], length)
        logits, cache = self._decoder.prefill(weights, token_ids, lengths, length)
        return _chosen(logits, *choice), cache

    def _read_tokens(self, weights, cache, tokens, positions, choice):
        nothing = tf.zeros_like(positions)
        logits, cache = self._decoder.step(weights, cache, tokens, positions, 0, nothing)
        return _chosen(logits, *choice), cache


def _took(row: _Row, token: np.integer) -> list[int]:
    row.tokens, row.last, row.position = row.tokens + 1, int(token), row.position + 1
    return [row.last]


def _choice(rows: Sequence[_Row]) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Returns temperature (0: greedy), top-p and random number of each row's next token."""
    values = [
        (
            (1.0 if row.settings.temperature is None else row.settings.temperature)
            if row.settings.samples
            else 0.0,
            row.settings.top_p or 1.0,
            row.uniform[min(row.tokens, len(row.uniform) - 1)],
        )
        for row in rows
    ]
    return tuple(tf.constant(each, tf.float32) for each in zip(*values))


def _chosen(logits, temperature, top_p, uniform):
    """Returns the next token of each row, int32 `[rows]`, as `generation.sampling` chooses it."""
    likeliest = tf.argmax(logits, -1, output_type=tf.int32)
    draws = temperature > 0

    def drawn():
        divided = logits / tf.where(draws, temperature, 1.0)[:, None]
        kept = tf.cond(
            tf.reduce_any(top_p < 1),
            lambda: keep_top_p(divided, top_p[:, None]),
            lambda: divided,
        )
        return tf.where(draws, draw(kept, uniform), likeliest)

    return tf.cond(tf.reduce_any(draws), drawn, lambda: likeliest)


def _fitted(cache, rows, slots):
    """Returns some rows of a cache with another number of slots."""

    def fitted(each):
        each = tf.gather(each, rows)[:, :, :slots]
        return tf.pad(each, [[0, 0], [0, 0], [0, slots - tf.shape(each)[2]], [0, 0]])

    return tf.nest.map_structure(fitted, cache)


def _joined(first, second):
    return tf.nest.map_structure(lambda a, b: tf.concat([a, b], 0), first, second)


def _traced(function, *signature):
    return tf.function(function, input_signature=signature, autograph=False)


def _spec(tensor) -> tf.TensorSpec:
    return tf.TensorSpec(tensor.shape, tensor.dtype)
