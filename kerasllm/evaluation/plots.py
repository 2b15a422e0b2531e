"""Plots of a training run and of its mistakes, drawn by matplotlib without a display."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import font_manager
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

_TRAINING = "#2468a8"
_VALIDATION = "#d95f0e"
_RATE = "#5a5a5a"

# Fonts that are common on Linux, Windows and macOS and hold the scripts that DejaVu Sans lacks.
_WIDE_FONTS = (
    "Noto Sans CJK SC",
    "Noto Sans CJK JP",
    "Microsoft YaHei",
    "PingFang SC",
    "Hiragino Sans",
    "WenQuanYi Zen Hei",
    "Noto Sans Arabic",
    "Noto Sans Devanagari",
    "Arial Unicode MS",
)

# The steps and the values of one curve.
Series = tuple[np.ndarray, np.ndarray]

# From so many points on, the line is an average and the points themselves its shadow.
_SMOOTHED_FROM = 60


def training_curve(
    rows: Iterable[Mapping[str, Any]],
    path: str | os.PathLike,
    rates: Iterable[tuple[int, float]] | None = None,
) -> Path:
    """Writes the picture of `training_curve_figure` as a PNG, which appears whole or not at all.

    Args:
        rows: See `training_curve_figure`.
        path: The PNG to write. Its folder must exist; a file that is there is replaced.
        rates: See `training_curve_figure`. Defaults to `None`.

    Returns:
        The path of the picture.

    Example:

    ```python
    with open("runs/mine/metrics.jsonl") as lines:
        training_curve(map(json.loads, lines), "runs/mine/training_curve.png")
    ```
    """
    return _save(training_curve_figure(rows, rates), Path(path))


def training_curve_figure(
    rows: Iterable[Mapping[str, Any]], rates: Iterable[tuple[int, float]] | None = None
) -> Figure:
    """Draws the loss in training and validation, and the learning rate, by step.

    Few points are drawn as they are; many as a running mean over a twentieth of the run, with
    the points faint in the background. A loss that is NaN or infinite leaves a gap.

    Args:
        rows: What `StepMonitor` reports, and what the lines of a run's `metrics.jsonl` hold:
            `{"step": 10, "loss": 0.61, "learning_rate": 4e-5, ...}` in training and `{"step":
            252, "validation": {"loss": 0.36, ...}}` after an evaluation. Other keys are
            ignored.
        rates: Steps and learning rates of the schedule, whose peak may stand between two rows.
            Defaults to `None`: those of the rows.

    Returns:
        A figure of its own, unknown to pyplot; a notebook shows it where it is the last line of
        a cell (after `%matplotlib inline`).
    """
    rows = list(rows)
    training = _series(rows, lambda row: row.get("loss"))
    validation = _series(rows, lambda row: row.get("validation", {}).get("loss"))
    if rates is None:
        rate = _series(rows, lambda row: row.get("learning_rate"))
    else:
        points: list[Mapping[str, Any]] = [
            {"step": step, "learning_rate": value} for step, value in rates
        ]
        rate = _series(points, lambda point: point["learning_rate"])

    figure = _figure(8, 5)
    losses, below = figure.subplots(2, 1, sharex=True, height_ratios=[3, 1])
    losses.set_xlim(0, 1.02 * max([1, *(row["step"] for row in rows)]))
    _draw_losses(losses, training, validation)
    below.plot(*rate, color=_RATE, linewidth=1.5, marker="o" if len(rate[0]) == 1 else None)
    below.set_ylim(0, 1.08 * np.nanmax(rate[1], initial=0) or 1)
    below.set_ylabel("learning rate")
    below.ticklabel_format(axis="y", style="sci", scilimits=(-2, 3), useMathText=True)
    below.yaxis.set_major_locator(MaxNLocator(3))
    below.set_xlabel("step")
    below.xaxis.set_major_locator(MaxNLocator(integer=True))
    below.xaxis.set_major_formatter("{x:,.0f}")
    for axes in (losses, below):
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(axis="y", color="#e4e4e4", linewidth=0.8)
        axes.set_axisbelow(True)
    figure.align_ylabels()
    return figure


def reliability_figure(report: Mapping[str, Any]) -> Figure:
    """Draws how often predictions are right, by how confident the model is of them.

    Args:
        report: What `calibration_report` gave.

    Returns:
        A figure of its own, unknown to pyplot.
    """
    points = report["reliability"]
    figure = _figure(5, 5)
    axes, below = figure.subplots(2, 1, sharex=True, height_ratios=[4, 1])
    axes.plot([0, 1], [0, 1], color=_RATE, linewidth=1, linestyle="--", label="calibrated")
    confidence = [point["confidence"] for point in points]
    axes.plot(
        confidence,
        [point["accuracy"] for point in points],
        color=_TRAINING,
        marker="o",
        label=f"model (ECE {report['ece']:.3f})",
    )
    axes.set(xlim=(0, 1), ylim=(0, 1), ylabel="accuracy")
    axes.legend(frameon=False)
    below.bar(confidence, [point["count"] for point in points], width=0.05, color=_TRAINING)
    below.set(xlabel="confidence", ylabel="predictions")
    for each in (axes, below):
        each.spines[["top", "right"]].set_visible(False)
    return figure


def confusion_matrix_figure(matrix: Sequence[Sequence[int]], names: Sequence[str]) -> Figure:
    """Draws a confusion matrix; the darker a cell, the larger its share of the true class.

    Up to 12 classes each cell holds its count and, up to 6, its share. Beyond that the colours
    speak, and beyond 40 not every class is named at the edge.

    Args:
        matrix: int, shape `(classes, classes)`. Rows are true classes, columns predicted ones.
        names: The names of the classes, in the order of the matrix.

    Returns:
        A figure of its own, unknown to pyplot: save it with `figure.savefig(path)`, show it in a
        notebook (after `%matplotlib inline`) by leaving it as the last line of a cell.
    """
    counts = np.asarray(matrix)
    support = counts.sum(axis=1, keepdims=True)
    shares = counts / np.maximum(support, 1)
    classes = len(names)

    side = float(np.clip(2.5 + 0.55 * classes, 4, 11))
    figure = _figure(side + 1, side)
    axes = figure.subplots()
    # Among many classes the confusions are rare; the root keeps them visible beside the diagonal.
    image = axes.imshow(shares, cmap="Blues", norm=PowerNorm(1 if classes <= 12 else 0.5, 0, 1))
    bar = figure.colorbar(image, ax=axes, shrink=0.8, format="{x:.0%}")
    bar.set_label("share of the true class")
    bar.outline.set_visible(False)

    if classes <= 12:
        for (i, j), count in np.ndenumerate(counts):
            text = f"{count:,}\n{shares[i, j]:.0%}" if classes <= 6 else f"{count:,}"
            color = "white" if shares[i, j] > 0.5 else "black"
            axes.text(j, i, text, ha="center", va="center", color=color, fontsize=9)
    shown = range(0, classes, -(-classes // 40))
    _name_ticks(axes, shown, [names[i] for i in shown], cell_inches=(side - 1) / len(shown))
    axes.set_xlabel("predicted")
    axes.set_ylabel("true")
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0)
    return figure


def _figure(width: float, height: float) -> Figure:
    figure = Figure(figsize=(width, height), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def _series(
    rows: list[Mapping[str, Any]], value_of: Callable[[Mapping[str, Any]], float | None]
) -> Series:
    """The steps and values of the rows that have the value, in the order of the steps."""
    points = sorted((row["step"], value_of(row)) for row in rows if value_of(row) is not None)
    steps = np.array([step for step, _ in points], np.int64)
    values = np.array([value for _, value in points], np.float64)
    return steps, np.where(np.isfinite(values), values, np.nan)


def _draw_losses(axes: Axes, training: Series, validation: Series) -> None:
    axes.set_ylabel("loss")
    steps, losses = training
    line: dict[str, Any] = {"color": _TRAINING, "linewidth": 1.8}
    if len(steps) >= _SMOOTHED_FROM:
        smooth = _running_mean(losses)
        axes.plot(steps, losses, color=_TRAINING, alpha=0.25, linewidth=0.8)
        axes.plot(steps, smooth, label="training, running mean", **line)
        # A few wild batches must not press the rest into a flat line.
        shown = np.concatenate([_without_extremes(losses), smooth, validation[1]])
    else:
        axes.plot(steps, losses, label="training", marker=_marker(training), **line)
        shown = np.concatenate([losses, validation[1]])
    if len(validation[0]):
        line = {"color": _VALIDATION, "linewidth": 1.8, "marker": _marker(validation)}
        axes.plot(*validation, label=_mark_best(axes, *validation), **line)
    shown = shown[np.isfinite(shown)]
    if not len(shown):
        place: dict[str, Any] = {"ha": "center", "va": "center", "transform": axes.transAxes}
        axes.text(0.5, 0.5, "no finite loss was logged", **place)
        axes.set_yticks([])
        return
    spread = np.ptp(shown) or abs(shown[0])
    # Of no losses are axes as short as the least numbers that there are.
    margin = 0.06 * (spread if spread > 1e-200 else 1)
    axes.set_ylim(shown.min() - margin, shown.max() + margin)
    axes.legend(frameon=False, loc="lower right", bbox_to_anchor=(1, 1), ncols=2)


def _mark_best(axes: Axes, steps: np.ndarray, losses: np.ndarray) -> str:
    """Rings the least loss; returns what the legend says of it, since words there cover it."""
    if not np.isfinite(losses).any():
        return "validation"
    best = int(np.nanargmin(losses))
    ring: dict[str, Any] = {
        "markersize": 11,
        "markerfacecolor": "none",
        "markeredgecolor": _VALIDATION,
    }
    axes.plot(steps[best], losses[best], marker="o", linestyle="none", **ring)
    return f"validation, best {losses[best]:.4f} at step {steps[best]:,}"


def _marker(series: Series) -> str | None:
    """A lone point makes no line, and few points should not look like many."""
    return "o" if len(series[0]) <= 30 else None


def _running_mean(values: np.ndarray) -> np.ndarray:
    """The mean over a twentieth of the values around each, leaving out those that are NaN."""
    window = np.ones(len(values) // 20 | 1)
    known = np.isfinite(values)
    total = np.convolve(np.where(known, values, 0), window, "same")
    count = np.convolve(known, window, "same")
    return np.divide(total, count, out=np.full(len(values), np.nan), where=count > 0.5)


def _without_extremes(values: np.ndarray) -> np.ndarray:
    values = values[np.isfinite(values)]
    return np.percentile(values, [1, 99]) if len(values) else values


def _name_ticks(
    axes: Axes, positions: Sequence[int], names: Sequence[str], *, cell_inches: float
) -> None:
    shown = [_shortened(name) for name in names]
    axes.set_xticks(positions, shown)
    axes.set_yticks(positions, shown)
    if max(map(len, shown)) * 0.09 > cell_inches:  # They would run into each other side by side.
        axes.tick_params(axis="x", rotation=45)
        for label in axes.get_xticklabels():
            label.set(ha="right", rotation_mode="anchor")
    for label in (*axes.get_xticklabels(), *axes.get_yticklabels()):
        label.set_parse_math(False)  # A label may hold dollar signs.
        label.set_fontfamily(_font_families())


def _shortened(name: str) -> str:
    printable = "".join(c if c.isprintable() else " " for c in str(name))
    return printable if len(printable) <= 24 else f"{printable[:23]}…"


@functools.cache
def _font_families() -> list[str]:
    """Matplotlib's own font, then those installed here that have the letters which it lacks."""
    installed = set(font_manager.get_font_names())
    return ["DejaVu Sans", *(name for name in _WIDE_FONTS if name in installed)]


def _save(figure: Figure, path: Path) -> Path:
    unfinished = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        figure.savefig(unfinished, format="png")
        os.replace(unfinished, path)
    finally:
        unfinished.unlink(missing_ok=True)
    return path
