"""Where a model fails: groups of test rows that are wrong more often than the rest."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from kerasllm.evaluation.outcomes import DATA, Outcomes
from kerasllm.evaluation.resampling import higher_mean, holm, more_wrong, wilson

ALPHA = 0.05
_RANGES = 4
# Fewer rows say little; of errors that are more than right and wrong, the test needs more.
_FEWEST, _FEWEST_GRADED = 8, 30
_MOST_CLASSES = 100
_Z = 1.959964


def failing_slices(outcomes: Outcomes) -> dict[str, Any]:
    """Returns the groups of rows whose error is significantly above that of all other rows.

    Groups are quarters by length, the rows of each class, and those of each value of a column of
    the data. Fisher's exact test decides where rows are right or wrong, Welch's where they are more
    or less wrong; Holm's correction is over all groups that were tested.

    Args:
        outcomes: The rows.

    Returns:
        `error` (what is averaged), `overall`, `rows`, `tested` (groups), `alpha`; and `slices`, the
        worst first, with `column`, `value`, `rows`, `error`, `low`, `high` (95%), `rest` and `p`.
    """
    error, graded = outcomes["error"].astype(np.float64), outcomes.is_graded
    groups, p_values = [], []
    for column, value, mine in _groups(outcomes):
        count = int(mine.sum())
        if count < (_FEWEST_GRADED if graded else _FEWEST) or count > len(error) - 2:
            continue
        own, rest = error[mine], error[~mine]
        if graded:
            half = _Z * float(own.std(ddof=1)) / count**0.5
            low, high = max(0.0, float(own.mean()) - half), float(own.mean()) + half
            p_values.append(higher_mean(own, rest))
        else:
            wrong = int(own.sum())
            low, high = wilson(wrong, count)
            p_values.append(more_wrong(wrong, count, int(error.sum()), len(error)))
        groups.append(
            {
                "column": column,
                "value": value,
                "rows": count,
                "error": float(own.mean()),
                "low": low,
                "high": high,
                "rest": float(rest.mean()),
            }
        )
    found = [
        {**group, "p": p}
        for group, p in zip(groups, holm(p_values), strict=True)
        if p < ALPHA and group["error"] > group["rest"]
    ]
    return {
        "error": outcomes.error,
        "graded": graded,
        "overall": float(error.mean()) if len(error) else 0.0,
        "rows": len(error),
        "tested": len(groups),
        "alpha": ALPHA,
        "slices": sorted(found, key=lambda group: group["rest"] - group["error"]),
    }


def _groups(outcomes: Outcomes) -> Iterator[tuple[str, str, np.ndarray]]:
    """Yields the column and the value of each group, and which rows are in it, bool `[rows]`."""
    if "tokens" in outcomes:
        yield from _ranges("length", outcomes["tokens"], " tokens")
    if "expected_labels" in outcomes:
        given = outcomes.sets("expected_labels")
        for number, name in enumerate(outcomes.names[:_MOST_CLASSES]):
            yield "label", name, given[:, number]
    elif "expected" in outcomes:
        expected = outcomes.columns["expected"]
        if isinstance(expected, np.ndarray):
            yield from _ranges("score", expected)
        elif outcomes.names:
            yield from _values("label", expected)
    for name in outcomes.columns:
        if name.startswith(DATA):
            yield from _values(name.removeprefix(DATA), outcomes.columns[name])


def _ranges(column: str, values: np.ndarray, unit: str = "") -> Iterator[tuple]:
    """Yields quarters of rows by a number, fewer where many are the same."""
    edges = np.unique(np.quantile(values, np.linspace(0, 1, _RANGES + 1), method="lower"))
    places = np.searchsorted(edges[1:-1], values, side="right")
    for number in range(len(edges) - 1):
        mine = places == number
        if mine.any():
            low, high = values[mine].min(), values[mine].max()
            shown = f"{low:.4g} to {high:.4g}" if high > low else f"{low:.4g}"
            yield column, shown + unit, mine


def _values(column: str, values: Any) -> Iterator[tuple]:
    names = values.dictionary.to_pylist()
    codes = values.indices.fill_null(-1).to_numpy(zero_copy_only=False)
    common = np.argsort(-np.bincount(codes[codes >= 0], minlength=len(names)), kind="stable")
    for code in common[:_MOST_CLASSES]:
        yield column, names[code], codes == code
