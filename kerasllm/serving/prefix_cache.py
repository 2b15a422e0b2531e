"""The prefix cache: keys and values of earlier texts, for prompts that start like them.

The prompts of one service begin alike: with a system prompt, or with the chat so far. What was
computed of that beginning is used again.

Reference: [SGLang](https://arxiv.org/abs/2312.07104), section 3.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import tensorflow as tf

# A shorter beginning is computed as fast as it is looked up and copied.
_LEAST_TOKENS = 8


@dataclass(frozen=True, eq=False)
class Prefix:
    """What is known of the beginning of a prompt.

    Attributes:
        tokens: How many of the prompt's tokens.
        cache: Their keys and values, one row of `kerasllm.generation.kv_cache`. The slots behind
            them may hold those of another text.
    """

    tokens: int
    cache: tf.Tensor


class PrefixCache:
    """The keys and values of the texts that were used last.

    Args:
        most_bytes: How much memory they take at most; with 0 nothing is kept.
    """

    def __init__(self, most_bytes: int):
        self._most_bytes = most_bytes
        self._bytes = 0
        # The one used last is the last.
        self._texts: dict[bytes, tuple[np.ndarray, tf.Tensor]] = {}

    def longest(self, prompt: Sequence[int]) -> Prefix | None:
        """Returns what is known of the longest beginning of a prompt.

        The last token of the prompt is never part of it, since what follows is not kept.

        Args:
            prompt: Token ids.

        Returns:
            `None` if there is nothing, or too little to be worth it.
        """
        wanted = np.asarray(prompt[:-1], np.int32)
        best, found = _LEAST_TOKENS - 1, None
        for key, (tokens, _) in self._texts.items():
            if (alike := _alike(tokens, wanted)) > best:
                best, found = alike, key
        if found is None:
            return None
        # Used: it is forgotten last.
        text = self._texts[found] = self._texts.pop(found)
        return Prefix(best, text[1])

    def keep(self, tokens: Sequence[int], cache: Callable[[], tf.Tensor]) -> None:
        """Keeps a text, and forgets what was not used for the longest time.

        Args:
            tokens: Token ids.
            cache: Makes their keys and values, one row of `kerasllm.generation.kv_cache`; called
                if they are kept.
        """
        if not self._most_bytes or len(tokens) < _LEAST_TOKENS:
            return
        new = np.asarray(tokens, np.int32)
        for key, (known, _) in list(self._texts.items()):
            alike = _alike(known, new)
            if alike == len(new):
                # Part of another: that stays.
                self._texts[key] = self._texts.pop(key)
                return
            if alike == len(known):
                self._forget(key)
        made = cache()
        self._texts[new.tobytes()] = new, made
        self._bytes += _size(made)
        while self._bytes > self._most_bytes:
            self._forget(next(iter(self._texts)))

    def _forget(self, key: bytes) -> None:
        self._bytes -= _size(self._texts.pop(key)[1])


def _alike(first: np.ndarray, second: np.ndarray) -> int:
    """Returns how many tokens two texts begin with alike."""
    shorter = min(len(first), len(second))
    different = first[:shorter] != second[:shorter]
    return int(different.argmax()) if different.any() else shorter


def _size(cache: tf.Tensor) -> int:
    return cache.shape.num_elements() * cache.dtype.size
