"""Explanations as a picture."""

from __future__ import annotations

import textwrap
import unicodedata
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from kerasllm.explain.explanation import METHODS, Explanation, Word
from kerasllm.explain.safe_text import safe
from kerasllm.explain.show_terminal import checks

_WIDTH, _LINE, _MARGIN = 8.0, 0.28, 0.25
_SIZE = 11
_UP, _DOWN = (59 / 255, 134 / 255, 200 / 255), (217 / 255, 111 / 255, 30 / 255)
# Some for each script; matplotlib takes those that the machine has.
_FONTS = [
    *("DejaVu Sans", "Noto Sans", "Noto Sans CJK SC", "Noto Sans CJK JP", "WenQuanYi Zen Hei"),
    *("Noto Sans Arabic", "Noto Sans Hebrew", "Noto Sans Devanagari", "Noto Sans Thai"),
    *("Arial Unicode MS", "PingFang SC", "Hiragino Sans", "Symbola", "Noto Emoji"),
]
# Matplotlib refuses pictures of more than 65,536 pixels a side.
_MOST_LINES = 1500


def write_png(explanations: Sequence[Explanation], file: Path) -> None:
    """Writes explanations into a PNG file.

    A character that no font of the machine has is a box. Texts that are written from right to left
    are; the letters of Arabic are not joined, which matplotlib cannot do.

    Args:
        explanations: The explanations, one below the other.
        file: The file.
    """
    from matplotlib import font_manager
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    there = {font.name for font in font_manager.fontManager.ttflist}
    font = {"family": [name for name in _FONTS if name in there], "size": _SIZE}
    with warnings.catch_warnings():
        # Of each character that no font has.
        warnings.simplefilter("ignore")
        figure = Figure(figsize=(_WIDTH, 1))
        canvas = FigureCanvasAgg(figure)
        measure = _Measure(figure, canvas, font)
        lines = [line for found in explanations for line in _lines(found, measure)][:_MOST_LINES]
        height = len(lines) * _LINE + 2 * _MARGIN
        figure.set_size_inches(_WIDTH, height)
        for number, line in enumerate(lines):
            y = 1 - (_MARGIN + (number + 0.7) * _LINE) / height
            for x, text, style in line:
                figure.text(
                    x / _WIDTH, y, text, parse_math=False, fontfamily=font["family"], **style
                )
        canvas.print_png(str(file), metadata={"Software": None})


class _Measure:
    """How wide a text is, in inches."""

    def __init__(self, figure: Any, canvas: Any, font: dict[str, Any]):
        self._figure, self._renderer, self._font = figure, canvas.get_renderer(), font
        self._widths: dict[str, float] = {}

    def __call__(self, text: str) -> float:
        if text not in self._widths:
            artist = self._figure.text(
                0, 0, text, parse_math=False, fontfamily=self._font["family"], size=_SIZE
            )
            self._widths[text] = artist.get_window_extent(self._renderer).width / self._figure.dpi
            artist.remove()
        return self._widths[text]


_Piece = tuple[float, str, dict[str, Any]]


def _lines(found: Explanation, measure: _Measure) -> Iterator[list[_Piece]]:
    """Yields lines, each of texts with their places and styles."""
    heading = f"{found.predicted}: words that moved {found.output}, by {METHODS[found.method]}"
    for line in textwrap.wrap(safe(heading), 80):
        yield [(_MARGIN, line, {"size": _SIZE, "weight": "bold"})]
    largest = max((abs(word.score) for word in found.words if word.score is not None), default=0)
    for number, text in enumerate(found.texts):
        words = [word for word in found.words if word.text == number]
        yield from _coloured(text, words, largest, measure)
    for fact in (*checks(found), *(f"note: {remark}" for remark in found.remarks)):
        for line in textwrap.wrap(safe(fact), 100):
            yield [(_MARGIN, line, {"size": 8, "color": "#555555"})]
    yield []


def _coloured(
    text: str, words: Sequence[Word], largest: float, measure: _Measure
) -> Iterator[list[_Piece]]:
    rightwards = not _is_right_to_left(text)
    room, space = _WIDTH - 2 * _MARGIN, measure("n n") - measure("nn")
    line: list[tuple[float, float, str, dict]] = []
    place, end = 0.0, 0
    for word in words:
        for shown in _cut(safe(word.word), room, measure):
            wide = measure(shown)
            gap = space if word.start > end and line else 0.04
            if line and place + gap + wide > room:
                yield _placed(line, rightwards)
                line, place, gap = [], 0.0, 0.0
            style = {"size": _SIZE, **_style(word.score, largest)}
            line.append((place + gap, wide, _in_order(shown), style))
            place += gap + wide
        end = word.end
    if line:
        yield _placed(line, rightwards)


def _cut(word: str, room: float, measure: _Measure) -> Iterator[str]:
    """Yields a word, or pieces of one that is wider than a line."""
    size = len(word) if measure(word[:200]) <= room and len(word) <= 200 else 40
    yield from (word[start : start + size] for start in range(0, len(word), size))


def _placed(line: list, rightwards: bool) -> list[_Piece]:
    return [
        (_MARGIN + place if rightwards else _WIDTH - _MARGIN - place - wide, text, style)
        for place, wide, text, style in line
    ]


def _style(score: float | None, largest: float) -> dict[str, Any]:
    if score is None:
        return {"color": "#999999"}
    strength = 0.8 * abs(score) / largest if largest else 0.0
    box = {"facecolor": (*(_UP if score > 0 else _DOWN), strength), "edgecolor": "none", "pad": 1.5}
    return {"bbox": box}


def _is_right_to_left(text: str) -> bool:
    """Returns whether the first letter of a text is of a script that runs from right to left."""
    kinds = (unicodedata.bidirectional(sign) for sign in text)
    return next((kind in ("R", "AL") for kind in kinds if kind in ("L", "R", "AL")), False)


def _in_order(word: str) -> str:
    """Returns a word as it is drawn: matplotlib draws characters from left to right."""
    if not _is_right_to_left(word):
        return word
    clusters: list[str] = []
    for sign in word:
        if clusters and unicodedata.combining(sign):
            clusters[-1] += sign
        else:
            clusters.append(sign)
    return "".join(reversed(clusters))
