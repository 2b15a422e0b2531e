"""Detects the kind of problem from a column of labels."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from kerasllm.data.label_cells import label_text, shown
from kerasllm.data.label_column import SAMPLE, SEPARATORS, LabelColumn
from kerasllm.data.label_forms import ONE_HOT, is_number
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
        _refuse_one_hot_lists(column_of)
        _refuse_lists_of_shares(column_of)
    if separator is not None and kind in ("auto", "multi_label"):
        hint = _other_separator(column_of, separator)
        return Problem("multi_label", separator, "data.label_separator is set", hint)
    if kind == "multi_label" and of_one_label and column_of.is_one_hot():
        return Problem(kind, why="each label has a column", one_hot=True)
    if kind == "multi_label":
        return Problem(kind, column_of.any_separator(), "data.problem is set")
    if kind == "regression":
        _refuse_words(column_of)
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
        looks = "lists of mostly unique values, such as texts with commas"
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


def _refuse_words(column: LabelColumn) -> None:
    """Stops at classes that are hardly ever numbers, where a score is to be predicted."""
    others = sum(column.others.values())
    if 10 * sum(column.numbers.values()) >= others or column.hardly_recur():
        return
    raise DataError(
        f"data.problem is regression, but the labels in the column '{column.name}' are not "
        f"numbers: {column.placed(column.others)}",
        where=column.where,
        fix="to train on them as classes: --recipe bert_cls, or --set data.problem=single_label; "
        "for scores, write plain numbers, or name another column: --set data.label=NAME",
    )


def _refuse_one_hot_lists(column: LabelColumn) -> None:
    """Stops at lists that hold 0 and 1 in the places of labels, which have no names."""
    lists = _most_are_lists(column)
    if len({len(one) for one in lists}) != 1:
        return
    different = set()
    for one in lists:
        try:
            different.add(tuple(label_text(part).lower() for part in one))
        except TypeError:
            return
    size = len(lists[0])
    if size < 2 or any(part not in ONE_HOT for one in different for part in one):
        return
    if len(different) == 1 and len(set(next(iter(different)))) == size:
        # Always the labels 0 and 1.
        return
    raise DataError(
        f"The label column '{column.name}' holds lists of {size} values that are 0 or 1, one "
        f"position per label ({shown(lists[0])}), and the labels have no names there",
        where=column.where,
        fix="write the names of the labels (['joy', 'fear']), or a column of 0 and 1 for each "
        "label: --set 'data.label=[joy, fear, ...]'",
    )


def _most_are_lists(column: LabelColumn) -> list[list]:
    """The lists of a column, each that is written as text once; none if most are no lists."""
    written = sum(column.counts[cell] for cell in column.written)
    found = len(column.lists) + written
    total = len(column.lists) + column.rows
    return [*column.lists, *column.written.values()] if 2 * found >= total else []


def _refuse_lists_of_shares(column: LabelColumn) -> None:
    """Stops at lists of numbers with fractions, such as the probability of each label."""
    lists = [one for one in _most_are_lists(column) if one]
    if len({len(one) for one in lists}) != 1:
        return
    numbers = [part for one in lists for part in one]
    try:
        if not all(is_number(label_text(part)) for part in numbers):
            return
    except TypeError:
        return
    if all(float(part).is_integer() for part in numbers):
        return
    raise DataError(
        f"The label column '{column.name}' holds lists of {len(lists[0])} numbers with fractions "
        f"({shown(lists[0])}), such as the probability of each label",
        where=column.where,
        fix="write the name of the most likely label, or a column of scores: "
        "--set data.problem=regression",
    )


def _other_separator(column: LabelColumn, separator: str) -> str:
    """Names a cell that has another separator where no cell has the one that is set."""
    if any(separator in text for text in column.counts):
        return ""
    for other in SEPARATORS:
        held = next((text for text in column.counts if other in text), None)
        if held is not None and held not in column.written:
            return (
                f"no label holds data.label_separator={separator!r}, "
                f"and {column.placed([held])} holds {other!r}"
            )
    return ""
