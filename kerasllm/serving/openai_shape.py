"""What OpenAI's API answers: whole answers, chunks of a stream, errors."""

from __future__ import annotations

import json
import secrets
import time

from kerasllm.serving.generation_worker import Answer
from kerasllm.serving.refusal import Refusal


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

    def __init__(self, model: str):
        self._head = {
            "id": self._prefix + secrets.token_hex(12),
            "created": int(time.time()),
            "model": model,
        }

    def whole(self, text: str, answer: Answer) -> dict:
        """Returns an answer in one."""
        choices = [_choice(self._content(text), answer.finish_reason)]
        return {**self._head, "object": self._kind, "choices": choices, "usage": usage(answer)}

    def chunk(self, content: dict, finish_reason: str | None = None) -> dict:
        """Returns a piece of an answer."""
        choices = [_choice(content, finish_reason)]
        return {**self._head, "object": self._chunk_kind, "choices": choices}

    def usage_chunk(self, answer: Answer) -> dict:
        """Returns the numbers of tokens as the last piece of an answer."""
        return {
            **self._head,
            "object": self._chunk_kind,
            "choices": [],
            "usage": usage(answer),
        }

    def piece(self, text: str) -> dict:
        """Returns what the choice of a chunk with some text holds."""
        raise NotImplementedError

    def _content(self, text: str) -> dict:
        raise NotImplementedError


class ChatShape(Shape):
    """The answers of `/v1/chat/completions`; see `Shape`."""

    is_chat = True
    opening = {"delta": {"role": "assistant", "content": ""}}  # noqa: RUF012
    closing = {"delta": {}}  # noqa: RUF012
    _prefix = "chatcmpl-"
    _kind = "chat.completion"
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
    closing = {"text": ""}  # noqa: RUF012
    _prefix = "cmpl-"
    _kind = _chunk_kind = "text_completion"

    def piece(self, text: str) -> dict:
        """See `Shape.piece`."""
        return {"text": text}

    def _content(self, text: str) -> dict:
        return {"text": text}


def usage(answer: Answer) -> dict[str, int]:
    """Returns how many tokens an answer took."""
    prompt, written = len(answer.prompt), answer.tokens
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


def _choice(content: dict, finish_reason: str | None) -> dict:
    return {"index": 0, **content, "logprobs": None, "finish_reason": finish_reason}
