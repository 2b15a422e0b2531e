"""The charts of a report as inline SVG: no separate file, no script."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape

_WIDTH, _ROW, _NAME, _NUMBER = 640, 18, 180, 110
_HEIGHT = 150
_COLOURS = ("#3b6fb6", "#e08a2e", "#5a9e5a")
_MOST_BARS = 30


def bars(counts: Mapping[str, Mapping[str, int]]) -> str:
    """Returns horizontal bars: for each name its share in each part.

    Args:
        counts: Counts by name, by the name of the part.
    """
    totals = {part: sum(of.values()) or 1 for part, of in counts.items()}
    names = sorted(
        {name for of in counts.values() for name in of},
        key=lambda name: -max(of.get(name, 0) / totals[part] for part, of in counts.items()),
    )
    shown = names[:_MOST_BARS]
    most = (
        max(
            (of.get(name, 0) / totals[part] for part, of in counts.items() for name in shown),
            default=1,
        )
        or 1
    )
    drawn, y = [], 4
    for name in shown:
        drawn.append(_text(_NAME - 8, y + 12 * len(counts) / 2 + 4, _short(name), "end"))
        for number, (part, of) in enumerate(counts.items()):
            share = of.get(name, 0) / totals[part]
            width = share / most * (_WIDTH - _NAME - _NUMBER)
            drawn.append(_bar(_NAME, y, width, 11, number))
            drawn.append(_text(_NAME + width + 6, y + 10, f"{of.get(name, 0):,} ({share:.1%})"))
            y += 13
        y += 5
    more = f"<p>and {len(names) - len(shown)} more</p>" if len(names) > len(shown) else ""
    return _svg("".join(drawn), y, counts) + more


def histogram(
    parts: Mapping[str, Mapping[str, Sequence[float]]], *, mark: float | None = None
) -> str:
    """Returns the histograms of the parts, one below the other, on one axis.

    Args:
        parts: `counts` and `edges` by the name of the part.
        mark: A value to mark by a line. Defaults to `None`.
    """
    parts = {part: of for part, of in parts.items() if of["counts"]}
    if not parts:
        return ""
    low = min(of["edges"][0] for of in parts.values())
    high = max([of["edges"][-1] for of in parts.values()] + [mark or low])
    scale = (_WIDTH - 20) / ((high - low) or 1)
    drawn, top = [], 4
    for number, of in enumerate(parts.values()):
        most = max(of["counts"]) or 1
        for count, left, right in zip(of["counts"], of["edges"], of["edges"][1:]):
            height = count / most * (_HEIGHT - 30)
            x, y = 10 + (left - low) * scale, top + _HEIGHT - 30 - height
            drawn.append(_bar(x, y, max((right - left) * scale - 1, 0.5), height, number))
        top += _HEIGHT - 20
    if mark is not None:
        x = 10 + (mark - low) * scale
        drawn.append(f'<line x1="{x:.1f}" x2="{x:.1f}" y1="0" y2="{top}" class="mark"/>')
        drawn.append(_text(x - 4, 12, f"max_length {mark:g}", "end"))
    drawn.append(_text(10, top + 10, f"{low:g}"))
    drawn.append(_text(_WIDTH - 10, top + 10, f"{high:g}", "end"))
    return _svg("".join(drawn), top + 16, parts)


def _svg(drawn: str, height: float, parts: Mapping[str, object]) -> str:
    legend = "".join(
        f'<span><i style="background:{_COLOURS[number % len(_COLOURS)]}"></i>{escape(part)}</span>'
        for number, part in enumerate(parts)
    )
    return (
        f'<div class="legend">{legend}</div><svg viewBox="0 0 {_WIDTH} {height:.0f}" '
        f'width="{_WIDTH}" height="{height:.0f}" role="img">{drawn}</svg>'
    )


def _bar(x: float, y: float, width: float, height: float, number: int) -> str:
    colour = _COLOURS[number % len(_COLOURS)]
    return (
        f'<rect x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}" fill="{colour}"/>'
    )


def _text(x: float, y: float, text: str, anchor: str = "start") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'


def _short(name: str, most: int = 26) -> str:
    name = "".join(sign if sign.isprintable() else " " for sign in name)
    return name if len(name) <= most else name[: most - 1] + "…"
