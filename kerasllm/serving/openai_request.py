"""A request in the shape of OpenAI's API: what is asked for, and what cannot be done."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from kerasllm.generation.settings import GenerationSettings
from kerasllm.serving.refusal import Refusal
from kerasllm.serving.requests import brief, check_text

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
_DONE = frozenset(
    (
        "max_tokens",
        "model",
        "seed",
        "stop",
        "stream",
        "stream_options",
        "temperature",
        "top_p",
    )
)
# The specification's, where `max_tokens` is left out of a completion.
_COMPLETION_TOKENS = 16
_MOST_STOPS = 4
# 0 leaves the likeliest token, as does any number this small.
_LEAST_TOP_P = 1e-6


@dataclass(frozen=True)
class WriteRequest:
    """What is asked for.

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
        most_tokens: The most tokens that may be asked for; as many are written where nothing is.

    Raises:
        Refusal: If a field is missing, of a wrong type or out of range, or asks for what is not
            done.
    """
    _check_fields(body, model, {"messages", "max_completion_tokens"})
    if body.get("max_tokens") is not None and body.get("max_completion_tokens") is not None:
        what = "Give one of 'max_tokens' and 'max_completion_tokens', not both"
        raise Refusal(400, what, param="max_tokens")
    named = "max_tokens" if body.get("max_tokens") is not None else "max_completion_tokens"
    tokens = _tokens(body, named, most_tokens, most_tokens)
    messages = body.get("messages")
    if not isinstance(messages, list) or not messages:
        raise _wrong("messages", "a list of messages, at least one", messages)
    checked = [_message(each, f"messages[{i}]") for i, each in enumerate(messages)]
    if checked[-1]["role"] == "assistant":
        what = "The last message must not be the assistant's: it is the one that is answered"
        raise Refusal(400, what, param="messages")
    return _request(body, checked, tokens)


def parse_completion(body: Mapping[str, Any], model: str, most_tokens: int) -> WriteRequest:
    """Reads a request for what follows a text; see `parse_chat`."""
    _check_fields(body, model, {"prompt"})
    prompt = body.get("prompt")
    if isinstance(prompt, list) and len(prompt) == 1:
        prompt = prompt[0]
    if not isinstance(prompt, str) or not prompt:
        raise _wrong("prompt", "one text that is not empty", prompt)
    check_text(prompt, "'prompt'", "prompt")
    default = min(_COMPLETION_TOKENS, most_tokens)
    return _request(body, prompt, _tokens(body, "max_tokens", default, most_tokens))


def _request(body: Mapping[str, Any], content, tokens: int) -> WriteRequest:
    seed = _number(body, "seed", None, -(2**63), 2**63 - 1, whole=True)
    settings = GenerationSettings(
        max_new_tokens=tokens,
        temperature=float(_number(body, "temperature", 1, 0, 2)),
        top_p=float(_number(body, "top_p", 1, 0, 1)) or _LEAST_TOP_P,
        seed=secrets.randbelow(2**31) if seed is None else seed % 2**64,
        stop=_stops(body.get("stop")),
    )
    stream = _flag(body, "stream")
    options = body.get("stream_options")
    if options is None:
        return WriteRequest(content, settings, stream, stream_usage=False)
    if not isinstance(options, dict):
        raise _wrong("stream_options", "an object", options)
    if not stream:
        raise Refusal(400, "'stream_options' goes with 'stream' only", param="stream_options")
    return WriteRequest(content, settings, stream, _flag(options, "include_usage"))


def _check_fields(body: Mapping[str, Any], model: str, own: set[str]) -> None:
    for name, value in body.items():
        if value is None or name in _IGNORED or name in _DONE or name in own:
            continue
        if name not in _NOT_DONE:
            what = f"Unrecognized request argument supplied: {name[:80]}"
            raise Refusal(400, what, param=name[:80], code="unknown_parameter")
        if not any(type(value) is type(fine) and value == fine for fine in _NOT_DONE[name]):
            what = f"{name!r} is not supported by this server. Received: {brief(value)}"
            raise Refusal(400, what, param=name, code="unsupported_parameter")
    named = body.get("model")
    if named is not None and not isinstance(named, str):
        raise _wrong("model", "a text", named)
    if named not in (None, model):
        what = f"The model {named[:80]!r} does not exist; this server has {model!r}"
        raise Refusal(404, what, param="model", code="model_not_found")


def _message(message: Any, name: str) -> dict[str, str]:
    if not isinstance(message, dict):
        raise Refusal(400, f"{name} must be an object. Received: {brief(message)}", param=name)
    role, content = message.get("role"), message.get("content")
    # OpenAI's later name for what instructs the model.
    role = "system" if role == "developer" else role
    if role not in ("system", "user", "assistant"):
        what = f"{name}.role must be system, user or assistant. Received: {brief(role)}"
        raise Refusal(400, what, param=f"{name}.role")
    unknown = [key for key in message if message[key] and key not in ("role", "content", "name")]
    if unknown:
        what = f"{name}.{unknown[0][:80]} is not supported by this server"
        raise Refusal(400, what, param=name, code="unsupported_parameter")
    if isinstance(content, list):
        content = "".join(_part(part, f"{name}.content[{i}]") for i, part in enumerate(content))
    if not isinstance(content, str):
        what = f"{name}.content must be a text. Received: {brief(content)}"
        raise Refusal(400, what, param=f"{name}.content")
    return {"role": role, "content": check_text(content, f"{name}.content", f"{name}.content")}


def _part(part: Any, name: str) -> str:
    fields = part if isinstance(part, dict) else {}
    if fields.get("type") != "text" or not isinstance(fields.get("text"), str):
        raise Refusal(400, f"{name} must be a text part. Received: {brief(part)}", param=name)
    return fields["text"]


def _stops(stop: Any) -> tuple[str, ...]:
    stops = [] if stop is None else [stop] if isinstance(stop, str) else stop
    fine = isinstance(stops, list) and len(stops) <= _MOST_STOPS
    if not fine or not all(isinstance(each, str) and each for each in stops):
        raise _wrong("stop", f"a text or up to {_MOST_STOPS} texts, none empty", stop)
    return tuple(check_text(each, "'stop'", "stop") for each in stops)


def _tokens(body: Mapping[str, Any], name: str, default: int, most: int) -> int:
    return int(_number(body, name, default, 1, most, whole=True))


def _number(body, name: str, default, least, most, whole: bool = False):
    value = body.get(name)
    if value is None:
        return default
    kinds = int if whole else (int, float)
    if isinstance(value, bool) or not isinstance(value, kinds) or not least <= value <= most:
        kind = "a whole number" if whole else "a number"
        raise _wrong(name, f"{kind} from {least} to {most}", value)
    return value


def _flag(body: Mapping[str, Any], name: str) -> bool:
    value = body.get(name)
    if value is not None and not isinstance(value, bool):
        raise _wrong(name, "true or false", value)
    return bool(value)


def _wrong(name: str, expected: str, value: object) -> Refusal:
    return Refusal(400, f"{name!r} must be {expected}. Received: {brief(value)}", param=name)
