"""The links of a Markdown page, and the anchors that it has."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

_FENCE = re.compile(r"^(```+|~~~+).*?^\1[ \t]*$", re.DOTALL | re.MULTILINE)
_CODE = re.compile(r"`[^`\n]*`")
_LINK = re.compile(r"(?<=\]\()([^()\s]+)(?=\))")
_HEADING = re.compile(r"^#{1,6} +(.*?)(?: +\{#([\w.-]+)\})?$", re.MULTILINE)


def links(text: str) -> list[str]:
    """Returns the targets of a page's links, without those to other servers."""
    return [found[0] for found in _LINK.finditer(_without_code(text)) if ":" not in found[0]]


def replace_links(text: str, replace: Callable[[str], str]) -> str:
    """Returns a page with other targets of its links, without those to other servers.

    Args:
        text: The page, in Markdown.
        replace: Returns the new target of a link; it gets the old one.
    """
    code = _without_code(text)
    parts, end = [], 0
    for found in _LINK.finditer(code):
        if ":" not in found[0]:
            parts += [text[end : found.start()], replace(found[0])]
            end = found.end()
    return "".join([*parts, text[end:]])


def anchors(text: str) -> set[str]:
    """Returns the anchors of a page: those of its headings."""
    return set(_anchors(text))


def _anchors(text: str) -> Iterator[str]:
    # Within headings code counts, and a fence holds none.
    taken: dict[str, int] = {}
    for title, name in _HEADING.findall(_FENCE.sub(_blank, text)):
        slug = name or slug_of(title)
        count = taken[slug] = taken.get(slug, -1) + 1
        yield f"{slug}_{count}" if count else slug


def slug_of(title: str) -> str:
    """Returns the anchor of a heading, as GitHub and the site make it."""
    plain = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", title).replace("`", "").lower()
    return re.sub(r"[-\s]+", "-", re.sub(r"[^\w\s-]", "", plain).strip())


def _without_code(text: str) -> str:
    """Returns a text of the same length in which code is blank."""
    return _CODE.sub(_blank, _FENCE.sub(_blank, text))


def _blank(found: re.Match[str]) -> str:
    return re.sub(r"[^\n]", " ", found[0])
