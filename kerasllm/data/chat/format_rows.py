"""Conversations and preferences read from rows of each format."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from typing import Any

from kerasllm.data.chat.exports import messages_of_list, messages_of_tree
from kerasllm.data.chat.formats import CHOSEN, PREFERENCE, REJECTED, Shape, find_shape
from kerasllm.data.chat.messages import (
    JOINED_TEXTS,
    NUMBER,
    TRANSCRIPT,
    BadRow,
    Messages,
    check_messages,
    parse_messages,
    read_list,
    with_tools,
)
from kerasllm.data.chat.preferences import compare, read_transcript, system_of, with_prompt
from kerasllm.data.readers.json_files import json_kind

_LIST_OF_OBJECTS = re.compile(r"\s*\[\s*\{")

_OF_PREFERENCES = ("prompt", CHOSEN, REJECTED)


def read_row(
    row: Mapping[str, Any],
    shape: str | Shape,
    system: str | None = None,
    notes: Counter[str] | None = None,
) -> Any:
    """Reads a conversation.

    Args:
        row: The row.
        shape: What `find_shape` gives, or the name of a shape.
        system: What the system says in a conversation where it says nothing. Defaults to `None`.
        notes: Counts what was read in another form than it has. Defaults to `None`.

    Returns:
        The messages, or a `Preference` if that is the shape.

    Raises:
        BadRow: If it is not a conversation that ends with the assistant.
    """
    if isinstance(shape, str):
        needed, shape = _OWN_KEYS[shape], find_shape(row, shape)
    missing = [key for key in (shape.needed if shape else needed) if _is_missing(row.get(key))]
    if missing:
        raise BadRow(f"no {' and no '.join(map(repr, missing))} (available keys: {_keys(row)})")
    notes = Counter() if notes is None else notes
    if shape.is_preference:
        sides = [
            check_messages(side, answered=True, system=system, notes=notes)
            for side in _preference(row, shape, notes)
        ]
        return compare(*sides)
    if row.get("label") is False:
        # As data for KTO have it.
        raise BadRow("the answer was rejected: 'label' is false")
    read = _READERS.get(shape.columns[0][0], _pair)
    found = check_messages(read(row, shape, notes), answered=True, system=system, notes=notes)
    for key in (key for role, key in shape.columns if role == "tools"):
        if not _is_missing(row.get(key)):
            found = with_tools(found, row[key], key)
    return found


_OWN_KEYS = {
    PREFERENCE: (CHOSEN, REJECTED),
    "messages": ("messages",),
    "sharegpt": ("conversations",),
    "alpaca": ("instruction", "output"),
    "prompt_completion": ("prompt", "completion"),
}


def _messages(row: Mapping[str, Any], shape: Shape, notes: Counter[str]) -> Messages:
    (_, key), *_ = shape.columns
    messages = parse_messages(row[key], key, notes)
    own = bool(messages) and messages[0]["role"] == "system" and messages[0]["content"].strip()
    return messages if own else [*_said(row, shape, "system", notes), *messages]


def _tree(row: Mapping[str, Any], shape: Shape, notes: Counter[str]) -> Messages:
    return messages_of_tree(*(row[key] for _, key in shape.columns))


def _exported(row: Mapping[str, Any], shape: Shape, notes: Counter[str]) -> Messages:
    return messages_of_list(row[shape.columns[0][1]])


_READERS = {"messages": _messages, "tree": _tree, "exported": _exported}


def _pair(row: Mapping[str, Any], shape: Shape, notes: Counter[str]) -> Messages:
    before = [key for role, key in shape.columns if role == "history"]
    said = {role: _said(row, shape, role, notes) for role in ("system", "user", "assistant")}
    history = [message for key in before for message in _history(row.get(key), key)]
    return [*said["system"], *history, *said["user"], *said["assistant"]]


def _history(value: Any, key: str) -> Messages:
    """The exchanges before a prompt, each a list of what user and assistant said."""
    found = read_list(value) if isinstance(value, str) else value
    if _is_missing(value) or value == "" or found == []:
        return []
    exchanges = found if isinstance(found, (list, tuple)) else [None]
    for each in exchanges:
        pair = isinstance(each, (list, tuple)) and len(each) == 2
        if not pair or not all(isinstance(text, str) for text in each):
            raise BadRow(f"{key!r} is not a list of exchanges, each with a prompt and an answer")
    return [
        {"role": role, "content": text}
        for each in exchanges
        for role, text in zip(("user", "assistant"), each)
    ]


def _preference(
    row: Mapping[str, Any], shape: Shape, notes: Counter[str]
) -> tuple[Messages, Messages]:
    system = _said(row, shape, "system", notes)
    prompt = _said(row, shape, "prompt", notes)
    sides = (with_prompt(prompt, _said(row, shape, key, notes), key) for key in (CHOSEN, REJECTED))
    chosen, rejected = (side if system_of(side) else [*system, *side] for side in sides)
    return chosen, rejected


def _said(row: Mapping[str, Any], shape: Shape, role: str, notes: Counter[str]) -> Messages:
    """What a row says in the columns of a role: a text, or a list of messages."""
    speaker = {"prompt": "user", CHOSEN: "assistant", REJECTED: "assistant"}.get(role, role)
    parts = []
    for place, key in enumerate(key for each, key in shape.columns if each == role):
        value = row.get(key)
        # What a prompt is about is seldom there in each row; Parquet may write nothing as NaN.
        if _is_missing(value) or (value == "" and (place or role == "system")):
            continue
        if isinstance(value, str):
            listed = read_list(value) if _LIST_OF_OBJECTS.match(value) else None
            if listed and all(isinstance(one, Mapping) for one in listed):
                value = listed
            elif role in _OF_PREFERENCES and (turns := read_transcript(value)):
                notes[TRANSCRIPT] += 1
                return turns
            else:
                parts.append(value)
                continue
        if isinstance(value, Mapping) and role == "prompt" and "messages" in value:
            value = value["messages"]
        if isinstance(value, Mapping) and role in (CHOSEN, REJECTED):
            value = [value]
        if isinstance(value, (list, tuple)):
            if all(isinstance(one, str) for one in value):
                # Several documents that the prompt is about.
                if not place or role != "user":
                    raise BadRow(f"{key!r} is a list of texts, where one is expected")
                notes[JOINED_TEXTS] += 1
                parts.append("\n\n".join(value))
                continue
            if parts:
                raise BadRow(f"{key!r} is a list of messages, where a text is expected")
            return parse_messages(value, key, notes)
        if not isinstance(value, (bool, int, float)) or role in (CHOSEN, REJECTED):
            raise BadRow(f"{key!r} is {json_kind(value)}, where a string is expected")
        notes[NUMBER] += 1
        parts.append(str(value).lower() if isinstance(value, bool) else repr(value))
    # An empty instruction leaves what it is about.
    parts = [part for part in parts if part.strip()] or parts
    return [{"role": speaker, "content": "\n\n".join(parts)}] if parts else []


def _is_missing(value: Any) -> bool:
    return value is None or (isinstance(value, float) and value != value)


def _keys(row: Mapping[str, Any]) -> str:
    return ", ".join(map(repr, list(row)[:10])) or "none"
