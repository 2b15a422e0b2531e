"""Explanations as one HTML page that opens offline, or as pieces of another page."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from kerasllm.explain.explanation import METHODS, Explanation, Word
from kerasllm.explain.safe_text import safe
from kerasllm.explain.show_terminal import checks

STYLE = """
.explained { line-height: 2; margin: .4rem 0; overflow-wrap: anywhere }
.explained span { padding: .15em .1em; border-radius: .2em; unicode-bidi: isolate }
.explained .unread { color: #999 }
.explained-facts { color: #666; font-size: 13px; margin: 0 0 1.2rem }
.explained-facts div { margin: .1rem 0 }
"""
"""What `html_of` needs of the style sheet of a page."""

_PAGE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 50rem; margin: 2rem auto;
  padding: 0 1rem; color: #222; background: #fff }
h1 { font-size: 1.4rem } h2 { font-size: 1rem; margin: 1.6rem 0 .2rem }
.key span { padding: .1em .5em; border-radius: .2em; margin-right: .6em }
"""
# The page loads nothing, from nowhere.
_POLICY = "default-src 'none'; style-src 'unsafe-inline'"
_UP, _DOWN = "59,134,200", "217,111,30"


def html_of(found: Explanation) -> str:
    """Returns an explanation as a piece of a page; all that comes from the data is escaped.

    Example:

    ```python
    page = f"<style>{STYLE}</style>{html_of(found)}"
    ```
    """
    largest = max((abs(word.score) for word in found.words if word.score is not None), default=0)
    texts = []
    for number, text in enumerate(found.texts):
        words = [word for word in found.words if word.text == number]
        name = f"<b>{escape(found.names[number])}:</b> " if len(found.texts) > 1 else ""
        texts.append(f"<div class=explained dir=auto>{name}{_coloured(text, words, largest)}</div>")
    facts = [*checks(found), *(f"note: {remark}" for remark in found.remarks)]
    told = "".join(f"<div>{escape(safe(fact))}</div>" for fact in facts)
    return (
        f"<h2>{escape(safe(found.predicted))}: words that moved {escape(safe(found.output))}, by "
        f"{METHODS[found.method]}</h2>{''.join(texts)}<div class=explained-facts>{told}</div>"
    )


def page_of(explanations: Sequence[Explanation], title: str = "Explanations") -> str:
    """Returns explanations as a page of their own."""
    key = (
        f'<p class=key><span style="background:rgba({_UP},.6)">raised it</span>'
        f'<span style="background:rgba({_DOWN},.6)">lowered it</span>'
        "stronger colours mean larger scores; hover over a word to see its score</p>"
    )
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width">'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">'
        f"<title>{escape(title)}</title><style>{_PAGE}{STYLE}</style></head><body>"
        f"<h1>{escape(title)}</h1>{key}{''.join(map(html_of, explanations))}</body></html>\n"
    )


def _coloured(text: str, words: Sequence[Word], largest: float) -> str:
    shown, place = [], 0
    for word in words:
        shown.append(escape(safe(text[place : word.start])))
        inner = escape(safe(word.word))
        if word.score is None:
            shown.append(f"<span class=unread>{inner}</span>")
        else:
            strength = 0.8 * abs(word.score) / largest if largest else 0
            colour = _UP if word.score > 0 else _DOWN
            shown.append(
                f'<span style="background:rgba({colour},{strength:.2f})" '
                f'title="{word.score:+.4f}">{inner}</span>'
            )
        place = word.end
    return "".join([*shown, escape(safe(text[place:]))])
