"""Conversations as chat sites export them: ChatGPT's tree of messages, Claude's list."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from kerasllm.data.chat.messages import BadRow, Messages

# What a model wrote for itself, and what a site knows of its user.
_UNSEEN = ("thoughts", "reasoning_recap", "user_editable_context", "model_editable_context")
_SENDERS = {"human": "user", "assistant": "assistant"}


def messages_of_tree(mapping: Any, last: Any) -> Messages:
    """Reads a conversation of ChatGPT: of answers that were written again, the one that is shown.

    Args:
        mapping: The messages by their ids, each with the id of the one before it.
        last: The id of the last message.

    Raises:
        BadRow: If it is not such a tree, or contains more than text.
    """
    if not isinstance(mapping, Mapping):
        raise BadRow("'mapping' is not an object of messages, as ChatGPT exports them")
    path: list[Mapping] = []
    while last is not None:
        node = mapping.get(last)
        if not isinstance(node, Mapping) or len(path) > len(mapping):
            raise BadRow(f"the message {last!r} is missing in 'mapping'")
        path.append(node.get("message") or {})
        last = node.get("parent")
    found = (_of_tree(message) for message in reversed(path) if message)
    return [message for message in found if message is not None]


def _of_tree(message: Mapping[str, Any]) -> dict[str, Any] | None:
    role = (message.get("author") or {}).get("role")
    content = message.get("content") or {}
    kind, hidden = content.get("content_type"), message.get("metadata") or {}
    if kind in _UNSEEN or hidden.get("is_visually_hidden_from_conversation"):
        return None
    parts = content.get("parts")
    is_text = kind == "text" and isinstance(parts, list)
    if not is_text or not all(isinstance(part, str) for part in parts):
        raise BadRow(f"a message holds {kind}, where text is expected")
    text = "".join(parts)
    if role == "tool" or message.get("recipient", "all") != "all":
        raise BadRow("a message is to or from a tool, which is not supported")
    return {"role": role, "content": text} if text.strip() else None


def messages_of_list(messages: Any) -> Messages:
    """Reads a conversation of Claude.

    Args:
        messages: The messages: `sender` and `text`.

    Raises:
        BadRow: If it is not such a list.
    """
    if not isinstance(messages, Sequence) or isinstance(messages, str):
        raise BadRow("'chat_messages' is not a list of messages, as Claude exports them")
    found = []
    for number, message in enumerate(messages, start=1):
        role = _SENDERS.get(message.get("sender")) if isinstance(message, Mapping) else None
        text = message.get("text") if role else None
        if not isinstance(text, str):
            raise BadRow(f"message {number} has no text from a human or the assistant")
        if message.get("files") or message.get("attachments"):
            raise BadRow(f"message {number} contains more than text")
        found.append({"role": role, "content": text})
    return found
