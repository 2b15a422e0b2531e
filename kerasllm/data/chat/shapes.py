"""The shapes in which files hold conversations, and what makes a conversation one."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

from kerasllm.data.readers.json_files import json_kind
from kerasllm.data.readers.sources import surrogate_problem

Messages = list[dict[str, Any]]

_ROLES = ("system", "user", "assistant")
_SHAREGPT_ROLES = {
    "system": "system",
    "human": "user",
    "user": "user",
    "gpt": "assistant",
    "chatgpt": "assistant",
    "bot": "assistant",
    "model": "assistant",
    "assistant": "assistant",
}


class BadRow(ValueError):
    """A row that is no conversation; the message says why."""


@dataclasses.dataclass(frozen=True)
class Preference:
    """Two conversations that differ in how they end.

    Args:
        chosen: The better one.
        rejected: The other one.
        prompt: How many messages they share at their beginning.
    """

    chosen: Messages
    rejected: Messages
    prompt: int


def shape_of(keys: Collection[str]) -> str | None:
    """Names the shape of rows with these keys, or returns `None`.

    Args:
        keys: The keys of the rows.

    Example:
        >>> shape_of(["instruction", "input", "output"])
        'alpaca'
    """
    return next((name for name, (needed, _) in _SHAPES.items() if needed <= set(keys)), None)


def known_shapes() -> str:
    """The names of the shapes with the keys that they need, for an error."""
    return "; ".join(f"{name}: {', '.join(sorted(keys))}" for name, (keys, _) in _SHAPES.items())


def read_row(row: Mapping[str, Any], shape: str, system: str | None = None) -> Any:
    """Reads a conversation.

    Args:
        row: The row.
        shape: One of the names that `shape_of` gives.
        system: What the system says in a conversation where it says nothing. Defaults to `None`.

    Returns:
        The messages, or a `Preference` if that is the shape.

    Raises:
        BadRow: If it is no conversation that ends with the assistant.
    """
    needed, read = _SHAPES[shape]
    missing = [key for key in sorted(needed) if row.get(key) is None]
    if missing:
        raise BadRow(f"no {' and no '.join(map(repr, missing))} (keys there: {_keys(row)})")
    found = read(row)
    for messages in found if shape == "preference" else (found,):
        if system and messages and messages[0]["role"] != "system":
            messages.insert(0, {"role": "system", "content": system})
        _check(messages)
    return _compared(*found) if shape == "preference" else found


def _compared(chosen: Messages, rejected: Messages) -> Preference:
    if chosen == rejected:
        raise BadRow("chosen and rejected are the same")
    pairs = list(zip(chosen[:-1], rejected[:-1]))
    shared = next((i for i, (one, other) in enumerate(pairs) if one != other), len(pairs))
    if chosen[shared]["role"] != "assistant":
        raise BadRow("chosen and rejected do not answer the same prompt")
    return Preference(chosen, rejected, shared)


def _check(messages: Messages) -> None:
    """Refuses what is no conversation of a user and an assistant that the assistant ends."""
    if not messages:
        raise BadRow("the conversation is empty")
    turns = messages[messages[0]["role"] == "system" :]
    first = len(messages) - len(turns) + 1
    for number, message in enumerate(messages, start=1):
        role, content = message["role"], message["content"]
        if not content.strip():
            raise BadRow(f"message {number} ({role}) is empty")
        problem = surrogate_problem(f"message {number}", content)
        if problem:
            raise BadRow(problem)
    for number, message in enumerate(turns, start=first):
        expected = ("user", "assistant")[(number - first) % 2]
        if message["role"] != expected:
            raise BadRow(
                f"message {number} is the {message['role']}'s, where the {expected}'s is expected"
            )
    if not turns:
        raise BadRow("the assistant says nothing")
    if turns[-1]["role"] != "assistant":
        raise BadRow("the conversation ends on the user, with no answer to learn")


def _messages(row: Mapping[str, Any]) -> Messages:
    return _listed(row["messages"], "messages")


def _prompt_and_completion(row: Mapping[str, Any]) -> Messages:
    return _said(row, "prompt", "user") + _said(row, "completion", "assistant")


def _alpaca(row: Mapping[str, Any]) -> Messages:
    asked = _text(row, "instruction")
    if row.get("input"):
        asked += "\n\n" + _text(row, "input")
    answer = _text(row, "output")
    return [
        *_system_of(row),
        {"role": "user", "content": asked},
        {"role": "assistant", "content": answer},
    ]


def _sharegpt(row: Mapping[str, Any]) -> Messages:
    messages = []
    for number, one in enumerate(_list(row["conversations"], "conversations"), start=1):
        if not isinstance(one, Mapping):
            raise BadRow(f"message {number} is {json_kind(one)}, where an object is expected")
        if "role" in one and "from" not in one:
            messages += _listed([one], "conversations")
            continue
        role = one.get("from")
        if role not in _SHAREGPT_ROLES:
            raise BadRow(
                f"message {number} is from {role!r}, where one of "
                f"{', '.join(_SHAREGPT_ROLES)} is expected"
            )
        content = one.get("value")
        if not isinstance(content, str):
            raise BadRow(f"the value of message {number} is {json_kind(content)}, not a string")
        messages.append({"role": _SHAREGPT_ROLES[role], "content": content})
    return (
        messages
        if messages[:1] and messages[0]["role"] == "system"
        else ([*_system_of(row), *messages])
    )


def _preference(row: Mapping[str, Any]) -> tuple[Messages, Messages]:
    prompt = _said(row, "prompt", "user") if row.get("prompt") is not None else []

    def whole(key: str) -> Messages:
        said = _said(row, key, "assistant")
        # Some rows repeat the prompt in both.
        if said and said[0]["role"] != "assistant":
            if said[: len(prompt)] != prompt:
                raise BadRow(f"{key!r} begins with another prompt than 'prompt'")
            return said
        return [dict(message) for message in prompt] + said

    return whole("chosen"), whole("rejected")


def _system_of(row: Mapping[str, Any]) -> Messages:
    return [{"role": "system", "content": _text(row, "system")}] if row.get("system") else []


def _said(row: Mapping[str, Any], key: str, role: str) -> Messages:
    """A text, or a list of messages."""
    value = row[key]
    if isinstance(value, str):
        return [{"role": role, "content": value}]
    return _listed(value, key)


def _listed(value: Any, key: str) -> Messages:
    """A list of messages with roles."""
    messages = []
    for number, one in enumerate(_list(value, key), start=1):
        if not isinstance(one, Mapping):
            raise BadRow(f"message {number} is {json_kind(one)}, where an object is expected")
        role = one.get("role")
        if role not in _ROLES:
            raise BadRow(f"the role of message {number} is {role!r}; known are {', '.join(_ROLES)}")
        # Parquet writes the keys that other rows have.
        more = {name: part for name, part in one.items() if part is not None}
        if more.get("tool_calls"):
            raise BadRow(f"message {number} calls tools, which kerasllm does not train on")
        messages.append({**more, "content": _content(one.get("content"), number)})
    return messages


def _content(value: Any, number: int) -> str:
    if isinstance(value, Sequence) and not isinstance(value, str):
        parts = [part.get("text") if isinstance(part, Mapping) else None for part in value]
        if all(isinstance(part, str) for part in parts):
            return "".join(parts)
        raise BadRow(f"message {number} holds more than text")
    if not isinstance(value, str):
        raise BadRow(f"the content of message {number} is {json_kind(value)}, not a string")
    return value


def _list(value: Any, key: str) -> Sequence[Any]:
    if isinstance(value, list):
        return value
    raise BadRow(f"{key!r} is {json_kind(value)}, where a list of messages is expected")


def _text(row: Mapping[str, Any], key: str) -> str:
    if isinstance(row[key], str):
        return row[key]
    raise BadRow(f"{key!r} is {json_kind(row[key])}, where a string is expected")


def _keys(row: Mapping[str, Any]) -> str:
    return ", ".join(map(repr, list(row)[:10])) or "none"


_SHAPES: dict[str, tuple[set[str], Callable[[Mapping[str, Any]], Any]]] = {
    "preference": ({"chosen", "rejected"}, _preference),
    "messages": ({"messages"}, _messages),
    "sharegpt": ({"conversations"}, _sharegpt),
    "alpaca": ({"instruction", "output"}, _alpaca),
    "prompt_completion": ({"prompt", "completion"}, _prompt_and_completion),
}
