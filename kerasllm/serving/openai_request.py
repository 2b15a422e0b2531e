"""A request of OpenAI's API: its settings, and unsupported ones."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from kerasllm.generation.settings import GenerationSettings
from kerasllm.serving.limits import Limits
from kerasllm.serving.openai_schema import COMPLETION_TOKENS, Body, ChatBody, CompletionBody
from kerasllm.serving.validation import validated

# 0 leaves the most likely token, as does any number this small.
_LEAST_TOP_P = 1e-6
_MOST_PROMPTS = Limits.instances

Content = list[dict[str, str]] | str | list[int]
Schema = TypeVar("Schema", bound=Body)


@dataclass(frozen=True)
class WriteRequest:
    """What is to be written.

    Attributes:
        contents: What is answered, each by a text of its own: the messages of a conversation, or
            prompts, which are texts or token ids.
        settings: How it is answered.
        stream: Whether in chunks.
        stream_usage: Whether the numbers of tokens come after the pieces.
    """

    contents: list[Content]
    settings: GenerationSettings
    stream: bool
    stream_usage: bool


def parse_chat(body: Mapping[str, Any], model: str, most_tokens: int) -> WriteRequest:
    """Reads a request for the next message of a conversation.

    Args:
        body: The JSON object.
        model: The name of the model that is here.
        most_tokens: The maximum number of tokens that a request may want; the default of a chat.

    Raises:
        Refusal: If a field is missing, of a wrong type or out of range, or wants what is not done.
    """
    wanted = _read(ChatBody, body, model, most_tokens)
    messages = [{"role": one.role, "content": one.content} for one in wanted.messages]
    tokens = wanted.max_tokens or wanted.max_completion_tokens or most_tokens
    return _request(wanted, [messages], tokens)


def parse_completion(
    body: Mapping[str, Any], model: str, most_tokens: int, most_prompts: int = _MOST_PROMPTS
) -> WriteRequest:
    """Reads a request for what follows texts; see `parse_chat`.

    Args:
        body: The JSON object.
        model: The name of the model that is here.
        most_tokens: The maximum number of tokens that a request may want.
        most_prompts: The maximum number of prompts of a request. Defaults to `1024`.

    Raises:
        Refusal: As `parse_chat`.
    """
    wanted = _read(CompletionBody, body, model, most_tokens, most_prompts)
    tokens = wanted.max_tokens or min(COMPLETION_TOKENS, most_tokens)
    return _request(wanted, wanted.prompt, tokens)


def _read(
    schema: type[Schema],
    body: Mapping[str, Any],
    model: str,
    most_tokens: int,
    most_prompts: int = _MOST_PROMPTS,
) -> Schema:
    given = {name: value for name, value in body.items() if value is not None}
    context = {"model": model, "tokens": most_tokens, "prompts": most_prompts}
    return validated(schema, given, context=context)


def _request(wanted: Body, contents: list[Content], tokens: int) -> WriteRequest:
    settings = GenerationSettings(
        max_new_tokens=tokens,
        temperature=float(wanted.temperature),
        top_k=wanted.top_k if wanted.top_k > 0 else None,
        top_p=float(wanted.top_p) or _LEAST_TOP_P,
        min_p=float(wanted.min_p),
        repetition_penalty=float(wanted.repetition_penalty),
        seed=secrets.randbelow(2**31) if wanted.seed is None else wanted.seed % 2**64,
        stop=wanted.stop,
    )
    options = wanted.stream_options
    with_usage = bool(options and options.include_usage)
    return WriteRequest(contents, settings, wanted.stream, with_usage)
