"""Rows under the name of a text file, which would be read as prose."""

from __future__ import annotations

import json

from kerasllm.data.readers.columns import COMMON_NAMES, DELIMITERS
from kerasllm.data.readers.data_file import DataFile
from kerasllm.data.readers.text_lines import first_lines
from kerasllm.errors import DataError

_LINES = 20
_LONGEST_HEADER = 200


def refuse_rows_in_text(file: DataFile) -> None:
    """Refuses a `.txt` file whose first lines are JSON objects, or whose first line is a header.

    Args:
        file: The file.

    Raises:
        DataError: It holds rows.
    """
    lines = [line for line in first_lines(file, _LINES) if line.strip()]
    if not lines:
        return
    if all(line.startswith("{") for line in lines) and all(map(_is_object, lines)):
        what, suffix = "JSON objects, one a line", ".jsonl"
    elif mark := _delimiter_of_header(lines[0]):
        what, suffix = "a table with a header", ".tsv" if mark == "\t" else ".csv"
    else:
        return
    raise DataError(
        f"The file holds {what}, but its name says it is plain text",
        where=f"{file.name}:1",
        fix=f"give it a name that ends in {suffix}; to train a language model on its raw text, one "
        "that ends in .md",
    )


def _is_object(line: str) -> bool:
    try:
        return type(json.loads(line)) is dict
    except (ValueError, RecursionError):
        return False


def _delimiter_of_header(line: str) -> str | None:
    """What separates the common names of a text and of a label, where a line is made of names."""
    if len(line) > _LONGEST_HEADER:
        return None
    for mark in DELIMITERS:
        names = [field.strip().strip('"').lower() for field in line.split(mark)]
        if len(names) > 1 and all({*names} & {*COMMON_NAMES[role]} for role in ("text", "label")):
            return mark
    return None
