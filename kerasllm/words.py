"""Numbers of things in words."""

from __future__ import annotations


def counted(count: int, noun: str, plural: str | None = None) -> str:
    """Returns a number with its noun: `1 text`, `2,000 texts`.

    Args:
        count: The number.
        noun: The noun for one of them.
        plural: The noun for several. Defaults to `None`: the same with an `s`.

    Example:
        >>> counted(1, "row"), counted(1200, "row"), counted(2, "match", "matches")
        ('1 row', '1,200 rows', '2 matches')
    """
    return f"{count:,} {noun if count == 1 else plural or noun + 's'}"
