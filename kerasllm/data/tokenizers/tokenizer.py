"""The base of all tokenizers: rows of ids between special tokens, truncated to a length."""

from __future__ import annotations

import abc
import hashlib
import itertools
import json
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib import metadata

import numpy as np

from kerasllm.data.tokenizers.encoding import Encoding
from kerasllm.data.tokenizers.pairs import TRUNCATIONS, PairTemplate, cut_longest_first
from kerasllm.data.tokenizers.token_rows import as_one, places, row_offsets
from kerasllm.errors import DataError, PresetError

# Raise it when a tokenizer of the same kind and settings would give other ids than before.
_VERSION = 1

# Small enough that all cores have work in a batch of 8,192 sentences or of 100 long documents,
# large enough that the cost of a call does not count.
_CHARACTERS_PER_CALL = 1 << 18
# What a text costs beside its characters.
_CHARACTERS_PER_TEXT = 64

_IDS, _LENGTHS = np.empty(0, np.int32), np.empty(0, np.int64)
_SPANS, _SEGMENTS = np.empty((0, 2), np.int32), np.empty(0, np.uint8)


class Tokenizer(abc.ABC):
    """Turns texts into token ids, many at a time.

    A subclass says how texts become tokens (`_tokenize`), and where these stand in the text
    (`_tokenize_spans`); this class runs it on all cores, cuts each row to the length asked for and
    puts the special tokens around it, as Hugging Face `tokenizers` does: the text is cut at its
    end so that the special tokens always fit.

    Args:
        start_token_id: The id put before each text, or `None`.
        end_token_id: The id put after each text, or `None`.
        pad_token_id: The id that pads the rows of a batch.
        description: One line that says what the tokenizer is.
        identity: All that decides which ids come out, as JSON values.
        pair_template: How two texts become one row. Defaults to `None`: one after the other,
            within one set of special tokens.
        threads: How many calls of `_tokenize` may run at once. Defaults to `None`: one a core.
    """

    def __init__(
        self,
        *,
        start_token_id: int | None,
        end_token_id: int | None,
        pad_token_id: int,
        description: str,
        identity: object,
        pair_template: PairTemplate | None = None,
        threads: int | None = None,
    ):
        self.start_token_id = start_token_id
        self.end_token_id = end_token_id
        self.pad_token_id = pad_token_id
        self.description = description
        self.pair_template = pair_template or PairTemplate.plain(start_token_id, end_token_id)
        self._threads = threads or os.cpu_count() or 1
        special = [start_token_id, end_token_id, pad_token_id]
        made_by = [metadata.version(package) for package in ("tokenizers", "tensorflow-text")]
        kind = [type(self).__name__, _VERSION, made_by]
        content = json.dumps([*kind, special, identity], sort_keys=True)
        self._fingerprint = hashlib.sha256(content.encode()).hexdigest()

    @property
    def fingerprint(self) -> str:
        """sha256, in hex, of the kind, the vocabulary, the settings and the libraries' versions."""
        return self._fingerprint

    @property
    def pair_separator_ids(self) -> tuple[int, ...]:
        """The ids between the texts of a pair: one for BERT, two for RoBERTa."""
        return self.pair_template.separator_ids

    @property
    def pair_special_tokens(self) -> int:
        """The number of special tokens in the row of a pair."""
        return self.pair_template.special_tokens

    @property
    def second_segment(self) -> int:
        """The segment of the second text of a pair: 1 for BERT, 0 for RoBERTa."""
        return self.pair_template.second_segment

    def encode(self, texts: Sequence[str], max_length: int) -> tuple[np.ndarray, np.ndarray]:
        """Returns the token ids of texts, special tokens included.

        Args:
            texts: The texts.
            max_length: The maximum number of tokens in a row, special tokens included. A longer
                text loses its end.

        Returns:
            The ids of all rows one after the other, int32 `[tokens]`, and where each row starts
            in them, int64 `[len(texts) + 1]`.

        Raises:
            DataError: If a text is not valid Unicode.

        Example:
            >>> ids, offsets = tokenizer.encode(["a good film", "bad"], max_length=128)
            >>> [ids[a:b].tolist() for a, b in zip(offsets, offsets[1:])]
            [[101, 1037, 2204, 2143, 102], [101, 2919, 102]]
        """
        room = self._room(max_length)
        ids, lengths = self._run(
            lambda part, _: self._rows(self._tokenize(part), room), [texts], (_IDS, _LENGTHS)
        )
        return ids, row_offsets(lengths)

    def encode_offsets(self, texts: Sequence[str], max_length: int) -> Encoding:
        """Returns the token ids of texts, and the characters that each token stands for.

        Args:
            texts: The texts.
            max_length: The maximum number of tokens in a row, special tokens included. A longer
                text loses its end.

        Returns:
            The ids and offsets that `encode` returns, with `spans`. A special token that is
            written in a text has the span of its characters.

        Raises:
            DataError: If a text is not valid Unicode.
            PresetError: If this kind of tokenizer does not know where its tokens stand.

        Example:
            >>> text = "a good film"
            >>> encoding = tokenizer.encode_offsets([text], max_length=128)
            >>> [text[start:end] for start, end in encoding.spans]
            ['', 'a', 'good', 'film', '']
        """
        room = self._room(max_length)
        ids, spans, lengths = self._run(
            lambda part, _: self._rows(self._tokenize_spans(part), room),
            [texts],
            (_IDS, _SPANS, _LENGTHS),
        )
        return Encoding(ids, row_offsets(lengths), spans=spans)

    def encode_pairs(
        self,
        first: Sequence[str],
        second: Sequence[str],
        max_length: int,
        *,
        truncation: str = "longest_first",
        spans: bool = False,
    ) -> Encoding:
        """Returns the token ids of pairs of texts, and which text each token belongs to.

        Args:
            first: The first text of each pair.
            second: The second text of each pair.
            max_length: The maximum number of tokens in a row, special tokens included.
            truncation: Which text of a pair that is too long is truncated at its end:
                `"longest_first"` the longer one, and then both in turn; `"only_second"` the second
                one, as for a question and the document with its answer. Defaults to
                `"longest_first"`.
            spans: Whether to return the characters that each token stands for, counted in its own
                text. Defaults to `False`.

        Returns:
            One row a pair, with `segments` and, if asked for, `spans`.

        Raises:
            DataError: If a text is not valid Unicode, or if only the second text may be cut and
                the first leaves no room for any of it.
            PresetError: If this kind of tokenizer does not know where its tokens stand.

        Example:
            >>> encoding = tokenizer.encode_pairs(["is it good"], ["a good film"], max_length=128)
            >>> encoding.ids.tolist()
            [101, 2003, 2009, 2204, 102, 1037, 2204, 2143, 102]
            >>> encoding.segments.tolist()
            [0, 0, 0, 0, 0, 1, 1, 1, 1]
        """
        if len(first) != len(second):
            raise ValueError(
                "Each first text needs a second one. "
                f"Received: {len(first)} first and {len(second)} second texts"
            )
        if truncation not in TRUNCATIONS:
            raise ValueError(
                f"truncation must be one of {', '.join(map(repr, TRUNCATIONS))}. "
                f"Received: truncation={truncation!r}"
            )
        room = max_length - self.pair_special_tokens
        if room < 2:
            raise ValueError(
                f"max_length must leave room for a token of each text beside "
                f"{self.pair_special_tokens} special ones. Received: max_length={max_length}"
            )
        tokenize = self._tokenize_spans if spans else self._tokenize

        def rows(first: Sequence[str], second: Sequence[str], place: int) -> tuple:
            columns = tokenize(first), tokenize(second)
            lengths = [np.diff(starts) for *_, starts in columns]
            if truncation == "longest_first":
                lengths = cut_longest_first(*lengths, room)
            else:
                self._check_room_for_second(*lengths, max_length, place)
                lengths = lengths[0], np.minimum(lengths[1], room - lengths[0])
            return self._pair_rows(columns, lengths)

        nothing = (_IDS, _SEGMENTS, *[_SPANS] * spans, _LENGTHS)
        ids, segments, *found, lengths = self._run(rows, [first, second], nothing)
        return Encoding(ids, row_offsets(lengths), *found, segments=segments)

    @abc.abstractmethod
    def _tokenize(self, texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        """Returns the ids of whole texts without special tokens, int32, and row offsets, int64."""

    def _tokenize_spans(self, texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Returns what `_tokenize` does and, second, the characters of each token.

        Returns:
            The ids, int32 `[tokens]`; where each token starts and ends in its text, in characters,
            int32 `[tokens, 2]`; and row offsets, int64 `[texts + 1]`.
        """
        raise PresetError(
            f"The tokenizer ({self.description}) does not provide character offsets",
            fix="use a model with a BERT, RoBERTa or SentencePiece tokenizer, or a tokenizer.json",
        )

    def _room(self, max_length: int) -> int:
        room = max_length - (self.start_token_id is not None) - (self.end_token_id is not None)
        if room < 1:
            raise ValueError(
                "max_length must leave room for a token beside the special ones. "
                f"Received: max_length={max_length}"
            )
        return room

    def _run(
        self,
        rows: Callable[..., tuple[np.ndarray, ...]],
        columns: Sequence[Sequence[str]],
        nothing: tuple[np.ndarray, ...],
    ) -> list[np.ndarray]:
        """Runs a function on slices of the texts, on all cores, and joins what it returns.

        Args:
            rows: From a slice of each column, and the place where it starts, to arrays.
            columns: Texts; or the first and the second texts of pairs.
            nothing: What `rows` would return of no texts.
        """
        calls = [
            (*(column[start:end] for column in columns), start) for start, end in _cuts(columns)
        ]
        try:
            if len(calls) < 2 or self._threads < 2:
                parts = [rows(*call) for call in calls]
            else:
                with ThreadPoolExecutor(self._threads) as pool:
                    parts = list(pool.map(lambda call: rows(*call), calls))
        except (UnicodeEncodeError, TypeError) as error:
            for column in columns:
                _refuse_broken_text(column, error)
            raise
        return [np.concatenate(arrays) for arrays in zip(nothing, *parts)]

    def _rows(self, columns: tuple[np.ndarray, ...], room: int) -> tuple[np.ndarray, ...]:
        """Returns the finished rows of some texts one after the other, and the rows' lengths."""
        ids, *spans, offsets = columns
        kept = np.minimum(np.diff(offsets), room)
        first = int(self.start_token_id is not None)
        lengths = kept + first + (self.end_token_id is not None)
        rows = row_offsets(lengths)
        finished = np.empty(rows[-1], np.int32)
        if self.start_token_id is not None:
            finished[rows[:-1]] = self.start_token_id
        if self.end_token_id is not None:
            finished[rows[1:] - 1] = self.end_token_id
        taken, placed = places(offsets[:-1], rows[:-1] + first, kept)
        finished[placed] = ids[taken]
        moved = [np.zeros((rows[-1], 2), np.int32) for _ in spans]
        for target, source in zip(moved, spans):
            as_one(target)[placed] = as_one(source)[taken]
        return finished, *moved, lengths

    def _pair_rows(
        self, columns: Sequence[tuple[np.ndarray, ...]], kept: Sequence[np.ndarray]
    ) -> tuple[np.ndarray, ...]:
        """Returns the finished rows of some pairs: ids, segments, spans if any, lengths."""
        texts = dict(zip("AB", zip(columns, kept)))
        lengths = kept[0] + kept[1] + self.pair_special_tokens
        rows = row_offsets(lengths)
        ids = np.empty(rows[-1], np.int32)
        segments = np.zeros(rows[-1], np.uint8)
        spans = [np.zeros((rows[-1], 2), np.int32) for _ in columns[0][1:-1]]
        place = rows[:-1].copy()
        for piece, segment in self.pair_template.pieces:
            if piece in texts:
                (found, *found_spans, starts), count = texts[piece]
                taken, placed = places(starts[:-1], place, count)
                ids[placed] = found[taken]
                for target, source in zip(spans, found_spans):
                    as_one(target)[placed] = as_one(source)[taken]
            else:
                placed, count = place.copy(), 1
                ids[placed] = piece
            if segment:
                segments[placed] = segment
            place += count
        return ids, segments, *spans, lengths

    def _check_room_for_second(
        self, first: np.ndarray, second: np.ndarray, max_length: int, place: int
    ) -> None:
        """Refuses pairs whose first text leaves no room for any of the second one."""
        room = max_length - self.pair_special_tokens
        full = np.flatnonzero((first + second > room) & (first >= room))
        if len(full):
            raise DataError(
                f"The first text of pair {place + full[0] + 1} has {first[full[0]]} tokens, which "
                f"leaves no room for the second text: a row has {max_length} tokens, "
                f"{self.pair_special_tokens} of them special",
                fix="raise max_length, shorten the first text, or truncate the longer text first",
            )


def _cuts(columns: Sequence[Sequence[str]]) -> list[tuple[int, int]]:
    """Returns where to cut the rows into slices of about the same size."""
    count = len(columns[0])
    sizes = np.full(count, _CHARACTERS_PER_TEXT, np.int64)
    for column in columns:
        sizes += np.fromiter(map(len, column), np.int64, count)
    slices = np.cumsum(sizes) // _CHARACTERS_PER_CALL
    cuts = [0, *(np.flatnonzero(np.diff(slices)) + 1).tolist(), count]
    return [(start, end) for start, end in itertools.pairwise(cuts) if start < end]


def _refuse_broken_text(texts: Sequence[str], error: Exception) -> None:
    """Raises a `DataError` about the first text that has half of a surrogate pair."""
    for index, text in enumerate(texts):
        try:
            text.encode()
        except UnicodeEncodeError as problem:
            raise DataError(
                f"Text {index + 1} of {len(texts)} is not valid Unicode: "
                f"character {problem.start + 1} is {text[problem.start]!a}, half of a pair",
                fix="write the character whole, or leave the row out",
            ) from error
