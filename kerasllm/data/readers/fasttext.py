"""The reader of fastText's files: a line is `__label__pos __label__long a text`."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from kerasllm.data.readers.class_folders import LABEL, TEXT
from kerasllm.data.readers.data_file import DataFile
from kerasllm.data.readers.text_lines import TextLines, first_lines

if TYPE_CHECKING:
    from kerasllm.data.readers.formats import Columns

PREFIX = "__label__"
"""What each label begins with."""

_LINES = 20
_LABELS = re.compile(rf"(?<!\S){PREFIX}(\S+)")
# Where labels stand, and the blanks around them.
_LABELLED = re.compile(rf"(?:(?<!\S){PREFIX}\S*\s*)+")


def is_fasttext(file: DataFile) -> bool:
    """Whether the first line of a text file that is not blank begins with a label."""
    lines = first_lines(file, _LINES)
    return next((line for line in lines if line.strip()), "").startswith(PREFIX)


def fasttext_columns(file: DataFile) -> list[str]:
    """The names of the columns."""
    return [TEXT, LABEL]


def fasttext_rows(
    file: DataFile, columns: Columns, notes: Any = None
) -> Iterator[tuple[int, Sequence, str | None]]:
    """Yields number, values and problem of each line that is not blank.

    The label is a string, of several a list, of none `None`; labels may stand anywhere in a line.
    """
    lines = TextLines(file)
    places = [
        each if isinstance(each, int) else (TEXT, LABEL).index(each)
        for each in (*columns.texts, *columns.labels)
    ]
    for number, line in enumerate(lines, start=1):
        if lines.problems:
            yield number, (), lines.take_problem()[1]
            continue
        if not line.strip():
            continue
        labels = _LABELS.findall(line)
        found = (
            _LABELLED.sub("", line).strip("\r\n"),
            labels if len(labels) > 1 else next(iter(labels), None),
        )
        yield number, [found[place] for place in places], None
