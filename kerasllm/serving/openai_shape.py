"""The responses of OpenAI's API: whole answers, chunks of a stream, errors."""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Sequence
from typing import Any

from kerasllm.serving.generation_worker import Answer
from kerasllm.serving.refusal import Refusal

_COUNT = {"type": "integer", "minimum": 0}
_NULL = {"type": "null"}


def _object(**properties: Any) -> dict[str, Any]:
    """Returns the JSON schema of an object that has these fields and no others."""
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


_USAGE = _object(prompt_tokens=_COUNT, completion_tokens=_COUNT, total_tokens=_COUNT)
_TEXT_OR_NULL = {"type": ["string", "null"]}
ERROR_SCHEMA = _object(
    error=_object(
        message={"type": "string"},
        type={"enum": ["invalid_request_error", "server_error"]},
        param=_TEXT_OR_NULL,
        code=_TEXT_OR_NULL,
    )
)
"""The JSON schema of an error."""
MODEL_SCHEMA = _object(
    id={"type": "string"}, object={"const": "model"}, created=_COUNT, owned_by={"type": "string"}
)
"""The JSON schema of what is told of a model."""


class Shape:
    """How the answers of an endpoint look.

    Args:
        model: The name of the model.

    Attributes:
        is_chat: Whether it is asked with messages.
        opening: What the choice of a chunk before any text holds; `None`: there is no such chunk.
        closing: What the choice of the last chunk holds.
    """

    is_chat: bool
    opening: dict | None
    closing: dict
    _prefix: str
    _kind: str
    _chunk_kind: str
    _content_schema: dict

    def __init__(self, model: str):
        self._head = {
            "id": self._prefix + secrets.token_hex(12),
            "created": int(time.time()),
            "model": model,
        }

    def whole(self, texts: Sequence[str], answers: Sequence[Answer]) -> dict:
        """Returns answers in one."""
        choices = [
            _choice(index, self._content(text), answer.finish_reason)
            for index, (text, answer) in enumerate(zip(texts, answers, strict=True))
        ]
        return {**self._head, "object": self._kind, "choices": choices, "usage": usage(answers)}

    @classmethod
    def schema(cls) -> dict[str, Any]:
        """Returns the JSON schema of answers in one."""
        choice = _object(
            index=_COUNT,
            **cls._content_schema,
            logprobs=_NULL,
            finish_reason={"enum": ["stop", "length"]},
        )
        return _object(
            id={"type": "string"},
            created=_COUNT,
            model={"type": "string"},
            object={"const": cls._kind},
            choices={"type": "array", "items": choice},
            usage=_USAGE,
        )

    def chunk(self, index: int, content: dict, finish_reason: str | None = None) -> dict:
        """Returns a piece of the answer to a prompt, by its number."""
        choices = [_choice(index, content, finish_reason)]
        return {**self._head, "object": self._chunk_kind, "choices": choices}

    def usage_chunk(self, answers: Sequence[Answer]) -> dict:
        """Returns the numbers of tokens as the last piece of an answer."""
        return {
            **self._head,
            "object": self._chunk_kind,
            "choices": [],
            "usage": usage(answers),
        }

    def piece(self, text: str) -> dict:
        """Returns what the choice of a chunk with some text holds."""
        raise NotImplementedError

    def _content(self, text: str) -> dict:
        raise NotImplementedError


class ChatShape(Shape):
    """The answers of `/v1/chat/completions`; see `Shape`."""

    is_chat = True
    opening = {"delta": {"role": "assistant", "content": ""}}
    closing = {"delta": {}}
    _prefix = "chatcmpl-"
    _kind = "chat.completion"
    _content_schema = {
        "message": _object(role={"const": "assistant"}, content={"type": "string"}, refusal=_NULL)
    }
    _chunk_kind = "chat.completion.chunk"

    def piece(self, text: str) -> dict:
        """See `Shape.piece`."""
        return {"delta": {"content": text}}

    def _content(self, text: str) -> dict:
        return {"message": {"role": "assistant", "content": text, "refusal": None}}


class CompletionShape(Shape):
    """The answers of `/v1/completions`; see `Shape`."""

    is_chat = False
    opening = None
    closing = {"text": ""}
    _prefix = "cmpl-"
    _kind = _chunk_kind = "text_completion"
    _content_schema = {"text": {"type": "string"}}

    def piece(self, text: str) -> dict:
        """See `Shape.piece`."""
        return {"text": text}

    def _content(self, text: str) -> dict:
        return {"text": text}


def usage(answers: Sequence[Answer]) -> dict[str, int]:
    """Returns how many tokens the answers of a request took."""
    prompt = sum(len(answer.prompt) for answer in answers)
    written = sum(answer.tokens for answer in answers)
    return {
        "prompt_tokens": prompt,
        "completion_tokens": written,
        "total_tokens": prompt + written,
    }


def error_body(refusal: Refusal) -> dict:
    """Returns the body of an error."""
    kind = "invalid_request_error" if refusal.status < 500 else "server_error"
    return {
        "error": {
            "message": refusal.message,
            "type": kind,
            "param": refusal.param,
            "code": refusal.code,
        }
    }


def event(value: dict) -> bytes:
    """Returns a value as a server-sent event."""
    return f"data: {json.dumps(value, ensure_ascii=False)}\n\n".encode()


def _choice(index: int, content: dict, finish_reason: str | None) -> dict:
    return {"index": index, **content, "logprobs": None, "finish_reason": finish_reason}
