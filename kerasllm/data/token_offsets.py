"""A row of tokens with the text and the characters that each one comes from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from kerasllm.data.tokenizers import Tokenizer
from kerasllm.data.tokenizers.pairs import FIRST, SECOND, cut_longest_first

SPECIAL = -1
"""Instead of the number of a text, of a token that is of none."""
_WHOLE = 1 << 30


class Content(NamedTuple):
    """The tokens of a text without special ones.

    Attributes:
        ids: int32 `[tokens]`.
        spans: int32 `[tokens, 2]`, the characters of each.
    """

    ids: np.ndarray
    spans: np.ndarray

    def part(self, start: int, end: int) -> Content:
        """Returns some of the tokens."""
        return Content(self.ids[start:end], self.spans[start:end])


@dataclass(frozen=True, eq=False)
class TokenOffsets:
    """A row as a model reads it.

    Attributes:
        texts: The texts that it was made of: one or two.
        ids: int32 `[tokens]`, special tokens included.
        segments: int32 `[tokens]`, the segment of each.
        owners: int32 `[tokens]`, the number of the text of each, or `SPECIAL`.
        spans: int32 `[tokens, 2]`, its characters in that text.
    """

    texts: tuple[str, ...]
    ids: np.ndarray
    segments: np.ndarray
    owners: np.ndarray
    spans: np.ndarray

    def __len__(self) -> int:
        """The number of tokens."""
        return len(self.ids)

    def characters_read(self, text: int) -> tuple[int, int]:
        """Returns the first character that is read of a text, and the one after the last."""
        spans = self.spans[self.owners == text]
        return (int(spans[:, 0].min()), int(spans[:, 1].max())) if len(spans) else (0, 0)

    def padded(self, length: int, pad_id: int) -> TokenOffsets:
        """Returns the row with padding after it."""
        more = max(length - len(self), 0)
        zeros = np.zeros(more, np.int32)
        return TokenOffsets(
            self.texts,
            np.concatenate([self.ids, zeros + np.int32(pad_id)]),
            np.concatenate([self.segments, zeros]),
            np.concatenate([self.owners, zeros + np.int32(SPECIAL)]),
            np.concatenate([self.spans, np.zeros((more, 2), np.int32)]),
        )


def contents_of(tokenizer: Tokenizer, texts: Sequence[str]) -> list[Content]:
    """Returns the tokens of whole texts, without special ones.

    Raises:
        DataError: If a text is not valid Unicode.
        PresetError: If this kind of tokenizer does not know where its tokens stand.
    """
    found = tokenizer.encode_offsets(texts, _WHOLE)
    before = int(tokenizer.start_token_id is not None)
    after = int(tokenizer.end_token_id is not None)
    return [
        Content(found.ids[start + before : end - after], found.spans[start + before : end - after])
        for start, end in zip(found.offsets[:-1], found.offsets[1:], strict=True)
    ]


def place_text(
    tokenizer: Tokenizer, text: str, max_length: int, content: Content | None = None
) -> TokenOffsets:
    """Returns the row of a text; one that is too long is truncated at its end.

    Args:
        tokenizer: Turns texts into tokens; it must know where they stand.
        text: The text.
        max_length: The maximum number of tokens of a row, special tokens included.
        content: The tokens of the text that are read. Defaults to `None`: all.
    """
    pieces = ((tokenizer.start_token_id, 0), (FIRST, 0), (tokenizer.end_token_id, 0))
    pieces = [piece for piece in pieces if piece[0] is not None]
    content = content or contents_of(tokenizer, [text])[0]
    room = max_length - len(pieces) + 1
    return _joined((text,), {FIRST: content.part(0, room)}, pieces)


def place_pair(
    tokenizer: Tokenizer,
    pair: tuple[str, str],
    max_length: int,
    truncation: str = "longest_first",
    contents: tuple[Content, Content] | None = None,
) -> TokenOffsets:
    """Returns the row of a pair of texts, as `Tokenizer.encode_pairs` makes it.

    Args:
        tokenizer: As for `place_text`.
        pair: The texts.
        max_length: The maximum number of tokens of a row, special tokens included.
        truncation: Which text is truncated at its end where both are too long. Defaults to
            `"longest_first"`.
        contents: The tokens of both that are read. Defaults to `None`: all.
    """
    first, second = contents or contents_of(tokenizer, pair)
    room = max_length - tokenizer.pair_special_tokens
    lengths = np.array([len(first.ids)]), np.array([len(second.ids)])
    if truncation == "longest_first":
        lengths = cut_longest_first(*lengths, room)
    found = {
        FIRST: first.part(0, int(lengths[0][0])),
        SECOND: second.part(0, min(int(lengths[1][0]), room - int(lengths[0][0]))),
    }
    return _joined(pair, found, tokenizer.pair_template.pieces)


def _joined(
    texts: tuple[str, ...],
    contents: dict[str, Content],
    pieces: Sequence[tuple[int | str, int]],
) -> TokenOffsets:
    """Returns a row of contents and special tokens, in the order of a template."""
    ids, segments, owners, spans = [], [], [], []
    for piece, segment in pieces:
        if isinstance(piece, str):
            content, owner = contents[piece], (FIRST, SECOND).index(piece)
        else:
            content = Content(np.array([piece], np.int32), np.zeros((1, 2), np.int32))
            owner = SPECIAL
        ids.append(content.ids)
        spans.append(content.spans)
        segments.append(np.full(len(content.ids), segment, np.int32))
        owners.append(np.full(len(content.ids), owner, np.int32))
    return TokenOffsets(
        texts,
        np.concatenate(ids).astype(np.int32),
        np.concatenate(segments),
        np.concatenate(owners),
        np.concatenate(spans).astype(np.int32),
    )
