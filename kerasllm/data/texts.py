"""Texts that are given in Python: which forms they have, and what is refused."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from kerasllm.errors import DataError


def checked_text(given: Any, count: int, number: int) -> str | tuple[str, ...]:
    """Returns an item of a list as a text, or as a tuple of texts where a model reads several.

    Args:
        given: The item.
        count: How many texts the model reads at a time.
        number: The place of the item, for messages.

    Raises:
        DataError: If it is something else.
    """
    texts = tuple(given) if isinstance(given, (list, tuple)) else (given,)
    if not all(isinstance(text, str) for text in texts):
        raise DataError(
            f"Item {number} is no text. Received: {given!r}", fix="give texts as strings"
        )
    if len(texts) != count:
        one = count == 1
        raise DataError(
            f"The model reads {'one text' if one else f'{count} texts'} at a time. "
            f"Received as item {number}: {given!r}",
            fix='give a list of texts, as in ["one", "another"]'
            if one
            else "give a list of pairs, as in "
            '[("one text", "the text beside it")], or a tuple of two lists',
        )
    # Of NumPy, texts are of a class of their own.
    return str(texts[0]) if count == 1 else tuple(map(str, texts))


def checked_texts(texts: Sequence[Any], count: int = 1) -> list:
    """Returns what `checked_text` does of each of some texts."""
    return [checked_text(text, count, number) for number, text in enumerate(texts)]


def is_pair(value: Any) -> bool:
    """Tells whether these are two texts that belong together."""
    return (
        isinstance(value, (list, tuple))
        and len(value) == 2
        and all(isinstance(each, str) for each in value)
    )


def flat(item: Any) -> Any:
    """Returns an item of one text, as of an array `[n, 1]`, as this text; and pairs as tuples."""
    if isinstance(item, (list, tuple)) and len(item) == 1 and isinstance(item[0], str):
        return item[0]
    return tuple(item) if is_pair(item) else item


def is_conversation(values: Sequence[Any]) -> bool:
    """Tells whether these are the messages of one conversation."""
    return bool(values) and all(
        isinstance(each, Mapping) and "role" in each and "content" in each for each in values
    )


def refuse_unless_list(values: Any, example: str = "texts") -> None:
    """Refuses what is no list of texts or labels, and has no order or no items.

    Raises:
        DataError: If it is one text, a set, a table, or a single value.
    """
    if isinstance(values, (str, bytes)) or getattr(values, "shape", None) == ():
        text = values.numpy() if hasattr(values, "numpy") else values
        text = text.item() if hasattr(text, "item") else text
        text = text.decode() if isinstance(text, bytes) else text
        shown = repr(text[:20] if isinstance(text, str) else text)
        raise DataError(
            f"One value is given where a list is expected: {shown}",
            fix=f"write [{shown}], with brackets",
        )
    if isinstance(values, (set, frozenset)):
        raise DataError(
            f"A set of {example} is given, which has no order", fix="give a list"
        )
    if hasattr(values, "columns") or hasattr(values, "column_names"):
        raise DataError(
            "A table is given where a list is expected",
            fix="give a column of it, or use `kerasllm.Dataset.from_pandas(frame, text=..., "
            "label=...)`",
        )
    if isinstance(values, Mapping) or not hasattr(values, "__iter__"):
        raise DataError(
            f"A list is expected. Received: {type(values).__name__}", fix="give a list"
        )
