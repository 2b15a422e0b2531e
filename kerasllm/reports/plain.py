"""Texts of data as a page shows them: what would act on a reader or a screen is written out."""

from __future__ import annotations

import re
from datetime import datetime
from typing import Any

from markupsafe import Markup

# Control characters, among them those of ANSI codes; what turns the direction of a text around;
# ends of lines that not all programs know; and halves of pairs of UTF-16.
_ACTING = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069\ufeff"
    "\ud800-\udfff]"
)


def plain(value: Any) -> Any:
    r"""Returns a text with control characters, and those that turn its direction, as `\x1b`.

    What is marked as markup, and what is no text, stays as it is.

    Example:

    >>> plain("\x1b[31mred\u202e")
    '\\x1b[31mred\\u202e'
    """
    if isinstance(value, Markup) or not isinstance(value, str):
        return value
    return _ACTING.sub(_written_out, value)


def _written_out(sign: re.Match[str]) -> str:
    code = ord(sign[0])
    return f"\\x{code:02x}" if code < 256 else f"\\u{code:04x}"


def number(value: Any) -> str:
    """Returns a metric as a table shows it; `""` where there is none."""
    if value is None or not isinstance(value, int | float):
        return ""
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:.4f}" if abs(value) < 1000 else f"{value:,.1f}"


def percent(value: float) -> str:
    """Returns a share in percent."""
    return f"{value:.1%}"


def short(text: Any, most: int = 400) -> str:
    """Returns a text on one line, cut where it is long."""
    text = " ".join(str(text).split())
    return text if len(text) <= most else text[: most - 1] + "…"


def moment(text: Any) -> str:
    """Returns an ISO time of a run, as `2026-11-30 10:36 UTC`; another text as it is."""
    try:
        time = datetime.fromisoformat(str(text))
    except ValueError:
        return str(text)
    return f"{time:%Y-%m-%d %H:%M} {time.tzname() or ''}".strip()
