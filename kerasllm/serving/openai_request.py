"""A request in the shape of OpenAI's API: what it wants, and what cannot be done."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    Field,
    PlainValidator,
    ValidationInfo,
    create_model,
    field_validator,
    model_validator,
)

from kerasllm.generation.settings import GenerationSettings
from kerasllm.serving.requests import brief
from kerasllm.serving.validation import refused, validated
from kerasllm.tasks.task import valid_unicode

# What changes nothing of the answer.
_IGNORED = frozenset(
    (
        "metadata",
        "parallel_tool_calls",
        "prompt_cache_key",
        "safety_identifier",
        "service_tier",
        "store",
        "user",
    )
)
# What is not done, with the values that do not ask for it.
_NOT_DONE: dict[str, tuple] = {
    "audio": (),
    "best_of": (1,),
    "echo": (False,),
    "frequency_penalty": (0, 0.0),
    "function_call": ("none",),
    "functions": ([],),
    "logit_bias": ({},),
    "logprobs": (False,),
    "modalities": (["text"],),
    "n": (1,),
    "prediction": (),
    "presence_penalty": (0, 0.0),
    "reasoning_effort": (),
    "response_format": ({"type": "text"},),
    "suffix": ("",),
    "tool_choice": ("none", "auto"),
    "tools": ([],),
    "top_logprobs": (),
    "verbosity": (),
    "web_search_options": (),
}
# The specification's, where `max_tokens` is left out of a completion.
_COMPLETION_TOKENS = 16
_MOST_STOPS = 4
# 0 leaves the most likely token, as does any number this small.
_LEAST_TOP_P = 1e-6


@dataclass(frozen=True)
class WriteRequest:
    """What is to be written.

    Attributes:
        content: The messages of a conversation, or a prompt.
        settings: How it is answered.
        stream: Whether in pieces.
        stream_usage: Whether the numbers of tokens come after the pieces.
    """

    content: list[dict[str, str]] | str
    settings: GenerationSettings
    stream: bool
    stream_usage: bool


def parse_chat(body: Mapping[str, Any], model: str, most_tokens: int) -> WriteRequest:
    """Reads a request for the next message of a conversation.

    Args:
        body: The JSON object.
        model: The name of the model that is here.
        most_tokens: The most tokens that a request may want; the default of a chat.

    Raises:
        Refusal: If a field is missing, of a wrong type or out of range, or wants what is not done.
    """
    wanted = _read(ChatBody, body, model, most_tokens)
    messages = [{"role": one.role, "content": one.content} for one in wanted.messages]
    tokens = wanted.max_tokens or wanted.max_completion_tokens or most_tokens
    return _request(wanted, messages, tokens)


def parse_completion(body: Mapping[str, Any], model: str, most_tokens: int) -> WriteRequest:
    """Reads a request for what follows a text; see `parse_chat`."""
    wanted = _read(CompletionBody, body, model, most_tokens)
    tokens = wanted.max_tokens or min(_COMPLETION_TOKENS, most_tokens)
    return _request(wanted, wanted.prompt, tokens)


def _read(schema: type[Body], body: Mapping[str, Any], model: str, most_tokens: int):
    given = {name: value for name, value in body.items() if value is not None}
    return validated(schema, given, context={"model": model, "tokens": most_tokens})


def _request(wanted: Body, content: list[dict[str, str]] | str, tokens: int) -> WriteRequest:
    settings = GenerationSettings(
        max_new_tokens=tokens,
        temperature=float(wanted.temperature),
        top_p=float(wanted.top_p) or _LEAST_TOP_P,
        seed=secrets.randbelow(2**31) if wanted.seed is None else wanted.seed % 2**64,
        stop=wanted.stop,
    )
    options = wanted.stream_options
    with_usage = bool(options and options.include_usage)
    return WriteRequest(content, settings, wanted.stream, with_usage)


def _only(harmless: tuple) -> Callable[[Any], Any]:
    """Returns a validator that refuses values of a field which want what is not done."""

    def check(value: Any) -> Any:
        if not any(type(value) is type(each) and value == each for each in harmless):
            what = f"is not supported by this server. Received: {brief(value)}"
            raise refused(what, code="unsupported_parameter")
        return value

    return check


def _is_here(named: str, info: ValidationInfo) -> str:
    here = info.context["model"]
    if named != here:
        what = f"{brief(named)} does not exist; this server has {here!r}"
        raise refused(what, status=404, code="model_not_found")
    return named


def _within_limit(tokens: Any, info: ValidationInfo) -> int:
    most = info.context["tokens"]
    if type(tokens) is not int or not 1 <= tokens <= most:
        raise refused(f"must be a whole number from 1 to {most}. Received: {brief(tokens)}")
    return tokens


def _stops(value: Any) -> tuple[str, ...]:
    stops = [value] if isinstance(value, str) else value
    fine = isinstance(stops, list) and len(stops) <= _MOST_STOPS
    if not fine or not all(isinstance(each, str) and each for each in stops):
        expected = f"a text or up to {_MOST_STOPS} texts, none empty"
        raise refused(f"must be {expected}. Received: {brief(value)}")
    return tuple(map(valid_unicode, stops))


def _unlisted(value: Any) -> Any:
    return value[0] if isinstance(value, list) and len(value) == 1 else value


def _modern_role(role: Any) -> Any:
    # OpenAI's later name for what instructs the model.
    return "system" if role == "developer" else role


def _parts(content: Any) -> Any:
    return [{"type": "text", "text": content}] if isinstance(content, str) else content


def _text_of_part(part: Any) -> str:
    fields = part if isinstance(part, dict) else {}
    if fields.get("type") != "text" or not isinstance(fields.get("text"), str):
        raise refused(f"must be a text part. Received: {brief(part)}")
    return fields["text"]


_TokenLimit = Annotated[Any, PlainValidator(_within_limit)]
_Unicode = AfterValidator(valid_unicode)
_Content = Annotated[
    list[Annotated[Any, PlainValidator(_text_of_part)]],
    BeforeValidator(_parts),
    AfterValidator("".join),
    _Unicode,
    "a text",
]


class Message(BaseModel, extra="allow"):
    """A message of a conversation."""

    role: Annotated[
        Literal["system", "user", "assistant"],
        BeforeValidator(_modern_role),
        "system, user or assistant",
    ]
    content: _Content
    name: Any = None

    @model_validator(mode="after")
    def _has_nothing_else(self) -> Message:
        unknown = [name for name, value in self.model_extra.items() if value]
        if unknown:
            what = f"has {unknown[0][:80]!r}, which is not supported by this server"
            raise refused(what, code="unsupported_parameter")
        return self


class StreamOptions(BaseModel):
    """What a stream holds besides the text."""

    include_usage: Annotated[bool | None, "true or false"] = None


# Fields that are not done come first: what a request wants with them is refused before the rest.
_Unused = create_model(
    "_Unused",
    **{
        name: (Annotated[Any, PlainValidator(_only(harmless))], None)
        for name, harmless in _NOT_DONE.items()
    },
    **dict.fromkeys(sorted(_IGNORED), (Any, None)),
)


class Body(_Unused, extra="forbid"):
    """The fields that both endpoints have. A field that is null is left out before."""

    model: Annotated[str, AfterValidator(_is_here), "a text"] = None
    seed: Annotated[
        int, Field(ge=-(2**63), lt=2**63), f"a whole number from {-(2**63)} to {2**63 - 1}"
    ] = None
    stop: Annotated[Any, PlainValidator(_stops)] = ()
    stream: Annotated[bool, "true or false"] = False
    stream_options: Annotated[StreamOptions, "an object"] = None
    temperature: Annotated[float, Field(ge=0, le=2), "a number from 0 to 2"] = 1
    top_p: Annotated[float, Field(ge=0, le=1), "a number from 0 to 1"] = 1

    @field_validator("stream_options")
    @classmethod
    def _are_of_a_stream(cls, options: StreamOptions, info: ValidationInfo) -> StreamOptions:
        if not info.data.get("stream"):
            raise refused("goes with 'stream' only")
        return options


class ChatBody(Body):
    """The body of a request for the next message of a conversation."""

    messages: Annotated[
        list[Annotated[Message, "an object"]],
        Field(min_length=1),
        "a list of messages, at least one",
    ]
    max_completion_tokens: _TokenLimit = None
    max_tokens: _TokenLimit = None

    @field_validator("messages")
    @classmethod
    def _last_one_is_answered(cls, messages: list[Message]) -> list[Message]:
        if messages[-1].role == "assistant":
            raise refused("must not end with the assistant's: the last message is answered")
        return messages

    @field_validator("max_tokens")
    @classmethod
    def _is_given_once(cls, tokens: int, info: ValidationInfo) -> int:
        if info.data.get("max_completion_tokens") is not None:
            raise refused("and 'max_completion_tokens' are the same: give one of them")
        return tokens


class CompletionBody(Body):
    """The body of a request for what follows a text."""

    prompt: Annotated[
        str,
        Field(min_length=1),
        BeforeValidator(_unlisted),
        _Unicode,
        "one text that is not empty",
    ]
    max_tokens: _TokenLimit = None
