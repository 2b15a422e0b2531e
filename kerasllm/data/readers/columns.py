"""Which column holds the text, and which the label."""

from __future__ import annotations

import difflib
from collections.abc import Sequence

from kerasllm.data.readers.files import DataFile
from kerasllm.errors import DataError

COMMON_NAMES = {
    "text": (
        "text", "sentence", "review", "content", "body", "comment", "message", "tweet", "document",
        "utterance", "question", "post", "description", "abstract", "headline", "title",
    ),
    "label": (
        "label", "labels", "class", "category", "target", "sentiment", "intent", "topic",
        "emotion", "y",
    ),
}  # fmt: skip
"""Column names that are looked for, in this order and in any case, where none is given."""

_MOST_SHOWN = 20


def choose_column(
    role: str, wanted: str | None, columns: Sequence[str], file: DataFile, other: str | None = None
) -> str:
    """Chooses a column of a file.

    Args:
        role: `"text"` or `"label"`.
        wanted: The name the column must have. Defaults to `None`: a common name.
        columns: The names of the file's columns.
        file: The file, for messages.
        other: A column that is taken already. Defaults to `None`.

    Raises:
        DataError: There is no such column, or there are two, or it is the other one.
    """
    if wanted is not None:
        check_column(role, wanted, columns, file)
        if wanted == other:
            raise DataError(
                f"The text and the label cannot both be the column '{wanted}'",
                where=file.name,
                fix=f"columns there: {_listed(columns)}",
            )
        return wanted
    free = [column for column in columns if column != other]
    for name in COMMON_NAMES[role]:
        found = sorted((column for column in free if column.lower() == name), key=name.__ne__)
        if found:
            check_column(role, found[0], columns, file)
            return found[0]
    raise DataError(
        f"No {role} column found",
        where=file.name,
        fix=_separator(columns)
        + f"name it with --set data.{role}=NAME (evaluate, predict: --{role} NAME); "
        f"columns there: {_listed(columns)}; "
        f"names looked for: {', '.join(COMMON_NAMES[role])}",
    )


def check_column(role: str, name: str, columns: Sequence[str], file: DataFile) -> None:
    """Makes sure that a file has a column, once.

    Raises:
        DataError: It has none, or more than one.
    """
    if name not in columns:
        near = difflib.get_close_matches(name.lower(), [column.lower() for column in columns], n=1)
        nearest = next((column for column in columns if near and column.lower() == near[0]), None)
        raise DataError(
            f"There is no {role} column '{name}'",
            where=file.name,
            fix=(f"did you mean --set data.{role}={nearest}? " if nearest else "")
            + _separator(columns)
            + f"columns there: {_listed(columns)}",
        )
    if columns.count(name) > 1:
        raise DataError(
            f"The header names the column '{name}' {columns.count(name)} times",
            where=file.name,
            fix=f"rename all but the {role} column",
        )


def _listed(columns: Sequence[str]) -> str:
    shown = ", ".join(map(repr, columns[:_MOST_SHOWN]))
    return shown + (f" and {len(columns) - _MOST_SHOWN} more" if columns[_MOST_SHOWN:] else "")


def _separator(columns: Sequence[str]) -> str:
    """A hint where the whole header came out as one column."""
    for separator, name in ((";", "semicolons"), ("\t", "tabs"), ("|", "bars"), (",", "commas")):
        if len(columns) == 1 and separator in columns[0]:
            return f"the header looks separated by {name}: a .csv has commas, a .tsv tabs; "
    return ""
