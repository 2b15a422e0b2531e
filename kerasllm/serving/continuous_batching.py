"""Continuous batching: answers share a batch, which they join and leave at any token.

A step reads all weights once, regardless of the number of rows, so that eight answers take little
longer than one. A row joins the batch with the keys and values of its prompt and leaves it when its
text ends; it computes what it would compute alone. One function, traced once, reads prompts and
tokens, in any number of rows. But the processor's kernels are made for each shape, and kept: rows,
prompts and the cache are padded to a few sizes, so that memory does not grow with the requests.

Reference: [Orca](https://www.usenix.org/conference/osdi22/presentation/yu) (iteration-level
scheduling).
"""

from __future__ import annotations

import contextlib
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import tensorflow as tf

from kerasllm.data.sizes import size_holding
from kerasllm.generation.decoders import ReadDecoder
from kerasllm.generation.generator import Generator
from kerasllm.generation.sampling import (
    draw,
    keep_min_p,
    keep_top_k,
    keep_top_p,
    numbers_of,
    penalized,
    uniform_numbers,
)
from kerasllm.generation.settings import GenerationSettings
from kerasllm.serving.prefix_cache import Prefix, PrefixCache

# Slots of the cache that are free after it was copied: it is copied once in so many tokens.
_FREE_SLOTS = 64
# The fewest tokens that a prompt is padded to; the sizes above are multiples of it.
_SHORTEST = 8
# Prompt tokens, padding included, that are read at once: open answers wait meanwhile.
_PROMPT_TOKENS = 512


@dataclass(frozen=True)
class Asked:
    """A requested answer.

    Attributes:
        key: What to call it.
        prompt: Token ids.
        settings: How it is written; what ends it is the caller's.
    """

    key: Hashable
    prompt: Sequence[int]
    settings: GenerationSettings


class Decoding(Protocol):
    """Answers that are open."""

    def at_once(self, prompts: Sequence[Sequence[int]]) -> int:
        """Returns how many of some prompts, from the first on, are best read at once."""

    def add(self, asked: Sequence[Asked]) -> dict[Hashable, list[int]]:
        """Opens answers and returns their first tokens.

        Args:
            asked: At least one.
        """

    def step(self) -> dict[Hashable, list[int]]:
        """Returns the next tokens of each open answer."""

    def remove(self, keys: Sequence[Hashable]) -> None:
        """Closes answers."""


def decoding_for(generator: Generator, prefix_bytes: int = 0) -> Decoding:
    """Returns the fastest way to write several answers with a model.

    Args:
        generator: The model.
        prefix_bytes: As for `TogetherDecoding`. Defaults to `0`.
    """
    if isinstance(generator.decoder, ReadDecoder):
        return TogetherDecoding(generator.decoder, generator.keeps_weights, prefix_bytes)
    return InTurnDecoding(generator)


class InTurnDecoding:
    """Answers that get a token in turn, for models whose rows must be of one length.

    Args:
        generator: What computes.
    """

    def __init__(self, generator: Generator):
        self._generator = generator
        self._open: dict[Hashable, Iterator[int]] = {}

    def at_once(self, prompts) -> int:
        """See `Decoding.at_once`."""
        return min(1, len(prompts))

    def add(self, asked) -> dict[Hashable, list[int]]:
        """See `Decoding.add`."""
        first = {}
        for one in asked:
            stream = self._generator.stream(one.prompt, one.settings)
            first[one.key] = [next(stream)]
            self._open[one.key] = stream
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
        asked: What was asked for.
        uniform: float32, the random number of each of its tokens; the last is for any more.
        tokens: How many it has.
        text: Token ids of the prompt and the answer, but for the last.
        last: The last token of the answer.
        position: Where that stands in the text.
        numbers: float32 `[5]`: see `numbers_of`; with a temperature of 0 it is greedy.
        seen: bool `[vocabulary]`, the tokens of its text, where there is a repetition penalty.
    """

    asked: Asked
    uniform: np.ndarray
    tokens: int
    text: list[int]
    last: int
    position: int
    numbers: np.ndarray
    seen: np.ndarray | None


class TogetherDecoding:
    """Answers that are computed in one batch.

    Args:
        decoder: What computes logits. Weights that change afterwards are not seen.
        packed: Whether the matrices are kept as the processor's kernels read them: as much memory
            again. Defaults to `False`.
        prefix_bytes: The memory for texts that prompts may begin with; see `PrefixCache`. Defaults
            to `0`: every prompt is read from its first token on.
    """

    def __init__(self, decoder: ReadDecoder, packed: bool = False, prefix_bytes: int = 0):
        self._decoder = decoder
        self._packed = packed
        self._prefixes = PrefixCache(prefix_bytes)
        self._rows: list[_Row] = []
        self._cache = None
        self._vocabulary = decoder.weights["head"].shape[0]
        layers, _, heads, _, size = decoder.new_cache(1, 1).shape
        cache = tf.TensorSpec([layers, None, heads, None, size], decoder.new_cache(1, 1).dtype)
        tokens, integers = tf.TensorSpec([None, None], tf.int32), tf.TensorSpec([None], tf.int32)
        choice = (tf.TensorSpec([None, 6], tf.float32), tf.TensorSpec([None, None], tf.bool))
        self._extend = _traced(self._read_tokens, cache, tokens, integers, integers, choice)
        self._fit = _traced(_fitted, cache, integers, tf.TensorSpec([], tf.int32))
        self._join = _traced(_joined, cache, cache)

    def at_once(self, prompts) -> int:
        """See `Decoding.at_once`."""
        longest = 0
        for count, prompt in enumerate(prompts, start=1):
            longest = max(longest, _width(len(prompt) - _known(self._prefixes.longest(prompt))))
            if count > 1 and size_holding(count) * longest > _PROMPT_TOKENS:
                return count - 1
        return len(prompts)

    def add(self, asked) -> dict[Hashable, list[int]]:
        """See `Decoding.add`."""
        new = [_opened(one, self._vocabulary) for one in asked]
        padded = _padded(new)
        prefixes = _padded([self._prefixes.longest(one.prompt) for one in asked])
        starts = [_known(prefix) for prefix in prefixes]
        unread = [row.asked.prompt[start:] for row, start in zip(padded, starts, strict=True)]
        prompts = np.zeros((len(padded), _width(max(map(len, unread)))), np.int32)
        for place, tokens in zip(prompts, unread, strict=True):
            place[: len(tokens)] = tokens
        token, cache = self._extend(
            self._cache_after(prefixes, size_holding(max(starts) + prompts.shape[1], _SHORTEST)),
            tf.constant(prompts),
            _numbers(starts),
            _numbers(map(len, unread)),
            _choice(padded),
        )
        rows, slots = len(self._rows), _slots_for([*self._rows, *new])
        if rows:
            slots = tf.constant(max(self._slots, slots))
            cache = self._join(
                self._fit(self._cache, _numbers(range(rows)), slots),
                self._fit(cache, _numbers(_padded(range(len(new)), beside=rows)), slots),
            )
        else:
            cache = self._fit(cache, _numbers(range(len(padded))), slots)
        # Together, and last: what fails before leaves the rows that were open as they were.
        self._rows, self._cache = self._rows + new, cache
        return _took(new, token)

    def step(self) -> dict[Hashable, list[int]]:
        """See `Decoding.step`."""
        if max(row.position for row in self._rows) >= self._slots:
            self._keep(range(len(self._rows)))
        rows = _padded(self._rows)
        token, self._cache = self._extend(
            self._cache,
            tf.constant([[row.last] for row in rows]),
            _numbers([row.position for row in rows]),
            tf.ones(len(rows), tf.int32),
            _choice(rows),
        )
        return _took(self._rows, token)

    def remove(self, keys) -> None:
        """See `Decoding.remove`."""
        kept = [number for number, row in enumerate(self._rows) if row.asked.key not in keys]
        if len(kept) == len(self._rows):
            return
        for number in set(range(len(self._rows))) - set(kept):
            self._keep_prefix(number)
        self._rows = [self._rows[number] for number in kept]
        if kept:
            self._keep(kept)
        else:
            self._cache = None

    @property
    def _slots(self) -> int:
        return self._cache.shape[3]

    def _keep(self, numbers: Sequence[int]) -> None:
        """Keeps some rows of the cache, with as many slots as they will need soon."""
        slots = _slots_for(self._rows)
        self._cache = self._fit(self._cache, _numbers(_padded(numbers)), slots)

    def _keep_prefix(self, number: int) -> None:
        """Keeps the text of a row that ends."""
        text = self._rows[number].text
        slots = size_holding(len(text), _SHORTEST, steps=4)
        # Where there is no memory for it, the next prompt is read as a whole.
        with contextlib.suppress(tf.errors.OpError):
            self._prefixes.keep(text, lambda: self._fit(self._cache, _numbers([number]), slots))

    def _cache_after(self, prefixes: Sequence[Prefix | None], slots: int) -> tf.Tensor:
        """Returns the cache of rows with what is known of them."""
        if not any(prefixes):
            return self._decoder.new_cache(len(prefixes), slots)
        rows = [
            self._decoder.new_cache(1, slots)
            if prefix is None
            else self._fit(prefix.cache, _numbers([0]), slots)
            for prefix in prefixes
        ]
        return tf.concat(rows, 1)

    def _read_tokens(self, cache, token_ids, starts, lengths, choice):
        logits, cache = self._decoder.extend(cache, token_ids, starts, lengths, self._packed)
        return _chosen(logits, *choice), cache


def _slots_for(rows: Sequence[_Row]) -> int:
    return size_holding(max(row.position for row in rows) + _FREE_SLOTS)


def _width(tokens: int) -> int:
    """Returns what prompts are padded to: to read padding takes as long as to read tokens."""
    return size_holding(tokens, _SHORTEST, steps=4)


def _known(prefix: Prefix | None) -> int:
    return prefix.tokens if prefix else 0


def _padded(rows: Sequence, beside: int = 0) -> list:
    """Returns rows, and the first again: a size of a batch together with those beside them."""
    size = size_holding(beside + len(rows))
    return [*rows, *[rows[0]] * (size - beside - len(rows))]


def _numbers(numbers: Sequence[int]) -> tf.Tensor:
    return tf.constant(list(numbers), tf.int32)


def _opened(asked: Asked, vocabulary: int) -> _Row:
    settings = asked.settings
    count = settings.max_new_tokens if settings.samples else 0
    (uniform,) = uniform_numbers([asked.prompt], settings.seed, count)
    numbers, seen = numbers_of(settings), None
    if not settings.samples:
        numbers[1] = 0
    if settings.repetition_penalty != 1:
        seen = np.zeros(vocabulary, bool)
        seen[list(asked.prompt)] = True
    position = len(asked.prompt) - 1
    text = list(asked.prompt)[:-1]
    last = asked.prompt[-1]
    return _Row(asked, np.append(uniform, np.float32(0)), 0, text, last, position, numbers, seen)


def _took(rows: Sequence[_Row], tokens: tf.Tensor) -> dict[Hashable, list[int]]:
    """Gives each row its next token, and returns it."""
    # What comes after the rows is of padding.
    for row, token in zip(rows, tokens.numpy().tolist()):
        row.text.append(row.last)
        row.tokens, row.last, row.position = row.tokens + 1, token, row.position + 1
        if row.seen is not None:
            row.seen[token] = True
    return {row.asked.key: [row.last] for row in rows}


def _choice(rows: Sequence[_Row]) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns what each row's next token is chosen by: its numbers, and the tokens of its text."""
    numbers = np.empty((len(rows), 6), np.float32)
    for place, row in zip(numbers, rows, strict=True):
        place[:-1], place[-1] = row.numbers, row.uniform[min(row.tokens, len(row.uniform) - 1)]
    penalized_rows = [row.seen for row in rows if row.seen is not None]
    nothing = np.zeros(len(penalized_rows[0]) if penalized_rows else 1, bool)
    seen = [nothing if row.seen is None else row.seen for row in rows]
    return tf.constant(numbers), tf.constant(np.stack(seen if penalized_rows else [nothing]))


def _chosen(logits, numbers, seen):
    """Returns the next token of each row, int32 `[rows]`, as `generation.sampling` chooses it.

    What no row asks for is not computed.
    """
    penalty, temperature, top_k, top_p, min_p, uniform = tf.unstack(numbers, axis=1)

    def if_any(asked, change, logits):
        changed = tf.cond(tf.reduce_any(asked), lambda: change(logits), lambda: logits)
        return tf.ensure_shape(changed, logits.shape)

    logits = if_any(penalty != 1, lambda x: penalized(x, seen, penalty[:, None]), logits)
    greedy = tf.argmax(logits, -1, output_type=tf.int32)
    draws = temperature > 0

    def drawn():
        kept = logits / tf.where(draws, temperature, 1.0)[:, None]
        k = tf.cast(top_k, tf.int32)
        kept = if_any(k > 0, lambda x: keep_top_k(x, k, tf.reduce_max(k)), kept)
        kept = if_any(top_p < 1, lambda x: keep_top_p(x, top_p[:, None]), kept)
        kept = if_any(min_p > 0, lambda x: keep_min_p(x, min_p[:, None]), kept)
        return tf.where(draws, draw(kept, uniform), greedy)

    return tf.cond(tf.reduce_any(draws), drawn, lambda: greedy)


def _fitted(cache, rows, slots):
    """Returns some rows of a cache with another number of slots."""
    cache = tf.gather(cache, rows, axis=1)[:, :, :, :slots]
    return tf.pad(cache, [[0, 0], [0, 0], [0, 0], [0, slots - tf.shape(cache)[3]], [0, 0]])


def _joined(first, second):
    return tf.concat([first, second], 1)


def _traced(function, *signature):
    return tf.function(function, input_signature=signature, autograph=False)
