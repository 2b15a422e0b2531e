"""Which column holds the text, and which the label."""

from __future__ import annotations

import difflib
import re
import shlex
from collections.abc import Sequence

from kerasllm.data.readers.data_file import DataFile
from kerasllm.errors import DataError

COMMON_NAMES = {
    "text": (
        "text", "sentence", "review", "content", "body", "comment", "message", "tweet", "document",
        "utterance", "question", "post", "description", "abstract", "headline", "title",
    ),
    "label": (
        "label", "labels", "class", "category", "target", "sentiment", "intent", "topic",
        "emotion", "y", "emotions", "gold_label", "quality", "is_duplicate", "score", "similarity",
        "rating", "relevance", "relatedness_score", "stars",
    ),
}  # fmt: skip
"""Column names that are looked for, in this order and in any case, where none is given."""

COMMON_PAIRS = (
    ("sentence1", "sentence2"), ("question1", "question2"), ("premise", "hypothesis"),
    ("question", "sentence"), ("#1 string", "#2 string"), ("text1", "text2"), ("text_a", "text_b"),
    ("sentence_a", "sentence_b"), ("query", "passage"), ("query", "document"),
    ("question", "passage"), ("text", "text_pair"), ("text", "text2"), ("text", "text_2"),
    ("text_1", "text_2"), ("sentence_1", "sentence_2"), ("sentence", "sentence2"),
    ("sent1", "sent2"), ("sent_1", "sent_2"), ("s1", "s2"), ("question_1", "question_2"),
    ("q1", "q2"), ("question", "context"), ("question", "document"), ("claim", "evidence"),
    ("question", "answer"), ("query", "answer"), ("context", "response"),
)  # fmt: skip
"""Names of two text columns that are looked for, in this order and in any case."""

DELIMITERS = {
    ",": "commas",
    ";": "semicolons",
    "\t": "tabs",
    "|": "bars",
    "::": "double colons",
    "\x01": "^A",
}
"""What separates the fields of a table, and its name in words."""

_ANY_SEPARATOR = re.compile(r"\w ?([^\w\s.'\"\-]| ) ?\w")
_TEXT = COMMON_NAMES["text"][0]

_MOST_SHOWN = 20
_LONGEST_NAME = 200
_TABLES = (".csv", ".tsv")


def find_column(
    role: str, columns: Sequence[str], file: DataFile, taken: Sequence[str] = ()
) -> str:
    """Finds a column of a file by its common names.

    Args:
        role: `"text"` or `"label"`.
        columns: The names of the file's columns.
        file: The file, for messages.
        taken: Columns that have another role. Defaults to `()`.

    Raises:
        DataError: No column has such a name, or two have it.
    """
    found = common_column(role, columns, taken)
    if found is not None:
        check_column(role, found, columns, file)
        return found
    raise missing_columns([role], columns, file, taken)


def common_column(role: str, columns: Sequence[str], taken: Sequence[str] = ()) -> str | None:
    """Returns the column that has a common name, or `None`; see `find_column`."""
    free = [column for column in columns if column not in taken]
    for name in COMMON_NAMES[role]:
        found = sorted((column for column in free if _plain(column) == name), key=name.__ne__)
        if found:
            return found[0]
    return None


def missing_columns(
    roles: Sequence[str], columns: Sequence[str], file: DataFile, taken: Sequence[str] = ()
) -> DataError:
    """The error for a file in which no column has a common name.

    Args:
        roles: The roles that no column has, of `"text"` and `"label"`.
        columns: As for `find_column`.
        file: As for `find_column`.
        taken: As for `find_column`. Defaults to `()`.
    """
    pair = common_pair(columns, taken) if "text" in roles else None
    longest = max(range(len(columns)), key=lambda place: len(columns[place]))
    both = ""
    if pair:
        both = f"for two texts: --set 'data.text={pair[0]}' --set 'data.text_pair={pair[1]}'; "
    settings = " ".join(f"--set data.{role}=NAME" for role in roles)
    options = " ".join(f"--{role} NAME" for role in roles)
    names = ", ".join(name for role in roles for name in COMMON_NAMES[role])
    return DataError(
        f"No {' column and no '.join(roles)} column found",
        where=file.name,
        fix=_separator(columns)
        + both
        + f"name {'them' if roles[1:] else 'it'} with {settings} (evaluate, predict, data: "
        f"{options}); available columns: {_listed(columns)}; names looked for: {names}"
        + (
            f"; without a header, name columns by number, from 0, as in --{roles[0]} {longest}"
            if file.suffix in _TABLES
            else ""
        ),
    )


def common_pair(columns: Sequence[str], taken: Sequence[str] = ()) -> tuple[str, str] | None:
    """Finds two text columns by their common names.

    A column `text` is the text, regardless of other columns: only `text_pair` and `text2` make a
    pair with it.

    Args:
        columns: The names of the file's columns.
        taken: Columns that are no texts. Defaults to `()`.
    """
    named: dict[str, str] = {}
    for column in columns:
        if column not in taken:
            named.setdefault(_plain(column), column)
    for first, second in COMMON_PAIRS:
        if first in named and second in named and (first == _TEXT or _TEXT not in named):
            return named[first], named[second]
    return None


def _plain(column: str) -> str:
    """A name in lower case, without what a conversion may have left around it."""
    return column.strip().strip("\ufeff").lower()


def check_column(role: str, name: str, columns: Sequence[str], file: DataFile) -> None:
    """Makes sure that a file has a column, once; see `check_columns`."""
    check_columns([(role, name)], columns, file)


def check_columns(named: Sequence[tuple[str, str]], columns: Sequence[str], file: DataFile) -> None:
    """Makes sure that a file has each column, once.

    Args:
        named: The role and the name of each.
        columns: The names of the file's columns.
        file: The file, for messages.

    Raises:
        DataError: It lacks some, all of which are told, or has one more than once.
    """
    unknown = [(role, name) for role, name in named if name not in columns]
    if unknown:
        separator = _separator(columns)
        short = [column for column in columns if len(column) <= _LONGEST_NAME]
        known = [] if separator else [column.lower() for column in short]
        suggested = ""
        for role, name in unknown:
            for near in difflib.get_close_matches(name.lower(), known, n=1):
                nearest = next(column for column in short if column.lower() == near)
                suggested += f"{_suggestion(role, nearest)}; "
        told = " and no ".join(f"{role} column '{name}'" for role, name in unknown)
        raise DataError(
            f"There is no {told}",
            where=file.name,
            fix=f"{suggested}{separator}available columns: {_listed(columns)}",
        )
    for _, name in named:
        if columns.count(name) > 1:
            raise DataError(
                f"The header names the column '{name}' {columns.count(name)} times",
                where=file.name,
                fix="rename all but one of them",
            )


def _suggestion(role: str, column: str) -> str:
    """The option that may have been meant, quoted for a shell."""
    option = f"--{role.replace('_', '-')} {shlex.quote(column)}"
    setting = shlex.quote(f"data.{role}={column}")
    return f"did you mean --set {setting}? (evaluate, predict, data: {option})"


def _listed(columns: Sequence[str]) -> str:
    shown = ", ".join(map(repr, columns[:_MOST_SHOWN]))
    return shown + (f" and {len(columns) - _MOST_SHOWN} more" if columns[_MOST_SHOWN:] else "")


def _separator(columns: Sequence[str]) -> str:
    """A hint where the header came out as one column, or the rows are of an annotation tool."""
    if {"data", "annotations"} <= set(columns):
        return "these are the tasks of Label Studio: export them as JSON-MIN or CSV; "
    for separator, name in DELIMITERS.items():
        if len(columns) == 1 and separator in columns[0]:
            written = {"\t": "tab", "\x01": "^A"}.get(separator, separator)
            return (
                f"the header looks separated by {name}: --set 'data.delimiter={written}' "
                f"(evaluate, predict, data: --delimiter '{written}'); "
            )
    if len(columns) == 1 and (match := _ANY_SEPARATOR.search(columns[0])):
        mark = match[1]
        return (
            f"if {mark!r} separates the columns: --set 'data.delimiter={mark}' "
            f"(evaluate, predict, data: --delimiter '{mark}'); if the first line is a title, "
            "remove it; "
        )
    return ""
