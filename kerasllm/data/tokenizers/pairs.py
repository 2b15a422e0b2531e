"""Pairs of texts: which special tokens join them, which segment is whose, and what is cut."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

FIRST, SECOND = "A", "B"

TRUNCATIONS = ("longest_first", "only_second")


@dataclass(frozen=True)
class PairTemplate:
    """How two texts become one row.

    Args:
        pieces: What a row consists of, in order: the id of a special token, or `"A"` for the first
            text and `"B"` for the second one; each with its segment.

    Example:
        >>> bert = PairTemplate(((101, 0), ("A", 0), (102, 0), ("B", 1), (102, 1)))
        >>> bert.separator_ids, bert.second_segment, bert.special_tokens
        ((102,), 1, 3)
    """

    pieces: tuple[tuple[int | str, int], ...]

    @classmethod
    def plain(cls, start_id: int | None, end_id: int | None) -> PairTemplate:
        """One text after the other, within one set of special tokens.

        Args:
            start_id: The id before the first text, or `None`.
            end_id: The id after the second text, or `None`.
        """
        pieces = [(start_id, 0), (FIRST, 0), (SECOND, 1), (end_id, 1)]
        return cls(tuple(piece for piece in pieces if piece[0] is not None))

    @classmethod
    def bert(cls, start_id: int, end_id: int) -> PairTemplate:
        """BERT's `[CLS] A [SEP] B [SEP]`, in two segments.

        Args:
            start_id: The id of `[CLS]`.
            end_id: The id of `[SEP]`.
        """
        return cls(((start_id, 0), (FIRST, 0), (end_id, 0), (SECOND, 1), (end_id, 1)))

    @classmethod
    def roberta(cls, start_id: int, end_id: int) -> PairTemplate:
        """RoBERTa's `<s> A </s></s> B </s>`, all in segment 0.

        Args:
            start_id: The id of `<s>`.
            end_id: The id of `</s>`.
        """
        pieces = [start_id, FIRST, end_id, end_id, SECOND, end_id]
        return cls(tuple((piece, 0) for piece in pieces))

    @classmethod
    def from_post_processor(cls, processor: Mapping[str, Any] | None) -> PairTemplate | None:
        """Returns the pair template of a `tokenizer.json`.

        Args:
            processor: Its `post_processor`, as the object that it is in JSON.

        Returns:
            The template, or `None` if the post-processor has none.
        """
        for step in reversed(post_processor_steps(processor)):
            if step["type"] == "TemplateProcessing":
                return cls(tuple(_template_pieces(step, "pair")))
            if step["type"] in ("BertProcessing", "RobertaProcessing"):
                build = cls.bert if step["type"] == "BertProcessing" else cls.roberta
                return build(step["cls"][1], step["sep"][1])
        return None

    @property
    def separator_ids(self) -> tuple[int, ...]:
        """The ids between the two texts."""
        places = [place for place, (piece, _) in enumerate(self.pieces) if piece in (FIRST, SECOND)]
        return tuple(piece for piece, _ in self.pieces[places[0] + 1 : places[1]])

    @property
    def second_segment(self) -> int:
        """The segment of the second text."""
        return next(segment for piece, segment in self.pieces if piece == SECOND)

    @property
    def special_tokens(self) -> int:
        """The number of special tokens in a row."""
        return sum(not isinstance(piece, str) for piece, _ in self.pieces)


def post_processor_steps(processor: Mapping[str, Any] | None) -> list[Mapping[str, Any]]:
    """Returns the steps of a `tokenizer.json`'s `post_processor`, none if it is `None`."""
    if processor is None:
        return []
    return list(processor.get("processors", [processor]))


def leading_ids(processor: Mapping[str, Any] | None) -> tuple[int, ...]:
    """Returns the ids that a `post_processor` puts before a text that stands alone."""
    for step in reversed(post_processor_steps(processor)):
        if step["type"] == "TemplateProcessing":
            pieces = [piece for piece, _ in _template_pieces(step, "single")]
            return tuple(pieces[: pieces.index(FIRST)])
        if step["type"] in ("BertProcessing", "RobertaProcessing"):
            return (step["cls"][1],)
    return ()


def _template_pieces(step: Mapping[str, Any], name: str) -> list[tuple[int | str, int]]:
    pieces: list[tuple[int | str, int]] = []
    for piece in step[name]:
        if "Sequence" in piece:
            pieces.append((piece["Sequence"]["id"], piece["Sequence"]["type_id"]))
        else:
            special = piece["SpecialToken"]
            ids = step["special_tokens"][special["id"]]["ids"]
            pieces.extend((id, special["type_id"]) for id in ids)
    return pieces


def cut_longest_first(
    first: np.ndarray, second: np.ndarray, room: int
) -> tuple[np.ndarray, np.ndarray]:
    """Returns how many tokens of each text of each pair stay, as Hugging Face `tokenizers` cuts.

    The longer text is cut until both are equally long, and then both: each keeps half of the room,
    and the one that was longer (the second, if they were equal) the odd token.

    Args:
        first: The lengths of the first texts, int64 `[pairs]`.
        second: The lengths of the second texts, int64 `[pairs]`.
        room: The maximum number of tokens of both together.

    Returns:
        The lengths that are left, two arrays int64 `[pairs]`.
    """
    shorter = np.minimum(np.minimum(first, second), room // 2)
    longer = np.minimum(np.maximum(first, second), room - shorter)
    first_is_longer = first > second
    return (
        np.where(first_is_longer, longer, shorter),
        np.where(first_is_longer, shorter, longer),
    )
