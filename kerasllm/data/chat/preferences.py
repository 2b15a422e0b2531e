"""Preferences: two conversations that differ in how they end."""

from __future__ import annotations

import dataclasses
import re

from kerasllm.data.chat.messages import BadRow, Messages

_SPEAKERS = {"Human": "user", "Assistant": "assistant"}
_TURN = re.compile(r"\n\n(Human|Assistant):")


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


def compare(chosen: Messages, rejected: Messages) -> Preference:
    """Returns the preference of a conversation over another.

    Args:
        chosen: The better one.
        rejected: The other one.

    Raises:
        BadRow: If they are the same, or do not answer the same prompt.
    """
    if chosen == rejected:
        raise BadRow("chosen and rejected are the same")
    pairs = list(zip(chosen[:-1], rejected[:-1]))
    shared = next((i for i, (one, other) in enumerate(pairs) if one != other), len(pairs))
    if chosen[shared]["role"] != "assistant":
        raise BadRow("chosen and rejected do not answer the same prompt")
    return Preference(chosen, rejected, shared)


def with_prompt(prompt: Messages, said: Messages, name: str) -> Messages:
    """Returns a whole conversation; rows of some data sets repeat the prompt in both answers.

    Args:
        prompt: The prompt, or nothing where no column holds it.
        said: The answer, or the conversation.
        name: What errors call it.

    Raises:
        BadRow: If there is no prompt, it ends on the assistant, or the conversation begins with
            another one.
    """
    if said and said[0]["role"] != "assistant":
        if not _begins(said, prompt):
            raise BadRow(f"{name!r} starts with a different prompt from 'prompt'")
        return said if system_of(said) else [*system_of(prompt), *said]
    if not prompt:
        raise BadRow(f"no prompt: there is no such column, and {name!r} does not start with one")
    if prompt[-1]["role"] == "assistant":
        raise BadRow("the prompt ends with an assistant message, where a user message is expected")
    return [dict(message) for message in prompt] + said


def system_of(messages: Messages) -> Messages:
    """Returns the system message that a conversation begins with, or nothing."""
    return [one for one in messages[:1] if one["role"] == "system" and one["content"].strip()]


def read_transcript(text: str) -> Messages | None:
    """Reads turns that are written in one text, as in Anthropic's HH-RLHF.

    Args:
        text: The text; what it ends with may be `Assistant:` alone, which is left out.

    Returns:
        The messages, or `None` if it does not begin with `Human:` or has no `Assistant:`.

    Example:
        >>> read_transcript("\\n\\nHuman: Hi\\n\\nAssistant: Hello")
        [{'role': 'user', 'content': 'Hi'}, {'role': 'assistant', 'content': 'Hello'}]
    """
    first, *turns = _TURN.split("\n\n" + text.strip())
    if first or turns[:1] != ["Human"] or "Assistant" not in turns[::2]:
        return None
    if not turns[-1].strip() and turns[-2] == "Assistant":
        turns = turns[:-2]
    return [
        {"role": _SPEAKERS[speaker], "content": said.strip()}
        for speaker, said in zip(turns[::2], turns[1::2], strict=True)
    ]


def _begins(messages: Messages, prompt: Messages) -> bool:
    """Whether messages begin with a prompt, but for what the system says and for blanks."""

    def turns(of: Messages) -> list[tuple[str, str]]:
        return [(one["role"], one["content"].strip()) for one in of if one["role"] != "system"]

    systems = {one["content"].strip() for each in (messages, prompt) for one in system_of(each)}
    wanted = turns(prompt)
    return len(systems) < 2 and turns(messages)[: len(wanted)] == wanted
