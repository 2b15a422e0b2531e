"""Plots of a search, as SVG."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from kerasllm.run import write_text

_TRIAL = "#2468a8"
_BEST = "#d95f0e"
_PRUNED = "#a0a0a0"


class Point(NamedTuple):
    """A trial in the picture of the history.

    Attributes:
        number: Its number.
        value: What it measured.
        pruned: Whether it was ended early.
    """

    number: int
    value: float
    pruned: bool


def history(points: Sequence[Point], metric: str, path: Path, *, higher_is_better: bool) -> Path:
    """Draws what each trial measured, and the best so far.

    Args:
        points: The trials, in their order.
        metric: What was measured, in words.
        path: The SVG to write.
        higher_is_better: Whether more is better.
    """
    figure, axes = _figure(7, 4)
    for pruned, color, label in ((False, _TRIAL, "finished"), (True, _PRUNED, "pruned")):
        some = [point for point in points if point.pruned == pruned]
        if some:
            axes.scatter(
                [point.number for point in some],
                [point.value for point in some],
                color=color,
                s=26,
                label=label,
                zorder=3,
            )
    better = max if higher_is_better else min
    finished = [point for point in points if not point.pruned]
    best = [better(each.value for each in finished[: at + 1]) for at in range(len(finished))]
    axes.step([point.number for point in finished], best, where="post", color=_BEST, label="best")
    axes.set(xlabel="trial", ylabel=f"validation {metric}")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.legend(frameon=False)
    return _save(figure, path)


def importance(shares: Mapping[str, float], path: Path) -> Path:
    """Draws how much of the differences between the trials each key explains.

    Args:
        shares: The shares by key.
        path: The SVG to write.
    """
    figure, axes = _figure(7, 1 + 0.45 * len(shares))
    keys = list(shares)[::-1]
    axes.barh(keys, [shares[key] for key in keys], color=_TRIAL)
    axes.set(xlabel="importance", xlim=(0, 1))
    return _save(figure, path)


def learning_rates(
    rates: Sequence[float],
    losses: Sequence[float],
    smooth: Sequence[float],
    found: float | None,
    path: Path,
) -> Path:
    """Draws the loss by the learning rate.

    Args:
        rates: The learning rate of each step.
        losses: The loss of each step.
        smooth: The same, as a running mean.
        found: The rate to mark; `None`: none.
        path: The SVG to write.
    """
    figure, axes = _figure(7, 4)
    axes.plot(rates, losses, color=_TRIAL, alpha=0.3, linewidth=0.8)
    axes.plot(rates, smooth, color=_TRIAL, linewidth=1.8, label="loss, running mean")
    if found is not None:
        axes.axvline(found, color=_BEST, linestyle="--", label=f"suggested: {found:.2g}")
    spread = max(smooth) - min(smooth) or abs(smooth[0]) or 1.0
    axes.set_ylim(min(smooth) - 0.1 * spread, max(smooth) + 0.1 * spread)
    axes.set(xscale="log", xlabel="learning rate", ylabel="loss")
    axes.legend(frameon=False)
    return _save(figure, path)


def _figure(width: float, height: float) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(width, height), layout="constrained")
    axes = figure.subplots()
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="both", color="#e4e4e4", linewidth=0.8)
    axes.set_axisbelow(True)
    return figure, axes


def _save(figure: Figure, path: Path) -> Path:
    text = io.StringIO()
    # No date in it: the same search draws the same file.
    figure.savefig(text, format="svg", metadata={"Date": None})
    write_text(path, text.getvalue())
    return path
