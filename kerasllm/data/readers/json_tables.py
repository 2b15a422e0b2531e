"""A table in one JSON object: under a key (`{"data": [...]}`), or as pandas writes columns."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from typing import Any

from kerasllm.errors import DataError

# What holds the rows, beside what tells of them.
_WRAPPERS = ("data", "rows", "examples", "instances", "records", "items", "results")
# What a row has, and no description of rows.
_OF_ROWS = {"text", "sentence", "question", "prompt", "instruction", "input", "query", "label"}
_SPLITS = ("train", "training", "validation", "valid", "val", "dev", "test")


def rows_of_object(
    value: Mapping[str, Any], where: str, *, nested: bool = False
) -> list[dict] | None:
    """Returns the rows of the one object that a file holds, if it holds more than one.

    - `{"data": [{...}, ...]}`, and `rows` of the hub's viewer;
    - `{"text": {"0": ...}, "label": {"0": ...}}`, `{"0": {"text": ...}}`, `{"text": [...]}` and
      `{"columns": [...], "data": [[...]]}`: what pandas writes by `orient`.

    Args:
        value: The object.
        where: The file, for messages.
        nested: Whether rows may be within others, as questions are in the articles of SQuAD.
            Defaults to `False`: they are refused.

    Returns:
        The rows; `None` if the object is a row itself.

    Raises:
        DataError: It holds the parts of a data set, or rows within rows.

    Example:

    >>> rows_of_object({"text": {"0": "a", "1": "b"}, "label": {"0": 1, "1": 0}}, "a.json")
    [{'text': 'a', 'label': 1}, {'text': 'b', 'label': 0}]
    """
    lists = [key for key, each in value.items() if _holds_rows(each)]
    parts = [key for key in lists if key.lower() in _SPLITS]
    if len(parts) > 1:
        raise DataError(
            f"The file holds the parts {', '.join(parts)} of a data set",
            where=where,
            fix=f"write each into a file: `{_jq(f'.{parts[0]}[]', where, parts[0])}`",
        )
    beside = {key.lower() for key in value} & _OF_ROWS
    for key in parts if len(lists) == 1 and parts else _WRAPPERS:
        if key in lists and not beside:
            return _unwrapped(value[key], where, nested)
    if isinstance(value.get("columns"), list) and isinstance(value.get("data"), list):
        names = list(map(str, value["columns"]))
        if all(isinstance(row, list) and len(row) == len(names) for row in value["data"]):
            return [dict(zip(names, row)) for row in value["data"]]
    return _of_columns(value)


def _holds_rows(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(type(one) is dict for one in value)


def _unwrapped(rows: list[dict], where: str, nested: bool) -> list[dict]:
    if any(isinstance(row.get("paragraphs"), list) for row in rows):
        if nested:
            return rows
        flat = (
            ".data[].paragraphs[] | .context as $c | .qas[] | "
            '{question, context: $c, answer: (.answers[0].text // "")}'
        )
        raise DataError(
            "The rows are nested: paragraphs with questions, as in SQuAD",
            where=where,
            fix=f"write one question per line: `{_jq(flat, where)}`",
        )
    if all(isinstance(row.get("row"), dict) and "row_idx" in row for row in rows):
        # The viewer of the hub.
        return [row["row"] for row in rows]
    return rows


def _of_columns(value: Mapping[str, Any]) -> list[dict] | None:
    """The rows of an object of columns, or of rows by their numbers."""
    columns = list(value.values())
    if not columns:
        return None
    if all(type(column) is dict and column for column in columns):
        if all(key.isdecimal() for key in value):
            return columns
        keys = columns[0].keys()
        if all(key.isdecimal() for key in keys) and all(one.keys() == keys for one in columns):
            return [{name: column[key] for name, column in value.items()} for key in keys]
    elif len(columns) > 1 and all(isinstance(column, list) for column in columns):
        # A row may hold lists too, of tokens and their labels.
        texts = [name for name, column in value.items() if _are_texts(column)]
        if texts and len({len(column) for column in columns}) == 1:
            return [dict(zip(value, row)) for row in zip(*columns)]
    return None


def _are_texts(column: list) -> bool:
    texts = [one for one in column if isinstance(one, str)]
    return len(texts) > 1 and sum(" " in text.strip() for text in texts) * 2 > len(column)


def _jq(expression: str, where: str, name: str = "") -> str:
    stem = where.rpartition("/")[2].partition(".")[0]
    out = f"{stem}_{name}.jsonl" if name else f"{stem}.jsonl"
    return f"jq -c {shlex.quote(expression)} {shlex.quote(where)} > {shlex.quote(out)}"
