"""The curves of a run, from its `metrics.jsonl`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from kerasllm.errors import RunError
from kerasllm.reports.training_log import TrainingLog

MOST_POINTS = 400
_MOST_METRICS = 6
# What a row holds besides loss and metrics, and its name where it is a curve.
_NUMBERS = {
    "learning_rate": "learning rate",
    "gradient_norm": "gradient norm",
    "tokens_per_second": "tokens per second",
}
_NO_CURVES = {
    *("step", "epoch", "validation", "step_seconds", "input_wait", "peak_memory", "seconds"),
    "skipped",
}


def read_log(path: Path) -> list[dict[str, Any]]:
    """Returns the rows of a `metrics.jsonl`, evenly thinned out where there are very many.

    There are none where there is no such file. The last line may be one that a process was killed
    in.

    Raises:
        RunError: If another line is no row.
    """
    log = TrainingLog(path)
    log.read()
    if log.damaged:
        number, why = log.damaged
        raise RunError(
            f"The training log is not what kerasllm wrote: {why}",
            where=f"{path}:{number}",
            fix="remove the line, or restore the file",
        )
    return log.rows


def curves_of(
    rows: Sequence[Mapping[str, Any]], names: Mapping[str, str], headline: str
) -> list[dict[str, Any]]:
    """Returns the curves of a log: loss and metrics, then how the training went.

    Args:
        rows: The rows of the log.
        names: The name of each metric, by its key.
        headline: The key of the metric that comes after the loss.

    Returns:
        Each with `key`, `name` and `series`, a list with `name` (`"training"`, `"validation"`),
        `steps`, `values`, at most 400 points of each, and `colour`, a number.
    """
    trained = _keys(row for row in rows if "validation" not in row)
    validated = _keys(row["validation"] for row in rows if isinstance(row.get("validation"), dict))
    # Those that the training measures too first.
    metrics = [key for key in trained if key not in _NUMBERS and key not in _NO_CURVES]
    metrics += [key for key in names if key in validated and key not in metrics]
    metrics.sort(key=lambda key: (key != "loss", key != headline))
    found: list[dict[str, Any]] = []
    for key in metrics:
        if len(found) == _MOST_METRICS:
            break
        series = [
            _series("training", ((row["step"], row.get(key)) for row in rows)),
            {**_series("validation", _validations(rows, key)), "colour": 1},
        ]
        # A point alone is no curve; the table of metrics has it.
        if not series[0]["steps"] and len(series[1]["steps"]) < 2:
            continue
        found.append({"key": key, "name": names.get(key, key.replace("_", " ")), "series": series})
    for key, name in _NUMBERS.items():
        series = [_series("training", ((row["step"], row.get(key)) for row in rows))]
        found.append({"key": key, "name": name, "series": series})
    for curve in found:
        curve["series"] = [each for each in curve["series"] if each["steps"]]
    return [curve for curve in found if curve["series"]]


def _validations(rows: Sequence[Mapping], key: str) -> Iterator[tuple[int, Any]]:
    for row in rows:
        if isinstance(row.get("validation"), dict):
            yield row["step"], row["validation"].get(key)


def _keys(rows: Iterator[Mapping[str, Any]]) -> dict[str, None]:
    return {key: None for row in rows for key, value in row.items() if _is_number(value)}


def _series(name: str, points: Iterator[tuple[int, Any]]) -> dict[str, Any]:
    kept = sorted((step, float(value)) for step, value in points if _is_number(value))
    if len(kept) > MOST_POINTS:
        kept = [_mean(kept, number) for number in range(MOST_POINTS)]
    steps, values = [step for step, _ in kept], [value for _, value in kept]
    return {"name": name, "steps": steps, "values": values, "colour": 0}


def _mean(points: list[tuple[int, float]], number: int) -> tuple[int, float]:
    """Returns the mean of one of `MOST_POINTS` groups of neighbouring points."""
    first = number * len(points) // MOST_POINTS
    last = (number + 1) * len(points) // MOST_POINTS
    group = points[first:last]
    return group[-1][0], sum(value for _, value in group) / len(group)


def _is_number(value: object) -> bool:
    # Of whole numbers that no float holds, as of inf and nan, there is no curve.
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e300
