"""Finds out what a column of labels asks a model to predict."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from kerasllm.data.label_column import SAMPLE, LabelColumn
from kerasllm.data.problems import KINDS, Problem
from kerasllm.errors import DataError


def detect_problem(
    values: Iterable[Any],
    kind: str = "auto",
    *,
    separator: str | None = None,
    column: str = "label",
    where: str | None = None,
    places: Sequence[str] = (),
    of_one_label: bool = False,
) -> Problem:
    """Finds out what a column of labels asks a model to predict.

    Lists, and cells of names that are also labels by themselves, are several labels; numbers with
    fractions are a score if there are many different ones; what has few different values is one
    label. All else stops with an error that describes the column: nothing is guessed.

    Args:
        values: The labels as the file holds them; the first 10,000 are used.
        kind: `"auto"`, or the kind that the user has set; only what it leaves open is then
            detected. Defaults to `"auto"`.
        separator: What stands between the labels of a cell. Defaults to `None`: detected.
        column: The name of the column, for messages. Defaults to `"label"`.
        where: The file, for messages. Defaults to `None`.
        places: Where each value stands, such as `data.csv:12`, for messages; may grow while the
            values are read. Defaults to `()`: not known.
        of_one_label: Whether the column is one of those that stand for a label each, if it holds
            0 and 1 and there may be several labels. Defaults to `False`.

    Raises:
        DataError: The values fit no kind clearly.

    Example:

    >>> detect_problem(["joy", "fear", "joy|fear"]).separator
    '|'
    >>> detect_problem([0.5, 3.8, 2.25, 5.0]).kind
    'regression'
    """
    if kind not in ("auto", *KINDS):
        raise ValueError(f"kind must be auto, {', '.join(KINDS)}. Received: {kind!r}")
    column_of = LabelColumn(values, column, where, places)
    if kind in ("auto", "multi_label"):
        column_of.refuse_one_hot_lists()
    if separator is not None and kind in ("auto", "multi_label"):
        hint = column_of.other_separator(separator)
        return Problem("multi_label", separator, "data.label_separator is set", hint)
    if kind == "multi_label" and of_one_label and column_of.is_one_hot():
        return Problem(kind, why="each label has a column", one_hot=True)
    if kind == "multi_label":
        return Problem(kind, column_of.any_separator(), "data.problem is set")
    if kind == "regression":
        return Problem(kind, why="data.problem is set")
    if kind == "single_label":
        booleans = column_of.are_booleans()
        numbers = bool(column_of.numbers) and not column_of.others
        return Problem(kind, why="data.problem is set", booleans=booleans, numbers=numbers)
    return column_of.detect()


def check_detected(
    problem: Problem,
    counts: Mapping[str, int],
    *,
    column: str = "label",
    locate: Callable[[Callable[[str], bool] | None], str],
) -> None:
    """Checks a problem that was detected from the first rows against the labels of all rows.

    Args:
        problem: What `detect_problem` returned for `kind="auto"`.
        counts: How many rows have each label, as `problem` reads it.
        column: The name of the column, for messages. Defaults to `"label"`.
        locate: Returns the file and line of the first row whose label a function returns true
            for; where it is given `None`, of the first label that the first rows do not have.

    Raises:
        DataError: All rows together are something else than the first ones; it names the first row
            that does not fit.
    """
    column_of = LabelColumn.of_counts(counts, column)
    if problem.kind == "regression" or not counts:
        return
    if problem.kind == "multi_label":
        if problem.separator is None or not column_of.hardly_recur():
            return
        error, kinds = None, KINDS[1::-1]
        looks = "lists of values that hardly recur, such as texts with commas"
    else:
        try:
            found, error = column_of.detect(), None
        except DataError as unclear:
            found, error = None, unclear
        if found is not None:
            if found.kind == problem.kind:
                return
            kinds = (found.kind, problem.kind)
            looks = found.why if found.kind == "multi_label" else "numbers with fractions"
    error = error or column_of.unclear(looks, *kinds)
    raise DataError(
        error.what,
        where=f"{locate(column_of.misfit())}, the first row unlike the {SAMPLE:,} before it that "
        "the problem was detected from",
        fix=error.fix,
    )
