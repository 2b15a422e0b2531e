"""Byte-level BPE inside a TensorFlow graph (GPT-2, RoBERTa, SmolLM2), with the reference's ids."""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Mapping
from typing import Any

import numpy as np
import tensorflow as tf
import tokenizers
from tokenizers import pre_tokenizers

from kerasllm.data.tokenizers import ByteLevelBPE, TokenizerJson
from kerasllm.export.character_runs import CharacterRuns
from kerasllm.export.graph_tokenizer import CharacterMap, GraphTokenizer

# No byte of UTF-8: it is put around special tokens.
_AROUND = b"\xff"
# Between words, and before the last space of several, which belongs to the word after it.
_CUT, _LAST_SPACE = "\x01", "\x02"
_SPACE = r"\t\n\r "
_OTHER = rf"[^{_SPACE}a-zA-Z0-9{_CUT}{_LAST_SPACE}]"
# GPT-2's rule, for texts in which every character has given way to one of ASCII of its kind.
_WORD = rf"'s|'t|'re|'ve|'m|'ll|'d| ?[a-zA-Z]+| ?[0-9]+| ?{_OTHER}+|[{_SPACE}]+"
# Unicode's; Python counts four separators too.
_WHITESPACE = "".join(
    chr(code) for code in range(0x3001) if chr(code).isspace() and not 0x1C <= code < 0x20
)
_GPT2 = {"type": "ByteLevel", "trim_offsets": True, "use_regex": True}


class GraphByteLevelBPE(GraphTokenizer):
    """Byte-level BPE out of TensorFlow's own ops.

    What is a letter, a number or a space is asked of the reference, about every character.

    Args:
        tokenizer: The tokenizer; see `refusal`.
    """

    def __init__(self, tokenizer: ByteLevelBPE | TokenizerJson):
        super().__init__(tokenizer)
        content = _content(tokenizer)
        steps = _steps(content)
        self._splits_digits = len(steps) == 2
        self._adds_space = steps[-1]["add_prefix_space"]
        self._kinds = CharacterMap(_kinds())
        self._added = AddedTokens(content["added_tokens"])
        self._merges = _Merges(content["model"])
        self._bytes = _bytes_of_tokens(tokenizer, content)

    @staticmethod
    def refusal(tokenizer: object) -> str | None:
        """Returns why a tokenizer has no exact form in a graph, or `None` if it has one."""
        if not isinstance(tokenizer, (ByteLevelBPE, TokenizerJson)):
            return "it is not a byte-level BPE"
        content = _content(tokenizer)
        model, steps = content["model"], _steps(content)
        if model["type"] != "BPE" or model.get("byte_fallback"):
            return "it is not a byte-level BPE"
        if content["normalizer"] is not None:
            return f"it normalizes texts first ({content['normalizer']['type']})"
        if model.get("ignore_merges"):
            return "it looks up whole words before merging"
        known = [{"type": "Digits", "individual_digits": True}] * (len(steps) - 1) + [
            {**_GPT2, "add_prefix_space": steps[-1].get("add_prefix_space")}
        ]
        if len(steps) > 2 or steps != known:
            return "it splits words by another rule than GPT-2's"
        if any(token["single_word"] or token["rstrip"] for token in content["added_tokens"]):
            return "it has special tokens that depend on their context"
        return None

    def tokens(self, texts: tf.Tensor) -> tf.RaggedTensor:
        """See `GraphTokenizer.tokens`."""
        parts, part_rows, special = self._added.split(texts)
        plain = tf.where(special < 0, parts, "")
        if self._adds_space:
            lacks = (plain != "") & (tf.strings.substr(plain, 0, 1) != " ")
            plain = tf.where(lacks, tf.strings.join([" ", plain]), plain)
        ids, places = self._merges.merge(*self._words(plain))
        # Special tokens go back to their places among the others.
        is_special = special >= 0
        places = tf.concat([places, tf.where(is_special)[:, 0]], 0)
        order = tf.argsort(places, stable=True)
        ids = tf.gather(tf.concat([ids, tf.boolean_mask(special, is_special)], 0), order)
        rows = tf.gather(part_rows, tf.gather(places, order))
        return tf.RaggedTensor.from_value_rowids(ids, rows, nrows=tf.size(texts, tf.int64))

    def text(self, ids: tf.RaggedTensor) -> tf.Tensor:
        """Returns the texts of ids, string `[rows]`, without special tokens."""
        joined = tf.strings.reduce_join(tf.gather(self._bytes, ids), axis=-1)
        return tf.strings.unicode_transcode(joined, "UTF-8", "UTF-8")

    def _words(self, parts: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        """Returns all bytes, uint8, the word of each, and the part of each word, int64."""
        characters = tf.strings.unicode_decode(parts, "UTF-8")
        kinds, _ = self._kinds(characters.values)
        kinds = tf.strings.unicode_encode(characters.with_values(kinds), "UTF-8")
        if self._splits_digits:
            kinds = tf.strings.regex_replace(kinds, "[0-9]", rf"{_CUT}\0{_CUT}")
        kinds = tf.strings.regex_replace(
            kinds,
            rf"([{_SPACE}]+)([{_SPACE}][^{_SPACE}{_CUT}])",
            rf"\1{_LAST_SPACE}\2",
        )
        kinds = tf.strings.regex_replace(kinds, _WORD, rf"\0{_CUT}")
        kinds = tf.strings.regex_replace(kinds, _LAST_SPACE, "")
        words = tf.strings.split(kinds, _CUT)
        words = tf.ragged.boolean_mask(words, words != "")
        lengths = tf.strings.length(words.values)
        codes = characters.values
        sizes = 1 + sum(tf.cast(codes >= first, tf.int32) for first in (0x80, 0x800, 0x10000))
        numbers = tf.repeat(tf.range(tf.size(lengths, tf.int64)), lengths)
        content = tf.io.decode_raw(tf.strings.reduce_join(parts), tf.uint8)
        return content, tf.repeat(numbers, sizes), words.value_rowids()


class AddedTokens:
    """Tokens that a text is split at before all else."""

    def __init__(self, tokens: list[dict[str, Any]]):
        ids = {token["content"]: token["id"] for token in tokens}
        # Where two match, the longer one wins, as in the reference.
        self._tokens = sorted(ids, key=len, reverse=True)
        self._ids = [ids[token] for token in self._tokens]
        self._taking_spaces = [token["content"] for token in tokens if token["lstrip"]]

    def split(self, texts: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        """Returns the parts of all texts, the row of each, and its id, -1 if it is not a token."""
        for token in self._taking_spaces:
            spaces = f"[{_WHITESPACE}]+"
            texts = tf.strings.regex_replace(texts, f"{spaces}({re.escape(token)})", r"\1")
        if self._tokens:
            either = "|".join(map(re.escape, self._tokens))
            texts = tf.strings.regex_replace(texts, f"({either})", _AROUND + rb"\1" + _AROUND)
        parts = tf.strings.split(texts, _AROUND)
        # A part between two marks is a token, and any other is not, even if it looks like one.
        place = tf.range(tf.size(parts.values, tf.int64)) - tf.gather(
            parts.row_starts(), parts.value_rowids()
        )
        special = tf.fill(tf.shape(place), -1)
        for token, id in zip(self._tokens, self._ids):
            special = tf.where((place % 2 == 1) & (parts.values == token), id, special)
        return parts.values, parts.value_rowids(), special


class _Merges:
    """Merges the bytes of words, in each word the first merge of all that fit, one at a time."""

    def __init__(self, model: Mapping[str, Any]):
        vocabulary, alphabet = model["vocab"], _alphabet()
        self._size = max(vocabulary.values()) + 1
        self._first = np.full(256, -1, np.int32)
        for character, byte in alphabet.items():
            self._first[byte] = vocabulary.get(character, -1)
        pairs = {}
        for rank, merge in enumerate(model["merges"]):
            left, right = merge.split(" ") if isinstance(merge, str) else merge
            key = vocabulary[left] * self._size + vocabulary[right]
            pairs[key] = (rank, vocabulary[left + right])
        keys = sorted(pairs)
        # What is never asked for, so that there is always one to look at.
        self._keys = np.array([*keys, np.iinfo(np.int64).max], np.int64)
        self._ranks = np.array([*(pairs[key][0] for key in keys), 0], np.int64)
        self._made = np.array([*(pairs[key][1] for key in keys), -1], np.int32)

    def merge(
        self, content: tf.Tensor, words: tf.Tensor, parts: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns the ids of all words, int32, and the part of each, int64.

        Args:
            content: Bytes, uint8.
            words: The word of each byte, int64, ascending.
            parts: The part of each word, int64.
        """
        ids = tf.gather(self._first, tf.cast(content, tf.int32))
        # The reference drops a byte that it has no token for.
        ids, words = (tf.boolean_mask(each, ids >= 0) for each in (ids, words))

        def merge(ids, words, _):
            key = tf.cast(ids[:-1], tf.int64) * self._size + tf.cast(ids[1:], tf.int64)
            place = tf.searchsorted(self._keys, key)
            fits = (tf.gather(self._keys, place) == key) & (words[:-1] == words[1:])
            count = tf.size(key, tf.int64)
            order = tf.gather(self._ranks, place) * count + tf.range(count)
            order = tf.where(fits, order, tf.int64.max)
            first = tf.gather(tf.math.segment_min(order, words[:-1]), words[:-1])
            merges = fits & (order == first)
            none = tf.zeros([tf.minimum(tf.size(ids), 1)], tf.bool)
            left, right = tf.concat([merges, none], 0), tf.concat([none, merges], 0)
            made = tf.concat([tf.gather(self._made, place), ids[-1:]], 0)
            ids = tf.where(left, made, ids)
            kept = ~right
            return tf.boolean_mask(ids, kept), tf.boolean_mask(words, kept), tf.reduce_any(merges)

        ids, words, _ = tf.while_loop(
            lambda ids, words, merged: merged,
            merge,
            (ids, words, True),
            shape_invariants=(tf.TensorShape([None]), tf.TensorShape([None]), tf.TensorShape([])),
        )
        return ids, tf.gather(parts, words)


def _content(tokenizer: ByteLevelBPE | TokenizerJson) -> dict[str, Any]:
    is_json = isinstance(tokenizer, TokenizerJson)
    return json.loads(tokenizer.content if is_json else tokenizer.reference.to_str())


def _steps(content: Mapping[str, Any]) -> list[dict[str, Any]]:
    step = content["pre_tokenizer"] or {}
    return step.get("pretokenizers", [step])


@functools.cache
def _kinds() -> CharacterRuns:
    """Returns a character of ASCII for each one: of the same kind, and itself where it counts."""
    codes = [code for code in range(0x110000) if not 0xD800 <= code < 0xE000]
    everything = "".join(map(chr, codes))
    stands_for = np.full(0x110000, ord("!"), np.int32)
    for kind, other in ((r"\p{L}", "x"), (r"\p{N}", "0"), (r"\s", "\t")):
        split = pre_tokenizers.Split(tokenizers.Regex(f"[^{kind}]+"), "removed")
        for _, (start, end) in split.pre_tokenize_str(everything):
            stands_for[codes[start] : codes[end - 1] + 1] = ord(other)
    for code in b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789' \n\r":
        stands_for[code] = code
    starts = [0, *(np.flatnonzero(np.diff(stands_for)) + 1)]
    return CharacterRuns.of_patterns((int(code), (int(stands_for[code]),)) for code in starts)


def _alphabet() -> dict[str, int]:
    """Returns the byte that each letter of byte-level BPE stands for."""
    shown = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    hidden = [byte for byte in range(256) if byte not in shown]
    return {chr(byte): byte for byte in shown} | {
        chr(256 + number): byte for number, byte in enumerate(hidden)
    }


def _bytes_of_tokens(tokenizer, content: Mapping[str, Any]) -> list[bytes]:
    alphabet = _alphabet()
    tokens = dict(content["model"]["vocab"])
    tokens |= {token["content"]: token["id"] for token in content["added_tokens"]}
    special = {token["id"] for token in content["added_tokens"] if token["special"]}
    found = [b""] * (max(tokens.values()) + 1)
    for token, id in tokens.items():
        if id not in special:
            plain = all(letter in alphabet for letter in token)
            found[id] = bytes(alphabet[c] for c in token) if plain else token.encode()
    return found
