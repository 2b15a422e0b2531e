"""Tables without a header: whether the first line names the columns, and which column is which."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Sequence

from kerasllm.data.detection import detect_problem
from kerasllm.data.label_cells import is_number, shown
from kerasllm.data.readers.columns import COMMON_NAMES, COMMON_PAIRS
from kerasllm.data.readers.data_file import DataFile
from kerasllm.errors import DataError

LINES = 1000
"""The number of first lines that are compared."""

_KNOWN = {
    "id",
    "idx",
    "index",
    *COMMON_NAMES["text"],
    *COMMON_NAMES["label"],
    *(name for pair in COMMON_PAIRS for name in pair),
}

_COLUMN_NUMBER = re.compile(r"(?:column_)?([0-9]{1,5})")
# Numbers, or several with a separator between, as in `3,17`.
_NUMBERS = re.compile(r"[-+.,;|eE ]*+[0-9][-+0-9.,;|eE ]*+")
_PARTS = re.compile(r"(?<!\s)\s*+[,;|]\s*+")
_ROWS_TO_GUESS_FROM = 3
# A text has words: a column of texts has so many on average, and a name of a column has fewer.
_WORDS_OF_A_TEXT = 3
_SHARE = 0.95


def column_number(name: str) -> int | None:
    """The number of a column that is named by one, `3` or `column_3`, counted from 0."""
    match = _COLUMN_NUMBER.fullmatch(name)
    return int(match[1]) if match else None


def has_known_name(fields: Sequence[str]) -> bool:
    """Whether a line holds the common name of a column."""
    return any(field.strip().lower() in _KNOWN for field in fields)


def looks_like_data(first: Sequence[str]) -> bool:
    """Whether a first line holds what no header does: numbers or long texts."""
    return not has_known_name(first) and (looks_long(first) or any(map(is_number, first)))


def is_header(lines: Sequence[Sequence[str]]) -> bool:
    """Whether the first line names the columns, where the user gave their numbers.

    It does if it holds a common name and no number, or if a column holds numbers in all lines but
    this one.
    """
    first, rows = lines[0], lines[1:]
    if has_known_name(first) and not any(map(is_number, first)):
        return True
    if len(rows) < _ROWS_TO_GUESS_FROM:
        return False
    rows = [row for row in rows if len(row) == len(first)]
    return any(
        field.strip()
        and not _NUMBERS.fullmatch(field)
        and rows
        and all(_NUMBERS.fullmatch(row[place]) for row in rows)
        for place, field in enumerate(first)
    )


def holds_names(lines: Sequence[Sequence[str]], text: str | None, names: Sequence[str]) -> bool:
    """Whether numbers that the user gave are names in a header, as in a header `0,1,2`.

    Args:
        lines: The first lines.
        text: The number of the text column, or `None`.
        names: The numbers of all columns, as the user wrote them.
    """
    first = [field.strip() for field in lines[0]]
    if not set(names) <= set(first) or len(set(first)) < len(first) or looks_long(first):
        return False
    rows = [row for row in lines[1:] if len(row) == len(first)]
    if text is None or not rows:
        return True
    place = first.index(text)
    return not any(is_number(row[place]) for row in rows)


def looks_long(fields: Sequence[str]) -> bool:
    """Whether a field is longer than the name of a column is."""
    return any(len(field.split()) > _WORDS_OF_A_TEXT for field in fields)


@dataclasses.dataclass(frozen=True)
class Guess:
    """Which columns of a table without a header are which, by number, counted from 0."""

    texts: tuple[int, ...]
    label: int | None
    why: str


def guess_columns(
    lines: Sequence[Sequence[str]],
    *,
    pair: bool,
    labelled: bool,
    texts: tuple[int, ...] = (),
    label: int | None = None,
    taken: Sequence[int | str] = (),
) -> Guess | None:
    """Tells which columns of a table without a header are which, if that is clear.

    A text column has words and hardly repeats. The label is the one other column that has a value
    in each row and recurring ones, or the one that is all 0 and 1. The first line must look like
    those below it: it has words in the text columns, and a label that recurs, or a number where
    the labels are scores. Where only texts are looked for, a single row is enough.

    Args:
        lines: The first lines.
        pair: Whether there may be two texts.
        labelled: Whether there is a label.
        texts: The text columns, where they are known. Defaults to `()`: guessed.
        label: The label column, where it is known. Defaults to `None`: guessed.
        taken: Columns that are not candidates. Defaults to `()`.

    Returns:
        The columns, or `None` if it is not clear.
    """
    first, below = lines[0], lines[1:] if labelled else lines
    rows = [row for row in below if len(row) == len(first)]
    if len(rows) < max(_ROWS_TO_GUESS_FROM if labelled else 1, _SHARE * len(below)):
        return None
    columns = {
        place: [row[place].strip() for row in rows]
        for place in range(len(first))
        if place not in taken
    }
    reasons = []
    if not texts:
        texts = tuple(place for place, values in columns.items() if are_texts(values))
        if not texts or len(texts) > 1 + pair:
            return None
        if any(len(first[place].split()) < _WORDS_OF_A_TEXT for place in texts):
            return None
        reasons.append("the columns with words" if texts[1:] else "the column with words")
    if labelled and label is None:
        candidates = {
            place: values
            for place, values in columns.items()
            if place not in texts and _are_labels(values)
        }
        reason = "the other column with repeated values"
        if len(candidates) > 1:
            reason = "the column of 0 and 1"
            candidates = {
                place: values for place, values in candidates.items() if set(values) == {"0", "1"}
            }
        if len(candidates) != 1:
            return None
        ((label, values),) = candidates.items()
        if not _fits(first[label].strip(), values):
            return None
        reasons.append(reason)
    return Guess(texts, label, " and ".join(reasons))


def _fits(field: str, values: list[str]) -> bool:
    """Whether a label of the first line looks like those below it.

    It is one of them, or made of theirs as `3,17` is; a score need only be a number.
    """
    if all(map(is_number, values)) and any("." in value for value in values):
        return is_number(field)
    below = {part for value in values for part in _PARTS.split(value)}
    return field in values or set(_PARTS.split(field)) <= below


def are_texts(values: Sequence[str]) -> bool:
    """Whether the values of a column have words and hardly recur, as texts do."""
    words = sum(len(value.split()) for value in values)
    return (
        words >= _WORDS_OF_A_TEXT * len(values)
        and 2 * len(set(values)) > len(values)
        and sum(map(bool, values)) >= _SHARE * len(values)
    )


def _are_labels(values: list[str]) -> bool:
    different = len(set(values))
    if not all(values) or different == 1:
        return False
    if different == len(values) and not all(is_number(value) and "." in value for value in values):
        return False
    try:
        detect_problem(values)
    except DataError:
        return False
    return True


def unclear(file: DataFile, first: Sequence[str], *, labelled: bool = True) -> DataError:
    """The error for a table whose columns the user must name by number."""
    fields = ", ".join(f"{place}: {shown(field)}" for place, field in enumerate(first[:20]))
    if labelled:
        fix = (
            "name the columns by number: --text NUMBER and --label NUMBER (for two texts also "
            "--text-pair NUMBER; in a recipe: data.text, data.label, data.text_pair)"
        )
    else:
        longest = max(range(len(first)), key=lambda place: len(first[place]))
        fix = (
            f"name the column by number, such as --text {longest} (for two texts also "
            "--text-pair NUMBER)"
        )
    return DataError(
        "The first line looks like a row, not a header, and the roles of the columns are not clear",
        where=file.name,
        fix=f"{fix}; the first line has {fields}",
    )
