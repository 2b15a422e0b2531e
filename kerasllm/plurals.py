"""Numbers with their nouns: 1 row, 2 rows."""

from __future__ import annotations


def counted(count: int, noun: str, plural: str | None = None) -> str:
    """Returns a number with its noun, in the singular or the plural.

    Args:
        count: How many.
        noun: The noun in the singular.
        plural: The noun in the plural. Defaults to `None`: with an s.

    Example:

    >>> counted(1, "row"), counted(2048, "row"), counted(2, "class", "classes")
    ('1 row', '2,048 rows', '2 classes')
    """
    return f"{count:,} {noun if count == 1 else plural or noun + 's'}"
