"""The bodies of requests in the shape of OpenAI's API, as pydantic models.

They validate requests, and the description of the API is made of them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    Field,
    PlainValidator,
    ValidationInfo,
    WithJsonSchema,
    create_model,
    field_validator,
    model_validator,
)

from kerasllm.data.chat.messages import BadRow, check_messages, role_of, text_of_part
from kerasllm.serving.requests import brief
from kerasllm.serving.validation import refused
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
COMPLETION_TOKENS = 16
_MOST_STOPS = 4
_PROMPT = "a text, token ids, or a list of texts or of lists of token ids, none empty"


def _only(harmless: tuple) -> Callable[[Any], Any]:
    """Returns a validator that refuses values of a field which want what is not done."""

    def check(value: Any) -> Any:
        if not any(type(value) is type(each) and value == each for each in harmless):
            what = f"is not supported by this server. Received: {brief(value)}"
            raise refused(what, code="unsupported_parameter")
        return value

    return check


def _each_once(*values: Any) -> list:
    return [value for place, value in enumerate(values) if value not in values[:place]]


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


def _prompts(value: Any, info: ValidationInfo) -> list[str | list[int]]:
    is_one = isinstance(value, str) or _are_tokens(value)
    prompts = [value] if is_one else value
    if not isinstance(prompts, list) or not prompts:
        raise refused(f"must be {_PROMPT}. Received: {brief(value)}")
    if len(prompts) > (most := info.context["prompts"]):
        what = f"holds {len(prompts):,} prompts, but this server takes at most {most:,} per request"
        raise refused(what, status=413)
    for number, prompt in enumerate(prompts):
        if not _are_tokens(prompt) and not (isinstance(prompt, str) and prompt):
            which = "" if is_one else f", and number {number} is not"
            raise refused(f"must be {_PROMPT}{which}. Received: {brief(prompt)}")
        if isinstance(prompt, str):
            valid_unicode(prompt)
    return prompts


def _are_tokens(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(type(each) is int for each in value)


def _known_role(role: Any) -> Any:
    return role_of(role) or role


def _parts(content: Any) -> Any:
    return [{"type": "text", "text": content}] if isinstance(content, str) else content


def _text_of_part(part: Any) -> str:
    text = text_of_part(part)
    if text is None:
        raise refused(f"must be a text part. Received: {brief(part)}")
    return text


_TEXT = {"type": "string", "minLength": 1}
_PART = {
    "type": "object",
    "properties": {"type": {"const": "text"}, "text": {"type": "string"}},
    "required": ["type", "text"],
}
_TOKENS = {"type": "array", "items": {"type": "integer", "minimum": 0}, "minItems": 1}

_TokenLimit = Annotated[
    Any, PlainValidator(_within_limit), WithJsonSchema({"type": "integer", "minimum": 1})
]
_Unicode = AfterValidator(valid_unicode)
_Content = Annotated[
    list[Annotated[Any, PlainValidator(_text_of_part)]],
    BeforeValidator(_parts),
    AfterValidator("".join),
    _Unicode,
    WithJsonSchema({"anyOf": [{"type": "string"}, {"type": "array", "items": _PART}]}),
    "a text",
]


def _tidy(schema: dict) -> None:
    """Takes the default of fields that are left out from a JSON schema: null is none."""
    for field in schema["properties"].values():
        if field.get("default", ...) is None:
            del field["default"]


class Message(BaseModel, extra="allow", json_schema_extra=_tidy):
    """A message of a conversation."""

    role: Annotated[
        Literal["system", "user", "assistant"],
        BeforeValidator(_known_role),
        WithJsonSchema({"enum": ["system", "developer", "user", "assistant"]}),
        "system, user or assistant",
    ]
    content: Annotated[_Content, Field(description="a text, or parts of it")]
    name: Annotated[Any, Field(description="ignored")] = None

    @model_validator(mode="after")
    def _has_nothing_else(self) -> Message:
        unknown = [name for name, value in self.model_extra.items() if value]
        if unknown:
            what = f"has {unknown[0][:80]!r}, which is not supported by this server"
            raise refused(what, code="unsupported_parameter")
        return self


class StreamOptions(BaseModel, json_schema_extra=_tidy):
    """What a stream holds besides the text."""

    include_usage: Annotated[
        bool | None,
        Field(description="whether the last chunk contains the token counts"),
        "true or false",
    ] = None


def _not_done(harmless: tuple) -> Any:
    schema = {"enum": _each_once(*harmless, None), "description": "not supported"}
    return Annotated[Any, PlainValidator(_only(harmless)), WithJsonSchema(schema)]


# Fields that are not done come first: what a request wants with them is refused before the rest.
_Unused = create_model(
    "_Unused",
    **{name: (_not_done(harmless), None) for name, harmless in _NOT_DONE.items()},
    **dict.fromkeys(sorted(_IGNORED), (Annotated[Any, Field(description="ignored")], None)),
)


class Body(_Unused, extra="forbid", json_schema_extra=_tidy):
    """The fields that both endpoints have. A field that is null is left out before."""

    model: Annotated[
        str, AfterValidator(_is_here), Field(description="name of the model"), "a text"
    ] = None
    seed: Annotated[
        int,
        Field(ge=-(2**63), lt=2**63, description="seed of the sampling; random by default"),
        f"a whole number from {-(2**63)} to {2**63 - 1}",
    ] = None
    stop: Annotated[
        Any,
        PlainValidator(_stops),
        WithJsonSchema(
            {"anyOf": [_TEXT, {"type": "array", "items": _TEXT, "maxItems": _MOST_STOPS}]}
        ),
        Field(description="stop sequences"),
    ] = ()
    stream: Annotated[bool, Field(description="stream the answer"), "true or false"] = False
    stream_options: Annotated[StreamOptions, Field(description="requires stream"), "an object"] = (
        None
    )
    temperature: Annotated[
        float,
        Field(ge=0, le=2, description="sampling temperature; 0: greedy"),
        "a number from 0 to 2",
    ] = 1
    top_p: Annotated[
        float,
        Field(
            ge=0,
            le=1,
            description="sample from the most likely tokens up to this total probability",
        ),
        "a number from 0 to 1",
    ] = 1
    # Not OpenAI's: what other servers take, and clients send in `extra_body`.
    top_k: Annotated[
        int,
        Field(ge=-1, description="sample from this many most likely tokens; 0 or -1: all"),
        "a whole number, -1 or more",
    ] = 0
    min_p: Annotated[
        float,
        Field(
            ge=0,
            le=1,
            description="sample from tokens with this probability, relative to the most likely one",
        ),
        "a number from 0 to 1",
    ] = 0
    repetition_penalty: Annotated[
        float,
        Field(
            gt=0,
            allow_inf_nan=False,
            description="above 1, tokens of the prompt and the answer are less likely to be "
            "repeated",
        ),
        "a number above 0",
    ] = 1

    @field_validator("stream_options")
    @classmethod
    def _are_of_a_stream(cls, options: StreamOptions, info: ValidationInfo) -> StreamOptions:
        if not info.data.get("stream"):
            raise refused("requires 'stream'")
        return options


class ChatBody(Body):
    """The body of a request for the next message of a conversation."""

    messages: Annotated[
        list[Annotated[Message, "an object"]],
        Field(min_length=1, description="the conversation; the model answers the last message"),
        "a list of messages, at least one",
    ]
    max_completion_tokens: Annotated[
        _TokenLimit, Field(description="maximum tokens of an answer")
    ] = None
    max_tokens: Annotated[_TokenLimit, Field(description="deprecated name of the same")] = None

    @field_validator("messages")
    @classmethod
    def _are_a_conversation(cls, messages: list[Message]) -> list[Message]:
        given = [{"role": each.role, "content": each.content} for each in messages]
        try:
            read = check_messages(given, answered=False)
        except BadRow as error:
            raise refused(f"cannot be answered: {error}") from None
        return [Message(**each) for each in read]

    @field_validator("max_tokens")
    @classmethod
    def _is_given_once(cls, tokens: int, info: ValidationInfo) -> int:
        if info.data.get("max_completion_tokens") is not None:
            raise refused("and 'max_completion_tokens' are the same: give one of them")
        return tokens


class CompletionBody(Body):
    """The body of a request for what follows a text."""

    prompt: Annotated[
        Any,
        PlainValidator(_prompts),
        WithJsonSchema(
            {
                "anyOf": [
                    _TEXT,
                    {"type": "array", "items": _TEXT, "minItems": 1},
                    _TOKENS,
                    {"type": "array", "items": _TOKENS, "minItems": 1},
                ]
            }
        ),
        Field(description=_PROMPT),
        _PROMPT,
    ]
    max_tokens: Annotated[
        _TokenLimit,
        Field(description=f"maximum tokens of an answer; {COMPLETION_TOKENS} where left out"),
    ] = None
