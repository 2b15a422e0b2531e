"""The compiled functions of decoding, made once for each size of batch, prompt and text."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import keras_hub
import numpy as np
import tensorflow as tf

from kerasllm.generation.decoders import KerasHubDecoder, ReadDecoder
from kerasllm.generation.sampling import Sampler, penalized
from kerasllm.generation.traced import repeated, traced

# Parameters from which on it pays to wait for XLA.
LARGE = 50_000_000
_SHORTEST = 16


@dataclass(frozen=True)
class Sizes:
    """The sizes that functions are compiled for.

    Attributes:
        rows: Rows of a batch.
        prompt: Slots for the prompts.
        new: Slots for what is generated.
    """

    rows: int
    prompt: int
    new: int

    @classmethod
    def holding(cls, rows: int, prompt: int, new: int, longest: int | None = None) -> Sizes:
        """Returns the smallest of the sizes used that hold a batch.

        Args:
            rows: Prompts.
            prompt: Tokens of the longest of them.
            new: The maximum number of new tokens.
            longest: The maximum number of tokens that the model can read. Defaults to `None`: any
                number.
        """
        prompt_size, new_size = size_of(prompt, _SHORTEST), size_of(new, _SHORTEST)
        if longest is not None:
            prompt_size = min(prompt_size, max(prompt, longest))
        return cls(size_of(rows, 1), prompt_size, new_size)


class Functions:
    """Compiles what decoding calls, when it is first called.

    Args:
        decoder: What computes logits.
        xla: Whether XLA compiles.
        packed: How many functions may keep a copy of the weights as the processor's kernels read
            them, the first that are made. Such a function does not see weights that change: see
            `forget_weights`. Defaults to `0`.

    Attributes:
        compilations: How many functions have been compiled.
    """

    def __init__(self, decoder: ReadDecoder | KerasHubDecoder, xla: bool, packed: int = 0):
        self._decoder = decoder
        self._xla = xla
        self._packed = packed
        self._made = {}
        self.compilations = 0

    def forget_weights(self) -> None:
        """Drops the functions that keep weights, and makes no more of them: weights change."""
        if self._packed:
            self._packed = 0
            self._made.clear()

    def start(self, sizes: Sizes, sampler: Sampler):
        """Returns the function that reads prompts and chooses the first token of each row."""
        return self._get(self._start, sizes, sampler)

    def advance(self, sizes: Sizes, sampler: Sampler):
        """Returns the function that chooses tokens up to a given number."""
        return self._get(self._advance, sizes, sampler)

    def start_beams(self, sizes: Sizes, penalizes: bool, kept: int):
        """Returns the function that reads a prompt and gives the best first tokens."""
        return self._get(self._start_beams, sizes, penalizes, kept)

    def advance_beams(self, sizes: Sizes, penalizes: bool, kept: int):
        """Returns the function that reads a token of each beam and gives the best next ones."""
        return self._get(self._advance_beams, sizes, penalizes, kept)

    def _get(self, make: Callable, sizes: Sizes, *options):
        key = (make.__name__, sizes, *options)
        if key not in self._made:
            # A partial, because TensorFlow takes functions of one code for one that is traced again
            # and again, and warns.
            counted = functools.partial(self._count, make(sizes, *options))
            in_graph = self._decoder.in_graph
            self._made[key] = traced(counted, in_graph, jit_compile=self._xla)
        return self._made[key]

    def _count(self, function: Callable, *arguments):
        """Calls a function that is traced."""
        self.compilations += 1
        return function(*arguments)

    def _start(self, sizes: Sizes, sampler: Sampler):
        decoder, slots = self._decoder, sizes.prompt + sizes.new

        def start(weights, token_ids, lengths, ended, uniform, numbers, stops):
            logits, cache = decoder.prefill(weights, token_ids, lengths, slots)
            seen = _seen(token_ids, lengths, logits.shape[-1]) if sampler.penalizes else ()
            token = sampler.choose(logits, seen, numbers, uniform[:, 0])
            return {
                "count": tf.constant(1),
                "token": token,
                "new": tf.concat(
                    [token[:, None], tf.zeros([sizes.rows, sizes.new - 1], tf.int32)], 1
                ),
                "ended": ended | _among(token, stops),
                "seen": _with(seen, token) if sampler.penalizes else (),
                "cache": cache,
            }

        return start

    def _advance(self, sizes: Sizes, sampler: Sampler):
        decoder = self._decoder
        made = sum(key[0] == "_advance" for key in self._made)
        packed = made < self._packed

        def advance(weights, state, lengths, uniform, numbers, stops, until):
            def body(state):
                count = state["count"]
                slot = sizes.prompt + count - 1
                logits, cache = decoder.step(
                    weights, state["cache"], state["token"], slot, sizes.prompt, lengths, packed
                )
                token = sampler.choose(
                    logits, state["seen"], numbers, tf.gather(uniform, count, axis=1)
                )
                here = tf.range(sizes.new)[None, :] == count
                return [
                    {
                        "count": count + 1,
                        "token": token,
                        "new": tf.where(here, token[:, None], state["new"]),
                        "ended": state["ended"] | _among(token, stops),
                        "seen": _with(state["seen"], token) if sampler.penalizes else (),
                        "cache": cache,
                    }
                ]

            def condition(state):
                return (state["count"] < until) & ~tf.reduce_all(state["ended"])

            return repeated(condition, body, [state])[0]

        return advance

    def _start_beams(self, sizes: Sizes, penalizes: bool, kept: int):
        decoder, slots = self._decoder, sizes.prompt + sizes.new

        def start(weights, token_ids, lengths, penalty):
            logits, cache = decoder.prefill(weights, token_ids[:1], lengths[:1], slots)
            seen = _seen(token_ids[:1], lengths[:1], logits.shape[-1]) if penalizes else ()
            scores = tf.nn.log_softmax(logits)
            scores = penalized(scores, seen, penalty) if penalizes else scores
            best, tokens = tf.math.top_k(scores[0], kept)
            rows = tf.zeros([sizes.rows], tf.int32)
            cache = decoder.reordered(cache, rows)
            return best, tokens, cache, tf.gather(seen, rows) if penalizes else ()

        return start

    def _advance_beams(self, sizes: Sizes, penalizes: bool, kept: int):
        decoder = self._decoder

        def advance(weights, cache, seen, scores, tokens, parents, count, lengths, penalty):
            cache = decoder.reordered(cache, parents)
            slot = sizes.prompt + count - 1
            logits, cache = decoder.step(weights, cache, tokens, slot, sizes.prompt, lengths)
            new = tf.nn.log_softmax(logits)
            if penalizes:
                seen = _with(tf.gather(seen, parents), tokens)
                new = penalized(new, seen, penalty)
            best, places = tf.math.top_k(tf.reshape(scores[:, None] + new, [-1]), kept)
            vocabulary = logits.shape[-1]
            return best, places % vocabulary, places // vocabulary, cache, seen

        return advance


def xla_is_faster(backbone: keras_hub.models.Backbone) -> bool:
    """Whether XLA gives tokens sooner here, with the time that it takes to compile."""
    if tf.config.list_logical_devices("GPU") or tf.config.list_logical_devices("TPU"):
        return True
    # On a processor it takes half the time a token in float32, and seconds to compile, which a
    # small model never wins back; in bfloat16 TensorFlow's own kernels are faster.
    return backbone.compute_dtype == "float32" and backbone.count_params() > LARGE


def padded(prompts: Sequence[Sequence[int]], sizes: Sizes) -> tuple[np.ndarray, np.ndarray]:
    """Returns token ids `[rows, prompt]` and lengths `[rows]`; rows that are left repeat the first.

    Args:
        prompts: Token ids, at least one prompt.
        sizes: What they are padded to.
    """
    token_ids = np.zeros((sizes.rows, sizes.prompt), np.int32)
    whole = [*prompts, *[prompts[0]] * (sizes.rows - len(prompts))]
    for row, prompt in enumerate(whole):
        token_ids[row, : len(prompt)] = prompt
    return token_ids, np.array([len(prompt) for prompt in whole], np.int32)


def size_of(count: int, least: int) -> int:
    """Returns the size that functions are compiled for to hold a number of rows or tokens.

    It is the next power of 2, and above 64 also the halfway between two.

    Args:
        count: The number.
        least: The smallest size, a power of 2.
    """
    size = max(least, 1 << (count - 1).bit_length())
    return size * 3 // 4 if size > 64 and count <= size * 3 // 4 else size


def _among(tokens, stops):
    return tf.reduce_any(tokens[:, None] == stops[None, :], -1)


def _seen(token_ids, lengths, vocabulary: int):
    inside = tf.sequence_mask(lengths, token_ids.shape[1])
    rows = tf.broadcast_to(tf.range(token_ids.shape[0])[:, None], token_ids.shape)
    places = tf.stack([rows, token_ids], -1)
    shape = [token_ids.shape[0], vocabulary]
    return tf.scatter_nd(places, tf.cast(inside, tf.int32), shape) > 0


def _with(seen, tokens):
    return seen | (tf.range(seen.shape[1])[None, :] == tokens[:, None])
