"""Texts escaped for display in a terminal, a page or a picture."""

from __future__ import annotations

REPLACEMENT = "\ufffd"


def safe(text: str) -> str:
    """Returns a text in which control characters, and those that turn a direction, are replaced.

    So ANSI codes and overrides of the direction are seen, and do nothing. White space becomes a
    space.
    """
    return "".join(
        sign if sign.isprintable() else " " if sign.isspace() else REPLACEMENT for sign in text
    )
