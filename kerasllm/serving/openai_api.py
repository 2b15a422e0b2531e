"""OpenAI's API for a language model: chat completions, completions and models.

Reference: [OpenAI's API](https://platform.openai.com/docs/api-reference)
"""

from __future__ import annotations

import asyncio
import dataclasses
import time
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor

from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import BaseRoute, Route
from starlette.types import Receive, Scope, Send

from kerasllm.errors import DataError
from kerasllm.generation.settings import GenerationSettings
from kerasllm.generation.text import TextGenerator
from kerasllm.serving.generation_worker import Answer, Writer
from kerasllm.serving.limits import Limits
from kerasllm.serving.openai_request import WriteRequest, parse_chat, parse_completion
from kerasllm.serving.openai_shape import (
    ChatShape,
    CompletionShape,
    Shape,
    error_body,
    event,
)
from kerasllm.serving.refusal import Refusal, failed
from kerasllm.serving.requests import read_json, unless_hung_up


class OpenAiApi:
    """The endpoints of a language model.

    Args:
        name: What the model is called.
        generator: The model.
        writer: What writes its answers.
        limits: How much a request may ask for.
    """

    def __init__(self, name: str, generator: TextGenerator, writer: Writer, limits: Limits):
        self._name = name
        self._generator = generator
        self._writer = writer
        self._limits = limits
        self._created = int(time.time())
        # Templates and tokenizers may take their time, beside the loop; one at a time.
        self._encoding = ThreadPoolExecutor(1, thread_name_prefix="encoding")

    @property
    def routes(self) -> list[BaseRoute]:
        """The addresses that are answered."""
        return [
            Route("/v1/chat/completions", self.chat, methods=["POST"]),
            Route("/v1/completions", self.complete, methods=["POST"]),
            Route("/v1/models", self.models, methods=["GET"]),
            Route(f"/v1/models/{self._name}", self.model, methods=["GET"]),
        ]

    @property
    def example(self) -> tuple[str, dict]:
        """The path and the body of a request."""
        if self._generator.has_chat_template:
            messages = [{"role": "user", "content": "Name three whales."}]
            return "/v1/chat/completions", {"model": self._name, "messages": messages}
        return "/v1/completions", {"model": self._name, "prompt": "Three whales are"}

    def error(self, refusal: Refusal) -> Response:
        """Returns an error in OpenAI's shape."""
        return JSONResponse(error_body(refusal), refusal.status, headers=refusal.headers)

    async def chat(self, request: Request) -> Response:
        """Answers `POST /v1/chat/completions`."""
        body = await read_json(request, self._limits.body)
        wanted = parse_chat(body, self._name, self._limits.tokens)
        if not self._generator.has_chat_template:
            what = f"The model {self._name!r} has no chat template: use /v1/completions"
            raise Refusal(400, what, param="model")
        return await self._answer(request, wanted, ChatShape(self._name))

    async def complete(self, request: Request) -> Response:
        """Answers `POST /v1/completions`."""
        body = await read_json(request, self._limits.body)
        wanted = parse_completion(body, self._name, self._limits.tokens)
        return await self._answer(request, wanted, CompletionShape(self._name))

    async def models(self, request: Request) -> Response:
        """Answers `GET /v1/models`."""
        return JSONResponse({"object": "list", "data": [self._model()]})

    async def model(self, request: Request) -> Response:
        """Answers `GET /v1/models/NAME`."""
        return JSONResponse(self._model())

    def _model(self) -> dict:
        return {
            "id": self._name,
            "object": "model",
            "created": self._created,
            "owned_by": "kerasllm",
        }

    async def _answer(self, request: Request, wanted: WriteRequest, shape: Shape) -> Response:
        loop = asyncio.get_running_loop()
        encoded = loop.run_in_executor(self._encoding, self._encode, wanted, shape.is_chat)
        answer = self._writer.submit(*await unless_hung_up(request, encoded))
        if wanted.stream:
            return _Events(answer, shape, with_usage=wanted.stream_usage)
        try:
            text = await unless_hung_up(request, _whole(answer))
        finally:
            answer.cancelled = True
        return JSONResponse(shape.whole(text, answer))

    def _encode(self, wanted: WriteRequest, is_chat: bool) -> tuple[list[int], GenerationSettings]:
        """Returns the tokens of a prompt, and settings that ask for no more than there is room."""
        generator, code = self._generator, None
        try:
            if is_chat:
                prompt = generator.encode_chat(wanted.content)
            else:
                prompt = generator.encode(wanted.content)
            code = "context_length_exceeded"
            room = generator.generator.room(prompt, wanted.settings)
        except DataError as error:  # of the template, or the length
            param = "messages" if is_chat else "prompt"
            raise Refusal(400, error.what, param=param, code=code) from None
        settings = generator.settings_of(wanted.settings, chat=is_chat)
        return prompt, dataclasses.replace(settings, max_new_tokens=room)


class _Events(StreamingResponse):
    """An answer as server-sent events; when the client hangs up, it is cancelled."""

    def __init__(self, answer: Answer, shape: Shape, with_usage: bool):
        events = _events(answer, shape, with_usage)
        headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
        super().__init__(events, headers=headers, media_type="text/event-stream")
        self._answer = answer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._answer.cancelled = True


async def _events(answer: Answer, shape: Shape, with_usage: bool) -> AsyncIterator[bytes]:
    # Where it is asked for, every chunk has the field, which is null until the end.
    extra = {"usage": None} if with_usage else {}
    if shape.opening:
        yield event(shape.chunk(shape.opening) | extra)
    try:
        async for text in answer.text():
            yield event(shape.chunk(shape.piece(text)) | extra)
    except Exception:  # noqa: BLE001 - the model's, which the log tells of; the status is sent
        yield event(error_body(failed()))
        return
    yield event(shape.chunk(shape.closing, answer.finish_reason) | extra)
    if with_usage:
        yield event(shape.usage_chunk(answer))
    yield b"data: [DONE]\n\n"


async def _whole(answer: Answer) -> str:
    return "".join([piece async for piece in answer.text()])
