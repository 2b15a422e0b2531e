"""Tokenizers inside a TensorFlow graph: strings in, rows of ids out, with the model's own ids."""

from __future__ import annotations

import abc
import re
from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from kerasllm.export.character_runs import ITSELF, NOTHING, CharacterRuns
from kerasllm.export.token_rows import LONGEST_FIRST


class GraphTokenizer(abc.ABC):
    """Turns a batch of texts into ids by TensorFlow's own ops alone, unless it `needs_text_ops`.

    Args:
        tokenizer: The tokenizer outside of the graph, whose special tokens are taken.

    Attributes:
        start_token_id: The id before each text, or `None`.
        end_token_id: The id after each text, or `None`.
        pad_token_id: The id of the padding token.
        separator_ids: The ids between the texts of a pair: one for BERT, two for RoBERTa.
        second_segment: The segment of the second text of a pair: 1 for BERT, 0 for RoBERTa.
    """

    def __init__(self, tokenizer: Any):
        self.start_token_id = tokenizer.start_token_id
        self.end_token_id = tokenizer.end_token_id
        self.pad_token_id = tokenizer.pad_token_id
        self.separator_ids = getattr(
            tokenizer, "pair_separator_ids", _known(tokenizer.end_token_id)
        )
        self.second_segment = getattr(tokenizer, "second_segment", 1)

    # Whether `tokens_with_spans` is there.
    has_spans = False
    # Whether it is made of ops of TensorFlow Text too.
    needs_text_ops = False
    # What a module has to hold for these ops to be saved with it.
    resources: Sequence[Any] = ()

    @abc.abstractmethod
    def tokens(self, texts: tf.Tensor) -> tf.RaggedTensor:
        """Returns the ids of whole texts without special tokens around them, int32."""

    def tokens_with_spans(
        self, texts: tf.Tensor
    ) -> tuple[tf.RaggedTensor, tf.RaggedTensor, tf.RaggedTensor]:
        """Returns the ids of whole texts, and where their tokens stand; where `has_spans`.

        Args:
            texts: string `[rows]`, valid UTF-8.

        Returns:
            The ids, and the first character of each token and the one after its last, each int32
            `[rows, (tokens)]`.
        """
        raise NotImplementedError

    def between_special(self, ids: tf.RaggedTensor) -> tf.RaggedTensor:
        """Returns rows of ids with the special tokens around each."""
        return between(_known(self.start_token_id), ids, _known(self.end_token_id))

    @property
    def special_tokens(self) -> int:
        """How many special tokens are around a text."""
        return len(_known(self.start_token_id)) + len(_known(self.end_token_id))

    def rows(self, texts: tf.Tensor, max_length: int | None = None) -> tf.RaggedTensor:
        """Returns the ids of texts as a model reads them.

        Args:
            texts: string `[rows]`. Bytes that are no UTF-8 count as U+FFFD.
            max_length: The maximum number of ids of a row, special tokens included; a longer text
                loses its end. Defaults to `None`: any number.

        Returns:
            int32 `[rows, (ids)]`.
        """
        ids = self._whole(texts)
        if max_length is not None:
            ids = ids[:, : max_length - self.special_tokens]
        return self.between_special(ids)

    def pairs(
        self,
        first: tf.Tensor,
        second: tf.Tensor,
        max_length: int,
        truncation: str = LONGEST_FIRST,
    ) -> tuple[tf.RaggedTensor, tf.RaggedTensor]:
        """Returns the ids of pairs of texts as a model reads them, and which text each belongs to.

        Args:
            first: The first text of each pair, string `[rows]`.
            second: The second text of each pair, string `[rows]`.
            max_length: The maximum number of ids of a row, special tokens included.
            truncation: Which text of a pair that is too long is truncated at its end, as in Hugging
                Face `tokenizers`: `"longest_first"`, the longer one, and then both in turn;
                `"only_second"`. Where the first one alone is too long, which the reference refuses,
                nothing of the second one is left. Defaults to `"longest_first"`.

        Returns:
            The ids and the segments, both int32 `[rows, (ids)]`.
        """
        start, end = _known(self.start_token_id), _known(self.end_token_id)
        room = max_length - len(start) - len(self.separator_ids) - len(end)
        first, second = self._whole(first), self._whole(second)
        lengths = first.row_lengths(), second.row_lengths()
        cut = _cut_longest_first if truncation == LONGEST_FIRST else _cut_second
        first, second = (
            _first_of_rows(ids, count)
            for ids, count in zip((first, second), cut(*lengths, tf.cast(room, tf.int64)))
        )
        return self.joined(first, second)

    def joined(
        self, first: tf.RaggedTensor, second: tf.RaggedTensor
    ) -> tuple[tf.RaggedTensor, tf.RaggedTensor]:
        """Returns the ids and the segments of pairs of rows, with the special tokens of pairs."""
        start, end = _known(self.start_token_id), _known(self.end_token_id)
        left = between(start, first, self.separator_ids)
        right = between((), second, end)
        segments = [
            ids.with_values(tf.fill(tf.shape(ids.values), segment))
            for ids, segment in ((left, 0), (right, self.second_segment))
        ]
        return tf.concat([left, right], axis=1), tf.concat(segments, axis=1)

    @property
    def before_second(self) -> int:
        """How many special tokens of a pair come before its second text."""
        return len(_known(self.start_token_id)) + len(self.separator_ids)

    @property
    def pair_special_tokens(self) -> int:
        """How many special tokens a pair has."""
        return self.before_second + len(_known(self.end_token_id))

    def _whole(self, texts: tf.Tensor) -> tf.RaggedTensor:
        return self.tokens(valid(texts))


def valid(texts: tf.Tensor) -> tf.Tensor:
    """Returns texts in which bytes that are no UTF-8 are U+FFFD."""
    return tf.strings.unicode_transcode(texts, "UTF-8", "UTF-8")


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
        # is around it apart.
        texts = tf.strings.regex_replace(texts, f"[{taken}]", self._dropped)
        for token, character in self.characters.items():
            texts = tf.strings.regex_replace(texts, re.escape(token), character)
        return texts


class CharacterMap:
    """Does in a graph what `CharacterRuns` says."""

    def __init__(self, runs: CharacterRuns):
        self._starts, self._patterns = runs.starts, runs.patterns

    def __call__(self, codes: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns what characters map to.

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


def _known(id: int | None) -> tuple[int, ...]:
    return () if id is None else (id,)


def between(before: Sequence[int], ids: tf.RaggedTensor, after: Sequence[int]) -> tf.RaggedTensor:
    """Returns rows of ids with the same ids before each, and after each.

    Args:
        before: Ids.
        ids: int32 `[rows, (ids)]`.
        after: Ids.
    """
    columns = [tf.fill([ids.nrows(out_type=tf.int32), 1], id) for id in (*before, *after)]
    return tf.concat([*columns[: len(before)], ids, *columns[len(before) :]], axis=1)


def _first_of_rows(ids: tf.RaggedTensor, count: tf.Tensor) -> tf.RaggedTensor:
    """Returns the requested number of ids from the start of each row, int64 `[rows]`."""
    return tf.ragged.boolean_mask(ids, tf.ragged.range(ids.row_lengths()) < count[:, None])


def _cut_longest_first(first, second, room):
    """Returns how many ids of each text stay: the longer text is cut first, then both in turn.

    The one that was longer keeps an odd id; the second one, where both were equally long.
    """
    shorter = tf.minimum(tf.minimum(first, second), room // 2)
    longer = tf.minimum(tf.maximum(first, second), room - shorter)
    return tf.where(first > second, longer, shorter), tf.where(first > second, shorter, longer)


def _cut_second(first, second, room):
    first = tf.minimum(first, room)
    return first, tf.minimum(second, room - first)
