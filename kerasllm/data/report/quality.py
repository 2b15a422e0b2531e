"""Rows whose text is damaged: wrong encodings, characters that were lost, markup."""

from __future__ import annotations

import re

_LATIN = "".join(
    {chr(byte), bytes([byte]).decode("cp1252", "replace")}.pop()
    if bytes([byte]).decode("cp1252", "replace") == "\ufffd"
    else chr(byte) + bytes([byte]).decode("cp1252")
    for byte in range(0x80, 0xC0)
)
# What follows the first byte of a character in UTF-8, read as if it were cp1252 or Latin-1.
_NEXT = f"[{re.escape(_LATIN)}]"
# Two of two bytes in a row (Cyrillic, Greek), accents of Latin, punctuation, and emoji.
_MOJIBAKE = re.compile(
    f"(?:[\xc2-\xdf]{_NEXT}){{2}}|[\xc2\xc3](?![\u201d\u2019\xbb]){_NEXT}|\xe2{_NEXT}{_NEXT}"
    f"|[\xe3-\xef]{_NEXT}{_NEXT}(?=[\xe3-\xef]{_NEXT}|$|\\s)|\xf0{_NEXT}{{3}}"
)
_CONTROL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ufffd]")
_TAGS = (
    "a|b|i|p|br|hr|li|ul|ol|td|tr|th|em|h[1-6]|div|img|span|table|tbody|strong|script|style|html|"
    "body|head|meta|link|font|blockquote|code|pre|input|form|button|section|article|iframe"
)
_MARKUP = re.compile(
    rf"</?(?:{_TAGS})(?:\s[^<>]*)?/?>|&(?:nbsp|amp|lt|gt|quot|apos|#\d{{2,5}}|#x[0-9a-f]+);",
    re.IGNORECASE,
)


def garbled(text: str) -> str | None:
    r"""Says how a text is damaged, or returns `None`.

    Args:
        text: The text.

    Example:

    >>> garbled("The cafÃ© was closed")
    "'Ã©': UTF-8 that was read as another encoding"
    """
    if text.startswith(("b'", 'b"')) and text[-1:] == text[1] and len(text) > 3:
        return f"{text[:2]}: bytes as Python shows them"
    if text.isascii():
        # Most texts hold no control character either.
        found = None if text.isprintable() else _CONTROL.search(text)
    else:
        found = _CONTROL.search(text)
        if not found and (mojibake := _MOJIBAKE.search(text)):
            return f"{mojibake[0]!r}: UTF-8 that was read as another encoding"
    if not found:
        return None
    if found[0] == "\ufffd":
        return "U+FFFD: a character was lost when the text was decoded"
    return f"the control character {found[0]!a}"


def markup(text: str) -> str | None:
    """Returns the first HTML tag or entity of a text, or `None`."""
    if "<" not in text and "&" not in text:
        return None
    found = _MARKUP.search(text)
    return found[0][:40] if found else None
