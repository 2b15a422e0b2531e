"""Byte-level BPE word by word, with a cache of the ids of each word.

BPE merges within words only, so a text's ids are those of its words, one after the other. Most
words of a text were seen before; to cut it into words and look them up takes a fraction of the time
that Hugging Face's `tokenizers` needs, whose ids these are.
"""

from __future__ import annotations

import functools
import itertools
import json
import re
import threading
from collections.abc import Sequence

import numpy as np
import tokenizers

from kerasllm.data.tokenizers.token_rows import copy_rows, flatten, merge_paths

# Characters that are cut here as the reference cuts them: ASCII, Western letters, and dashes,
# quotation marks and dots of print. A text with others is left to the reference.
_LETTERS = "A-Za-z\u00c0-\u00d6\u00d8-\u00f6\u00f8-\u00ff"
_STRANGE = re.compile(f"[^\\x00-\\x7f{_LETTERS}\u2010-\u2027]")
_SPACES = " \\t\\n\\r\\f\\v"
_WORDS = (
    f"'(?:s|t|re|ve|m|ll|d)| ?[{_LETTERS}]+|{{digits}}| ?[^{_SPACES}{_LETTERS}0-9]+"
    f"|[{_SPACES}]+(?![^{_SPACES}{{ends}}])|[{_SPACES}]+"
)
_GPT2 = re.compile(_WORDS.format(digits=" ?[0-9]+", ends=""))
# Each digit by itself. Texts are cut there first: spaces before a digit end a part.
_SINGLE_DIGITS = re.compile(_WORDS.format(digits="[0-9]", ends="0-9"))

_BYTE_LEVEL = {"type": "ByteLevel", "add_prefix_space": False, "use_regex": True}
_DIGITS = {"type": "Digits", "individual_digits": True}

# So that memory does not grow with the text. English has about a hundred thousand words in use.
_MOST_WORDS = 1 << 18


class BulkEngine:
    """Gives Hugging Face's ids of many texts, from a `WordCache` wherever it can.

    Args:
        engine: The reference.
    """

    def __init__(self, engine: tokenizers.Tokenizer):
        self._engine = engine

    @functools.cached_property
    def _cache(self) -> WordCache | None:
        return WordCache.of(self._engine)

    def ids(self, texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        """Returns the ids of texts, int32, and where each starts, int64."""
        if self._cache is None:
            return self._engine_ids(texts)
        return merge_paths(texts, self._cache.holds(texts), self._cache.ids, self._engine_ids)

    def _engine_ids(self, texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        encodings = self._engine.encode_batch_fast(list(texts), add_special_tokens=False)
        return flatten([encoding.ids for encoding in encodings])


class WordCache:
    """The ids of the words that were met.

    Args:
        engine: The reference.
        words: Cuts a text into words.
        added: Tokens that the reference takes out of a text before all else.
    """

    def __init__(self, engine: tokenizers.Tokenizer, words: re.Pattern, added: Sequence[str]):
        self._engine = engine
        self._words = words
        self._added = [token for token in added if token]
        self._lock = threading.Lock()
        self._forget()

    @classmethod
    def of(cls, engine: tokenizers.Tokenizer) -> WordCache | None:
        """Returns the cache of a tokenizer, `None` where its words are not known to be these."""
        content = json.loads(engine.to_str())
        if content["normalizer"] is not None or content["model"].get("type") != "BPE":
            return None
        if content["model"].get("dropout"):
            return None
        step = content["pre_tokenizer"] or {}
        steps = step.get("pretokenizers", [step])
        if not _is(steps[-1], _BYTE_LEVEL):
            return None
        words = {1: _GPT2, 2: _SINGLE_DIGITS}.get(len(steps))
        if words is None or (len(steps) == 2 and not _is(steps[0], _DIGITS)):
            return None
        return cls(engine, words, [token["content"] for token in content["added_tokens"]])

    def holds(self, texts: Sequence[str]) -> np.ndarray:
        """Returns which texts are cut into words as the reference does it, bool `[len(texts)]`."""
        return np.fromiter(map(self._holds, texts), bool, len(texts))

    def _holds(self, text: str) -> bool:
        if not text.isascii() and _STRANGE.search(text):
            return False
        return not any(token in text for token in self._added)

    def ids(self, texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        """Returns the ids of texts that it holds, int32, and where each starts, int64."""
        rows = [self._words.findall(text) for text in texts]
        words = list(itertools.chain.from_iterable(rows))
        with self._lock:
            numbers = self._numbers(words)
            ids, starts, lengths = self._ids, self._starts[numbers], self._lengths[numbers]
        ends = np.concatenate([[0], np.cumsum(lengths)])
        found = np.empty(ends[-1], np.int32)
        copy_rows(ids, starts, found, ends[:-1], lengths)
        return found, ends[np.cumsum([0, *map(len, rows)])]

    def _numbers(self, words: list[str]) -> np.ndarray:
        """Returns the numbers of words, int64; those that are new are learned."""
        if len(self._known) > _MOST_WORDS:
            self._forget()
        new = list(set(words).difference(self._known))
        if new:
            encodings = self._engine.encode_batch_fast(new, add_special_tokens=False)
            ids, offsets = flatten([encoding.ids for encoding in encodings])
            first = len(self._known)
            self._known.update(zip(new, range(first, first + len(new)), strict=True))
            self._starts = np.concatenate([self._starts, offsets[:-1] + len(self._ids)])
            self._lengths = np.concatenate([self._lengths, np.diff(offsets)])
            self._ids = np.concatenate([self._ids, ids])
        return np.fromiter(map(self._known.__getitem__, words), np.int64, len(words))

    def _forget(self) -> None:
        self._known: dict[str, int] = {}
        self._ids = np.empty(0, np.int32)
        self._starts = np.empty(0, np.int64)
        self._lengths = np.empty(0, np.int64)


def _is(step: dict, wanted: dict) -> bool:
    return all(step.get(name) == value for name, value in wanted.items())
