"""The special tokens around the texts of an encoder-decoder."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple


class Frame(NamedTuple):
    """The special tokens around a text.

    Attributes:
        before: Ids before it. Defaults to `()`.
        after: Ids after it. Defaults to `()`.
    """

    before: tuple[int, ...] = ()
    after: tuple[int, ...] = ()


def frame_of(processor: Mapping | None) -> Frame | None:
    """Returns what a post-processor of a `tokenizer.json` puts around a single text.

    Args:
        processor: The `post_processor`, or `None`.

    Returns:
        The frame, `None` where the post-processor says nothing of it.
    """
    for step in (processor or {}).get("processors", [processor or {}]):
        kind = step.get("type")
        if kind in ("RobertaProcessing", "BertProcessing"):
            return Frame((step["cls"][1],), (step["sep"][1],))
        if kind == "TemplateProcessing":
            before: list[int] = []
            after: list[int] | None = None
            for piece in step["single"]:
                if "Sequence" in piece:
                    after = []
                    continue
                ids = step["special_tokens"][piece["SpecialToken"]["id"]]["ids"]
                (before if after is None else after).extend(ids)
            return Frame(tuple(before), tuple(after or ()))
    return None
