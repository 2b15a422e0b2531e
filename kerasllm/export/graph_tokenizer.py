"""Tokenizers inside a TensorFlow graph: strings in, rows of ids out, with the model's own ids."""

from __future__ import annotations

import abc
import re
from collections.abc import Sequence

import tensorflow as tf

from kerasllm.export.character_runs import ITSELF, NOTHING, CharacterRuns


class GraphTokenizer(abc.ABC):
    """Turns a batch of texts into ids by TensorFlow's own ops alone.

    Args:
        start_token_id: The id put before each text, or `None`.
        end_token_id: The id put after each text, or `None`.
        pad_token_id: The id that fills rows up.
    """

    def __init__(self, *, start_token_id: int | None, end_token_id: int | None, pad_token_id: int):
        self.start_token_id = start_token_id
        self.end_token_id = end_token_id
        self.pad_token_id = pad_token_id

    @abc.abstractmethod
    def tokens(self, texts: tf.Tensor) -> tf.RaggedTensor:
        """Returns the ids of whole texts without special tokens around them, int32."""

    def rows(self, texts: tf.Tensor, max_length: int | None = None) -> tf.RaggedTensor:
        """Returns the ids of texts as a model reads them.

        Args:
            texts: string `[rows]`. Bytes that are no UTF-8 count as U+FFFD.
            max_length: The most ids of a row, special tokens included; a longer text loses its
                end. Defaults to `None`: any number.

        Returns:
            int32 `[rows, (ids)]`.
        """
        ids = self.tokens(tf.strings.unicode_transcode(texts, "UTF-8", "UTF-8"))
        around = [self.start_token_id, self.end_token_id]
        if max_length is not None:
            ids = ids[:, : max_length - sum(each is not None for each in around)]
        start, end = ([] if each is None else [_column(each, texts)] for each in around)
        return tf.concat([*start, ids, *end], axis=1)


class StandIns:
    """Gives each special token that is written in a text one character, which nothing else can be.

    Args:
        tokens: The special tokens.
        free: Characters that the tokenizer drops, one more than there are tokens.

    Attributes:
        characters: The character of each token.
    """

    def __init__(self, tokens: Sequence[str], free: Sequence[str]):
        # A longer token wins over one that it starts with, as in the reference.
        tokens = sorted(tokens, key=len, reverse=True)
        self._dropped, *others = free[: len(tokens) + 1]
        self.characters = dict(zip(tokens, others, strict=True))

    def put_in(self, texts: tf.Tensor) -> tf.Tensor:
        """Returns texts with the special tokens replaced."""
        if not self.characters:
            return texts
        taken = "".join(self.characters.values())
        # A text that has such a character loses it in the end; until then, it keeps what
        # stands around it apart.
        texts = tf.strings.regex_replace(texts, f"[{taken}]", self._dropped)
        for token, character in self.characters.items():
            texts = tf.strings.regex_replace(texts, re.escape(token), character)
        return texts


class CharacterMap:
    """Does in a graph what `CharacterRuns` says."""

    def __init__(self, runs: CharacterRuns):
        self._starts, self._patterns = runs.starts, runs.patterns

    def __call__(self, codes: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns what becomes of characters.

        Args:
            codes: int32 `[characters]`.

        Returns:
            The characters that come out, int32 `[n]`, and which one each came of, int64 `[n]`.
        """
        runs = tf.searchsorted(self._starts, codes, side="right") - 1
        patterns = tf.gather(self._patterns, runs)
        patterns = tf.where(patterns == ITSELF, codes[:, None], patterns)
        there = tf.where(patterns != NOTHING)
        return tf.gather_nd(patterns, there), there[:, 0]


def _column(id: int, texts: tf.Tensor) -> tf.Tensor:
    return tf.fill([tf.shape(texts)[0], 1], id)
