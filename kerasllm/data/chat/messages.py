"""The parser of messages, shared by training, evaluation, generation, chat and the server."""

from __future__ import annotations

import ast
import contextlib
import json
import re
import warnings
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from kerasllm.data.readers.json_files import json_kind
from kerasllm.data.readers.row_checks import surrogate_problem

Messages = list[dict[str, Any]]

ROLES = ("system", "user", "assistant")
# OpenAI's later name for what instructs the model.
_DEVELOPER = {"developer": "system"}
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
_TOOLS = ("tool", "function")
_CALLS = ("tool_calls", "function_call")
_FIELDS = frozenset(("role", "content", "from", "value", "weight", *_CALLS))
# What a turn of both has in some data sets (Capybara).
_EXCHANGE = {"input", "output"}
# Between messages of one role that follow each other.
_JOINT = "\n\n"

EMPTY_SYSTEM = "empty system message|left out"
JOINED = "conversation|with consecutive messages of one role, which were joined"
FROM_STRING = "list|of messages read from a string"
JOINED_TEXTS = "list|of texts that a prompt is about, which were joined"
MARKED = "byte-order mark|removed"
NUMBER = "number|read as text"
TURNS = "list|of texts, read as the turns of user and assistant"
TRANSCRIPT = "text|of turns that begin with Human: and Assistant:, read as messages"
UNWEIGHTED = "answer|with a weight of 0, not in the loss"


class BadRow(ValueError):
    """A row that is not a conversation; the message says why."""


def without_mark(text: str) -> str:
    """Returns a text without the byte-order marks that it begins with: they are of its file."""
    return text.lstrip("\ufeff")


def role_of(role: Any) -> str | None:
    """Returns a role of OpenAI's format as chat templates know it, or `None` for any other."""
    name = role.lower() if isinstance(role, str) else None
    name = _DEVELOPER.get(name, name)
    return name if name in ROLES else None


def text_of_part(part: Any) -> str | None:
    """Returns the text of a part of a content, or `None` for an image and the like."""
    if not isinstance(part, Mapping) or part.get("type") not in (None, "text"):
        return None
    text = part.get("text")
    return text if isinstance(text, str) else None


def parse_messages(
    value: Any, name: str = "messages", notes: Counter[str] | None = None
) -> Messages:
    """Reads a list of messages in the forms in which people have them.

    A message has `role` and `content`, or `from` and `value` (ShareGPT); a content is a text or
    parts of it. The list may be written in a string, as JSON or as Python shows it. A list of texts
    is what user and assistant say in turns (UltraChat).

    Args:
        value: The list.
        name: What errors call it. Defaults to `"messages"`.
        notes: Counts what was read in another form than it has. Defaults to `None`.

    Returns:
        `{"role": ..., "content": ...}` with the fields that a message has besides.

    Raises:
        BadRow: If it is not such a list. The order of the messages is left to `check_messages`.

    Example:
        >>> parse_messages([{"role": "Developer", "content": [{"type": "text", "text": "Hi"}]}])
        [{'role': 'system', 'content': 'Hi'}]
    """
    found = as_list(value, name, notes)
    if len(found) > 1 and all(isinstance(one, str) for one in found):
        found = _turns_of(found, notes)
    elif found and all(isinstance(one, Mapping) and {*one} == _EXCHANGE for one in found):
        roles = {"user": "input", "assistant": "output"}
        found = [
            {"role": role, "content": one[key]} for one in found for role, key in roles.items()
        ]
    return [_message(one, n) for n, one in enumerate(found, start=1)]


def _turns_of(texts: Sequence[str], notes: Counter[str] | None) -> list[Any]:
    """Messages that are texts: JSON of a message, or what user and assistant say in turns."""
    with contextlib.suppress(ValueError, RecursionError):
        found = [json.loads(text) for text in texts]
        if all(isinstance(one, dict) for one in found):
            return found
    if notes is not None:
        notes[TURNS] += 1
    return [
        {"role": ("user", "assistant")[place % 2], "content": text}
        for place, text in enumerate(texts)
    ]


def with_tools(messages: Messages, value: Any, name: str) -> Messages:
    """Returns a conversation whose first message has the tools that a chat template may show.

    Args:
        messages: The conversation.
        value: The tools: a list, or JSON of it.
        name: What holds them: what is not called `tools` is taken for OpenAI's `functions`.

    Raises:
        BadRow: If they are no list of objects.
    """
    tools = value
    if isinstance(value, str):
        with contextlib.suppress(ValueError, RecursionError):
            tools = json.loads(value) if value.strip() else []
    if isinstance(tools, Mapping):
        tools = [tools]
    if not isinstance(tools, (list, tuple)) or not all(isinstance(t, Mapping) for t in tools):
        raise BadRow(f"{name!r} is {json_kind(value)}, where a list of objects is expected")
    if not tools or not messages:
        return messages
    if name.lower() != "tools":
        tools = [{"type": "function", "function": tool} for tool in tools]
    return [{**messages[0], "tools": list(tools)}, *messages[1:]]


def check_messages(
    messages: Messages,
    *,
    answered: bool,
    system: str | None = None,
    notes: Counter[str] | None = None,
) -> Messages:
    """Returns the messages of a conversation as a chat template takes them.

    Empty system messages are left out, and messages of one role that follow each other are joined
    by an empty line. Then a conversation is a system message or none, and what user and assistant
    say in turns.

    Args:
        messages: What `parse_messages` gave.
        answered: Whether the assistant ends it, as in training; else the user does, whom the model
            is to answer.
        system: The system message of a conversation that has none. Defaults to `None`.
        notes: Counts what was changed. Defaults to `None`.

    Raises:
        BadRow: If it is not such a conversation.

    Example:
        >>> hello = [{"role": "user", "content": "Hello"}, {"role": "user", "content": "you"}]
        >>> check_messages(hello, answered=False)
        [{'role': 'user', 'content': 'Hello\\n\\nyou'}]
    """
    if not messages:
        raise BadRow("the conversation is empty")
    notes = Counter() if notes is None else notes
    found: Messages = []
    numbers: list[int] = []
    joined = False
    for number, message in enumerate(messages, start=1):
        role, content = message["role"], without_mark(message["content"])
        if content != message["content"]:
            notes[MARKED] += 1
            message = {**message, "content": content}
        if not content.strip():
            if role == "system":
                notes[EMPTY_SYSTEM] += 1
                continue
            # A model may have written nothing: the conversation can be continued all the same.
            if answered or role == "user":
                raise BadRow(f"message {number} ({role}) is empty")
        if problem := surrogate_problem(f"message {number}", content):
            raise BadRow(problem)
        if found and _joins(found[-1], message):
            joined = True
            found[-1] = {**found[-1], "content": found[-1]["content"] + _JOINT + content}
        else:
            found.append(message)
            numbers.append(number)
    if joined:
        notes[JOINED] += 1
    unweighted = [one for one in found if one["role"] == "assistant" and not one.get("weight", 1)]
    if answered and unweighted:
        if len(unweighted) == sum(message["role"] == "assistant" for message in found):
            raise BadRow("all assistant messages have a weight of 0")
        notes[UNWEIGHTED] += len(unweighted)
    own = found[:1] if found and found[0]["role"] == "system" else []
    _check_turns(found[len(own) :], numbers[len(own) :], answered)
    system = without_mark(system or "")
    if system.strip() and not own:
        found.insert(0, {"role": "system", "content": system})
    return found


def to_answer(value: Any, name: str = "messages") -> Messages:
    """Reads a conversation that a model is to answer.

    Args:
        value: The list of messages.
        name: What errors call it. Defaults to `"messages"`.

    Raises:
        BadRow: If it is none, or does not end with the user.
    """
    return check_messages(parse_messages(value, name), answered=False)


def _check_turns(turns: Messages, numbers: Sequence[int], answered: bool) -> None:
    if not turns:
        raise BadRow(f"the {'assistant' if answered else 'user'} has no message")
    last = turns[-1]["role"]
    if not answered and last != "user":
        raise BadRow("the conversation must end with a user message")
    for place, (number, message) in enumerate(zip(numbers, turns, strict=True)):
        expected = ("user", "assistant")[place % 2]
        if message["role"] != expected:
            raise BadRow(
                f"message {number} is the {message['role']}'s, where the {expected}'s is expected"
            )
    if answered and last != "assistant":
        raise BadRow("the conversation ends with a user message, so there is no answer to train on")


def _joins(first: Mapping[str, Any], second: Mapping[str, Any]) -> bool:
    # A part that counts in the loss and one that does not stay apart.
    return first["role"] == second["role"] and first.get("weight", 1) == second.get("weight", 1)


def _message(one: Any, number: int) -> dict[str, Any]:
    if not isinstance(one, Mapping):
        raise BadRow(f"message {number} is {json_kind(one)}, where an object is expected")
    # Parquet writes the keys that other rows have.
    fields = {_field(key): part for key, part in one.items() if part is not None}
    if "from" in fields and "role" not in fields:
        return _of_sharegpt(fields, number)
    given = fields.get("role")
    if isinstance(given, str) and given.lower() in _TOOLS:
        raise BadRow(f"message {number} is from a {given.lower()}, which is not supported")
    role = role_of(given)
    if role is None:
        raise BadRow(f"the role of message {number} is {given!r}; known are {', '.join(ROLES)}")
    for call in _CALLS:
        # Servers write an empty list where none is called.
        if fields.pop(call, None):
            raise BadRow(f"message {number} calls tools, which is not supported")
    if "weight" in fields:
        _weight(fields["weight"], number)
    return {**fields, "role": role, "content": _content(fields.get("content"), number)}


def _of_sharegpt(fields: Mapping[str, Any], number: int) -> dict[str, Any]:
    said_by = fields["from"]
    role = _SHAREGPT_ROLES.get(said_by.lower()) if isinstance(said_by, str) else None
    if role is None:
        raise BadRow(
            f"message {number} is from {said_by!r}, where one of {', '.join(_SHAREGPT_ROLES)} is "
            "expected"
        )
    content = fields.get("value", fields.get("content"))
    if not isinstance(content, str):
        raise BadRow(f"the value of message {number} is {json_kind(content)}, not a string")
    weight = {"weight": _weight(fields["weight"], number)} if "weight" in fields else {}
    return {"role": role, "content": content, **weight}


def _weight(value: Any, number: int) -> float:
    if value not in (0, 1):
        raise BadRow(f"the weight of message {number} is {value!r}, not 0 or 1")
    return value


def _field(key: Any) -> str:
    # Python, unlike JSON, writes numbers as keys.
    key = str(key)
    return key.lower() if key.lower() in _FIELDS else key


def _content(value: Any, number: int) -> str:
    if isinstance(value, Sequence) and not isinstance(value, str):
        parts = [text_of_part(part) for part in value]
        if all(part is not None for part in parts):
            return "".join(parts)
        raise BadRow(f"message {number} contains more than text")
    if not isinstance(value, str):
        raise BadRow(f"the content of message {number} is {json_kind(value)}, not a string")
    return value


def as_list(value: Any, name: str, notes: Counter[str] | None = None) -> Sequence[Any]:
    """Returns a list, also if it is written in a string, as csv files have it.

    Args:
        value: The list, or JSON or Python of it.
        name: What errors call it.
        notes: Counts lists that were strings. Defaults to `None`.

    Raises:
        BadRow: If it is none.
    """
    found = read_list(value) if isinstance(value, str) else value
    if not isinstance(found, (list, tuple)):
        raise BadRow(f"{name!r} is {json_kind(value)}, where a list of messages is expected")
    if found is not value and notes is not None:
        notes[FROM_STRING] += 1
    return found


def _read_array(text: str) -> Any:
    """Reads objects without commas between them, as NumPy shows them and pandas writes them in csv.

    A line does not end within what Python shows as a string.
    """
    return ast.literal_eval(re.sub(r"\}\n\s*\{", "}, {", text))


def read_list(text: str) -> list[Any] | None:
    """Returns the list that a string holds as JSON, or as Python shows it; `None` for no list."""
    if not text.lstrip().startswith("["):
        return None
    for read in (json.loads, ast.literal_eval, _read_array):
        try:
            with warnings.catch_warnings():
                # Of escapes that a text is free to hold.
                warnings.simplefilter("ignore")
                found = read(text.strip())
        except (ValueError, SyntaxError, RecursionError, MemoryError):
            continue
        return found if isinstance(found, list) else None
    return None
