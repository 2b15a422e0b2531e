"""What every tokenizer has in common: rows of ids between special tokens, cut to a length."""

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

from kerasllm.errors import DataError

Road = Callable[[Sequence[str]], tuple[np.ndarray, np.ndarray]]
"""From texts to their ids one after the other, int32, and where each starts, int64."""

# Raise it when a tokenizer of the same kind and settings would give other ids than before.
_VERSION = 1

# Small enough that all cores have work in a batch of 8,192 sentences or of 100 long documents,
# large enough that the cost of a call does not count.
_CHARACTERS_PER_CALL = 1 << 18
# What a text costs beside its characters.
_CHARACTERS_PER_TEXT = 64


class Tokenizer(abc.ABC):
    """Turns texts into token ids, many at a time.

    A subclass says how texts become pieces (`_tokenize`); this class runs it on all cores, cuts
    each row to the length asked for and puts the special tokens around it, as Hugging Face
    `tokenizers` does: the text is cut at its end so that the special tokens always fit.

    Args:
        start_token_id: The id put before each text, or `None`.
        end_token_id: The id put after each text, or `None`.
        pad_token_id: The id that fills rows up in a batch.
        description: One line that says what the tokenizer is.
        identity: All that decides which ids come out, as JSON values.
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
        threads: int | None = None,
    ):
        self.start_token_id = start_token_id
        self.end_token_id = end_token_id
        self.pad_token_id = pad_token_id
        self.description = description
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

    def encode(self, texts: Sequence[str], max_length: int) -> tuple[np.ndarray, np.ndarray]:
        """Returns the token ids of texts, special tokens included.

        Args:
            texts: The texts.
            max_length: The most tokens in a row, special tokens included. A longer text loses
                its end.

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
        room = max_length - (self.start_token_id is not None) - (self.end_token_id is not None)
        if room < 1:
            raise ValueError(
                "max_length must leave room for a token beside the special ones. "
                f"Received: max_length={max_length}"
            )
        calls = _split(texts)
        try:
            if len(calls) < 2 or self._threads < 2:
                parts = [self._rows(call, room) for call in calls]
            else:
                with ThreadPoolExecutor(self._threads) as pool:
                    parts = list(pool.map(lambda call: self._rows(call, room), calls))
        except (UnicodeEncodeError, TypeError) as error:
            _refuse_broken_text(texts, error)
            raise
        ids = [np.empty(0, np.int32), *(ids for ids, _ in parts)]
        lengths = [np.empty(0, np.int64), *(lengths for _, lengths in parts)]
        return np.concatenate(ids), _offsets(np.concatenate(lengths))

    @abc.abstractmethod
    def _tokenize(self, texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        """Returns the ids of whole texts without special tokens, int32, and row offsets, int64."""

    def _rows(self, texts: Sequence[str], room: int) -> tuple[np.ndarray, np.ndarray]:
        """Returns the finished rows of some texts one after the other, and the rows' lengths."""
        ids, offsets = self._tokenize(texts)
        kept = np.minimum(np.diff(offsets), room)
        first = int(self.start_token_id is not None)
        lengths = kept + first + (self.end_token_id is not None)
        rows = _offsets(lengths)
        finished = np.empty(rows[-1], np.int32)
        if self.start_token_id is not None:
            finished[rows[:-1]] = self.start_token_id
        if self.end_token_id is not None:
            finished[rows[1:] - 1] = self.end_token_id
        copy_rows(ids, offsets[:-1], finished, rows[:-1] + first, kept)
        return finished, lengths


def _split(texts: Sequence[str]) -> list[Sequence[str]]:
    """Returns the texts in parts of about the same size."""
    sizes = np.fromiter(map(len, texts), np.int64, len(texts)) + _CHARACTERS_PER_TEXT
    parts = np.cumsum(sizes) // _CHARACTERS_PER_CALL
    cuts = [0, *(np.flatnonzero(np.diff(parts)) + 1), len(texts)]
    return [texts[start:end] for start, end in itertools.pairwise(cuts) if start < end]


def copy_rows(
    source: np.ndarray,
    source_starts: np.ndarray,
    target: np.ndarray,
    target_starts: np.ndarray,
    lengths: np.ndarray,
) -> None:
    """Copies rows of one flat array to their places in another, whatever the rows' lengths.

    Args:
        source: The ids to copy from.
        source_starts: Where each row starts in `source`, int64 `[rows]`.
        target: The ids to copy into.
        target_starts: Where each row starts in `target`, int64 `[rows]`.
        lengths: How many ids each row has, int64 `[rows]`.
    """
    starts = _offsets(lengths)
    steps = np.arange(starts[-1])
    taken = steps + np.repeat(source_starts - starts[:-1], lengths)
    target[steps + np.repeat(target_starts - starts[:-1], lengths)] = source[taken]


def merge_roads(
    texts: Sequence[str], taken: np.ndarray, road: Road, other_road: Road
) -> tuple[np.ndarray, np.ndarray]:
    """Tokenizes some texts one way and the others another way.

    Args:
        texts: The texts.
        taken: Which of them take the first road, bool `[len(texts)]`.
        road: From texts to what `flatten` gives of their ids.
        other_road: The same for the others.

    Returns:
        What `flatten` gives of the ids of all texts.
    """
    if taken.all():
        return road(texts)
    if not taken.any():
        return other_road(texts)
    parts = []
    for rows, tokenize in (
        (np.flatnonzero(taken), road),
        (np.flatnonzero(~taken), other_road),
    ):
        parts.append((rows, *tokenize([texts[row] for row in rows])))
    lengths = np.empty(len(texts), np.int64)
    for rows, _, starts in parts:
        lengths[rows] = np.diff(starts)
    offsets = _offsets(lengths)
    merged = np.empty(offsets[-1], np.int32)
    for rows, ids, starts in parts:
        copy_rows(ids, starts[:-1], merged, offsets[rows], lengths[rows])
    return merged, offsets


def flatten(rows: Sequence[Sequence[int]]) -> tuple[np.ndarray, np.ndarray]:
    """Returns rows of ids one after the other, int32, and where each starts, int64 `[rows + 1]`."""
    offsets = _offsets(np.fromiter(map(len, rows), np.int64, len(rows)))
    ids = np.empty(offsets[-1], np.int32)
    for row, start, end in zip(rows, offsets, offsets[1:]):
        ids[start:end] = row
    return ids, offsets


def _offsets(lengths: np.ndarray) -> np.ndarray:
    offsets = np.zeros(len(lengths) + 1, np.int64)
    np.cumsum(lengths, out=offsets[1:])
    return offsets


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
