"""Texts and their words as a model reads them: tokens in windows, and the tokens of each word."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from kerasllm.data.rows import TokensInMemory
from kerasllm.data.tokenizers.token_rows import row_offsets
from kerasllm.data.tokenizers.tokenizer import Tokenizer
from kerasllm.data.windows import Windows, cut_windows
from kerasllm.errors import RecipeError

_WHOLE = 1 << 30
NO_TOKEN = -1
"""Instead of a token, of a word that the tokenizer makes nothing of."""


@dataclass(frozen=True, eq=False)
class WordWindows:
    """Texts in windows. Each word belongs to one window, and words are in order.

    Attributes:
        ids: int32, the token ids of all windows, special tokens included.
        offsets: int64 `[windows + 1]`, where each window's begin and end.
        windows: The text and the slice of it that each window holds.
        word_offsets: int64 `[windows + 1]`, where the words of each window begin and end.
        word_tokens: int32 `[words]`, the place of each word's first token in its window, or
            `NO_TOKEN`.
        word_sizes: int32 `[words]`, how many of the window's tokens are of the word.
    """

    ids: np.ndarray
    offsets: np.ndarray
    windows: Windows
    word_offsets: np.ndarray
    word_tokens: np.ndarray
    word_sizes: np.ndarray

    @property
    def tokens(self) -> TokensInMemory:
        """The windows as rows of tokens."""
        return TokensInMemory(self.ids, self.offsets)


def special_tokens(tokenizer: Tokenizer) -> int:
    """Returns how many special tokens are around a text."""
    return sum(id is not None for id in (tokenizer.start_token_id, tokenizer.end_token_id))


def stride_of(tokenizer: Tokenizer, max_length: int, stride: int | None) -> int:
    """Returns how many tokens a window moves on: half of its length, unless it is told.

    Raises:
        RecipeError: If a window would leave out tokens between itself and the next one.
    """
    room = max_length - special_tokens(tokenizer)
    if stride is None:
        return max(room // 2, 1)
    if stride > room:
        raise RecipeError(
            f"Windows of {max_length} tokens, {max_length - room} of them special, with a stride "
            f"of {stride} skip tokens",
            where="data.stride",
            fix=f"set data.stride to {room} or less",
        )
    return stride


def cut_texts(
    tokenizer: Tokenizer,
    texts: Sequence[str],
    words: Sequence[Sequence[tuple[int, int]]],
    max_length: int,
    stride: int,
) -> WordWindows:
    """Tokenizes texts whole, and cuts them into windows where they are longer than a window.

    Args:
        tokenizer: Turns texts into tokens; it must know where they stand.
        texts: The texts.
        words: Where the words of each text begin and end, in order, in characters.
        max_length: The maximum number of tokens of a window, special tokens included.
        stride: How many tokens a window moves on.

    Raises:
        DataError: If a text is not valid Unicode.
        PresetError: If the tokenizer does not know where its tokens stand.
    """
    found = tokenizer.encode_offsets(texts, _WHOLE)
    before = int(tokenizer.start_token_id is not None)
    special = special_tokens(tokenizer)
    lengths = np.diff(found.offsets) - special
    content = row_offsets(lengths)
    windows = cut_windows(lengths, max_length - special, stride)
    # Tokens of the texts alone, one text after the other.
    taken = np.arange(content[-1]) + np.repeat(found.offsets[:-1] + before - content[:-1], lengths)
    ids, spans = found.ids[taken], found.spans[taken]
    base = row_offsets(np.fromiter((len(text) + 1 for text in texts), np.int64, len(texts)))[:-1]
    starts, ends = (spans[:, side] + np.repeat(base, lengths) for side in (0, 1))
    ends = np.maximum.accumulate(ends) if len(ends) else ends

    counts = np.fromiter(map(len, words), np.int64, len(words))
    rows = np.repeat(np.arange(len(texts)), counts)
    places = np.array([place for some in words for place in some], np.int64).reshape(-1, 2)
    places = places + base[rows][:, None]
    first = np.searchsorted(ends, places[:, 0], side="right")
    there = first < len(ids)
    there[there] = starts[first[there]] < places[there, 1]
    sizes = np.searchsorted(starts, places[:, 1], side="left") - first
    # One without a token goes with what is around it.
    near = np.clip(first, content[rows], np.maximum(content[rows + 1] - 1, content[rows]))
    owners = _owners(windows, content, rows, near)
    tokens = np.where(there, first - content[rows] - windows.starts[owners] + before, NO_TOKEN)
    left = (content[rows] + windows.ends[owners]) - first
    sizes = np.where(there, np.maximum(np.minimum(sizes, left), 1), 0)

    in_window = windows.ends - windows.starts
    offsets = row_offsets(in_window + special)
    out = np.empty(offsets[-1], np.int32)
    if tokenizer.start_token_id is not None:
        out[offsets[:-1]] = tokenizer.start_token_id
    if tokenizer.end_token_id is not None:
        out[offsets[1:] - 1] = tokenizer.end_token_id
    step = np.arange(int(in_window.sum())) - np.repeat(row_offsets(in_window)[:-1], in_window)
    out[np.repeat(offsets[:-1] + before, in_window) + step] = ids[
        np.repeat(content[windows.rows] + windows.starts, in_window) + step
    ]
    word_offsets = row_offsets(np.bincount(owners, minlength=len(windows)))
    return WordWindows(
        out,
        offsets,
        windows,
        word_offsets,
        tokens.astype(np.int32),
        sizes.astype(np.int32),
    )


def _owners(
    windows: Windows, content: np.ndarray, rows: np.ndarray, places: np.ndarray
) -> np.ndarray:
    """Returns the window of each word, int64 `[words]`.

    Args:
        windows: The windows.
        content: Where the tokens of each text begin.
        rows: The text of each word.
        places: The token of each word, counted over all texts.
    """
    firsts = np.flatnonzero(windows.firsts)
    lasts = np.append(firsts[1:], len(windows)) - 1
    keys = content[windows.rows] + windows.own_starts
    found = np.searchsorted(keys, places, side="right") - 1
    return np.clip(found, firsts[rows], lasts[rows])
