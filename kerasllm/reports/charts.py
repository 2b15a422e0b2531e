"""Charts as SVG within a page: no script, no file beside it, colours of the page's style."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup, escape

from kerasllm.reports.plain import plain, short

_WIDTH, _HEIGHT = 360, 200
_LEFT, _RIGHT, _TOP, _BOTTOM = 46, 16, 10, 22
# From so many points on, a line is an average and the points themselves its shadow.
_SMOOTHED_FROM = 60
_MARKED_TO = 30
_COLOURS = 6


def line_chart(curve: Mapping[str, Any]) -> Markup:
    """Returns the lines of a curve by step.

    Args:
        curve: `name` and `series`, each with `name`, `steps`, `values` and `colour`.
    """
    series = [one for one in curve["series"] if one["steps"]]
    lines = [_Line(one) for one in series]
    shown = [value for line in lines for value in line.shown]
    low, high = _range(min(shown), max(shown))
    first = min(line.steps[0] for line in lines)
    last = max(max(line.steps[-1] for line in lines), first + 1)
    first = 0 if first <= 0.05 * last else first
    frame = _Frame(first, last, low, high)
    drawn = [frame.axes()]
    for line in lines:
        colour = f"s{line.colour % _COLOURS}"
        points = list(zip(line.steps, line.values, strict=True))
        if line.smooth is not None:
            drawn.append(frame.path(points, f"line faint {colour}"))
            points = list(zip(line.steps, line.smooth, strict=True))
        drawn.append(frame.path(points, f"line {colour}"))
        if len(points) <= _MARKED_TO:
            drawn += [frame.dot(*point, colour) for point in points]
    return _svg("".join(drawn), f"{curve['name']} by step")


def reliability_chart(calibration: Mapping[str, Any]) -> Markup:
    """Returns how often predictions are right, by their confidence.

    Args:
        calibration: `reliability`, see `kerasllm.evaluation.calibration.calibration_report`.
    """
    points = calibration["reliability"]
    frame = _Frame(0, 1, 0, 1, percent=True)
    most = max(point["count"] for point in points)
    bars = "".join(frame.bar(point["confidence"], point["count"] / most * 0.25) for point in points)
    line = [(point["confidence"], point["accuracy"]) for point in points]
    dots = "".join(frame.dot(*point, "s0") for point in line)
    ideal = frame.path([(0, 0), (1, 1)], "line ideal")
    drawn = frame.axes() + bars + ideal + frame.path(line, "line s0") + dots
    return _svg(drawn, "accuracy by confidence")


def interval_chart(low: float, value: float, high: float, mark: float, most: float) -> Markup:
    """Returns a value with its interval, and a mark to compare it with, as a small picture.

    Args:
        low: The lower end of the interval.
        value: The value.
        high: Its upper end.
        mark: The value to compare with.
        most: The right end of the axis, which begins at 0.
    """
    scale = 116 / (most or 1)
    x = [2 + min(max(each, 0), most) * scale for each in (low, value, high, mark)]
    return Markup(
        f'<svg class="interval" viewBox="0 0 120 14" role="img" aria-label="interval">'
        f'<line class="mark" x1="{x[3]:.1f}" x2="{x[3]:.1f}" y1="1" y2="13"/>'
        f'<line class="span s1" x1="{x[0]:.1f}" x2="{x[2]:.1f}" y1="7" y2="7"/>'
        f'<circle class="dot s1" cx="{x[1]:.1f}" cy="7" r="3.5"/></svg>'
    )


def share_bar(share: float, colour: int = 0) -> Markup:
    """Returns a bar as long as a share of the room for it."""
    width = 100 * min(max(share, 0.0), 1.0)
    return Markup(
        '<svg class="share" viewBox="0 0 100 8" preserveAspectRatio="none" aria-hidden="true">'
        f'<rect class="fill s{colour % _COLOURS}" width="{width:.2f}" height="8" rx="1"/></svg>'
    )


class _Line:
    """A line, and where there are many points, their running mean."""

    def __init__(self, series: Mapping[str, Any]):
        self.steps: Sequence[int] = series["steps"]
        self.values: Sequence[float] = series["values"]
        self.colour: int = series.get("colour", 0)
        many = len(self.values) >= _SMOOTHED_FROM
        self.smooth = _running_mean(self.values) if many else None

    @property
    def shown(self) -> Sequence[float]:
        """What the axis must hold: of many points not the wildest ones."""
        if self.smooth is None:
            return self.values
        ordered = sorted(self.values)
        cut = len(ordered) // 100
        return [*self.smooth, ordered[cut], ordered[-1 - cut]]


class _Frame:
    """The axes of a chart."""

    def __init__(self, first: float, last: float, low: float, high: float, percent: bool = False):
        self._first, self._last, self._low, self._high = first, last, low, high
        self._percent = percent

    def x(self, step: float) -> float:
        share = (step - self._first) / (self._last - self._first)
        return _LEFT + share * (_WIDTH - _LEFT - _RIGHT)

    def y(self, value: float) -> float:
        share = (value - self._low) / (self._high - self._low)
        return _HEIGHT - _BOTTOM - min(max(share, -0.05), 1.05) * (_HEIGHT - _TOP - _BOTTOM)

    def axes(self) -> str:
        drawn = []
        for value in _ticks(self._low, self._high, 4):
            y = self.y(value)
            drawn.append(
                f'<line class="grid" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y:.1f}" '
                f'y2="{y:.1f}"/>'
            )
            drawn.append(_text(_LEFT - 6, y + 3.5, self._shown(value), "end"))
        for step in _ticks(self._first, self._last, 4):
            drawn.append(_text(self.x(step), _HEIGHT - 6, self._shown(step, whole=True), "middle"))
        return "".join(drawn)

    def path(self, points: Sequence[tuple[float, float]], kind: str) -> str:
        at = " ".join(f"{self.x(step):.1f},{self.y(value):.1f}" for step, value in points)
        return f'<polyline class="{kind}" points="{at}"/>'

    def dot(self, step: float, value: float, colour: str) -> str:
        x, y = self.x(step), self.y(value)
        return f'<circle class="dot {colour}" cx="{x:.1f}" cy="{y:.1f}" r="3"/>'

    def bar(self, step: float, height: float) -> str:
        top, bottom = self.y(height), self.y(0)
        return (
            f'<rect class="count" x="{self.x(step) - 6:.1f}" width="12" y="{top:.1f}" '
            f'height="{bottom - top:.1f}"/>'
        )

    def _shown(self, value: float, whole: bool = False) -> str:
        if self._percent:
            return f"{value:.0%}"
        if whole and abs(value) < 1e5:
            return f"{value:,.0f}"
        if value and (abs(value) < 1e-3 or abs(value) >= 1e5):
            return f"{value:.1e}".replace(".0e", "e").replace("e-0", "e-").replace("e+0", "e")
        return f"{value:,.4g}"


def _svg(drawn: str, label: str) -> Markup:
    return Markup(
        f'<svg class="chart" viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" '
        f'aria-label="{escape(plain(short(label)))}">{drawn}</svg>'
    )


def _text(x: float, y: float, text: str, anchor: str) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(plain(text))}</text>'


def _range(low: float, high: float) -> tuple[float, float]:
    margin = 0.06 * ((high - low) or abs(high) or 1)
    # The axis of a line that is never below 0 starts there, if 0 is near.
    bottom = 0.0 if 0 <= low < 0.35 * high else low - margin
    return bottom, high + margin


def _ticks(low: float, high: float, count: int) -> list[float]:
    """Returns round numbers between two values, about as many as are wanted."""
    rough = (high - low) / count
    if not rough > 0:
        return [low]
    size = 10 ** math.floor(math.log10(rough))
    step = next(size * one for one in (1, 2, 2.5, 5, 10) if size * one >= rough * 0.999)
    first = math.ceil(low / step - 1e-9)
    return [number * step for number in range(first, math.floor(high / step + 1e-9) + 1)]


def _running_mean(values: Sequence[float]) -> list[float]:
    """Returns the mean over a twentieth of the values around each."""
    half, sums = len(values) // 40, [0.0]
    for value in values:
        sums.append(sums[-1] + value)
    found = []
    for place in range(len(values)):
        first, last = max(place - half, 0), min(place + half + 1, len(values))
        found.append((sums[last] - sums[first]) / (last - first))
    return found
