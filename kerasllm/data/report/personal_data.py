"""Patterns of personal data and of secrets; what is found is never shown whole."""

from __future__ import annotations

import re
from collections.abc import Iterator

KINDS = {
    "email": "e-mail addresses",
    "phone": "phone numbers",
    "card": "payment card numbers",
    "key": "keys, tokens or passwords",
}
"""What is looked for, in words."""

_EMAIL = re.compile(r"[\w.+-]{1,64}@[\w-]+(?:\.[\w-]+)*\.[A-Za-z]{2,24}\b")
_CARD = re.compile(
    r"(?<![\d.,-])(?:\d{4}([ -]?)\d{4}\1\d{4}\1\d{1,7}|3[47]\d\d([ -]?)\d{6}\2\d{5})(?![\d.,]?\d)"
)
# A plus, or groups of digits as phones have them; a date and a sum of money are none.
_PHONE = re.compile(
    r"(?<![\w.,/-])(?:\+\d{1,3}[ .-]?(?:\(\d{1,4}\)[ .-]?)?\d{1,4}(?:[ .-]?\d{2,4}){1,4}"
    r"|\(\d{2,5}\) ?\d{3,4}[ .-]\d{3,4}|\d{3}[ .-]\d{3}[ .-]\d{4}|0\d{2,4}[ /-]\d{3,4}[ -]?\d{3,4})"
    r"(?![\w/-]?\d)"
)
_KEY = re.compile(
    r"\bAKIA[0-9A-Z]{16}\b|\bgh[pousr]_[A-Za-z0-9]{30,}|\bsk-(?:[a-z]+-)?[A-Za-z0-9_-]{20,}"
    r"|\bAIza[0-9A-Za-z_-]{35}|\bxox[baprs]-[0-9A-Za-z-]{10,}|\bhf_[A-Za-z0-9]{30,}"
    r"|-----BEGIN [A-Z ]*PRIVATE KEY-----|\beyJ[\w-]{10,}\.eyJ[\w-]{10,}\.[\w-]{10,}"
    r"|\b(?:api[_-]?key|secret|access[_-]?token|passw(?:or)?d)\b[\"']?\s*[:=]\s*[\"']?[^\s\"']{8,}",
    re.IGNORECASE,
)
_DIGIT = re.compile(r"\d\D{0,3}\d\D{0,3}\d")
_KEY_MARKS = ("AKIA", "gh", "sk-", "AIza", "xox", "hf_", "-----BEGIN", "eyJ", "=", ":")


def personal_data(text: str) -> list[str]:
    """Returns which of `KINDS` a text holds.

    Example:

    >>> personal_data("Write to ann@example.org or call +49 30 901820")
    ['email', 'phone']
    """
    return sorted({kind for kind, _, _ in _found(text)}, key=list(KINDS).index)


def masked(text: str) -> str:
    """Returns a text without its personal data.

    Example:

    >>> masked("Write to ann@example.org")
    'Write to [email]'
    """
    out, end = [], 0
    for kind, first, last in sorted(_found(text), key=lambda each: each[1]):
        if first >= end:
            out += [text[end:first], f"[{kind}]"]
            end = last
    return "".join([*out, text[end:]])


def _found(text: str) -> Iterator[tuple[str, int, int]]:
    if "@" in text:
        yield from (("email", *match.span()) for match in _EMAIL.finditer(text))
    if _DIGIT.search(text):
        cards = [match.span() for match in _CARD.finditer(text) if _is_card(match[0])]
        yield from (("card", *span) for span in cards)
        for match in _PHONE.finditer(text):
            first, last = match.span()
            digits = sum(map(str.isdigit, match[0]))
            if 8 <= digits <= 15 and not any(a < last and first < b for a, b in cards):
                yield "phone", first, last
    if any(mark in text for mark in _KEY_MARKS):
        yield from (("key", *match.span()) for match in _KEY.finditer(text))


def _is_card(written: str) -> bool:
    """Whether digits are a card number: a known first digit, and Luhn's check sum."""
    digits = [int(sign) for sign in written if sign.isdigit()]
    if not 13 <= len(digits) <= 19 or digits[0] not in (2, 3, 4, 5, 6) or len(set(digits)) < 2:
        return False
    doubled = [digit * 2 - 9 * (digit > 4) for digit in digits[-2::-2]]
    return (sum(digits[-1::-2]) + sum(doubled)) % 10 == 0
