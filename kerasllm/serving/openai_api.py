"""OpenAI's API for a language model: chat completions, completions and models.

Reference: [OpenAI's API](https://platform.openai.com/docs/api-reference)
"""

from __future__ import annotations

import asyncio
import dataclasses
import time
from collections import Counter
from collections.abc import AsyncIterator, Sequence
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
from kerasllm.serving.openai_request import (
    Content,
    WriteRequest,
    parse_chat,
    parse_completion,
)
from kerasllm.serving.openai_schema import Body, ChatBody, CompletionBody
from kerasllm.serving.openai_shape import (
    ERROR_SCHEMA,
    MODEL_SCHEMA,
    ChatShape,
    CompletionShape,
    Shape,
    error_body,
    event,
)
from kerasllm.serving.openapi import Operation, schema_of
from kerasllm.serving.refusal import Refusal, failed
from kerasllm.serving.requests import brief, read_json, unless_hung_up

_EXAMPLE = [{"role": "user", "content": "Name three whales."}]


class OpenAiApi:
    """The endpoints of a language model.

    Args:
        name: What the model is called.
        generator: The model.
        writer: What writes its answers.
        limits: How much a request may ask for.

    Attributes:
        name: As given.
        error_schema: The JSON schema of an error.
    """

    error_schema = ERROR_SCHEMA

    def __init__(self, name: str, generator: TextGenerator, writer: Writer, limits: Limits):
        self.name = name
        self._generator = generator
        self._writer = writer
        self._limits = limits
        self._created = int(time.time())
        # Templates and tokenizers may take their time, beside the loop and beside each other.
        self._encoding = ThreadPoolExecutor(2, thread_name_prefix="encoding")

    @property
    def routes(self) -> list[BaseRoute]:
        """The addresses that are answered."""
        return [
            Route("/v1/chat/completions", self.chat, methods=["POST"]),
            Route("/v1/completions", self.complete, methods=["POST"]),
            Route("/v1/models", self.models, methods=["GET"]),
            Route(f"/v1/models/{self.name}", self.model, methods=["GET"]),
        ]

    @property
    def example(self) -> tuple[str, dict]:
        """The path and the body of a request."""
        if self._generator.has_chat_template:
            return "/v1/chat/completions", {"model": self.name, "messages": _EXAMPLE}
        return "/v1/completions", {"model": self.name, "prompt": "Three whales are"}

    @property
    def operations(self) -> list[Operation]:
        """What the addresses answer."""
        prompts = {"model": self.name, "prompt": ["Three whales are"]}
        chat = Operation(
            "POST",
            "/v1/chat/completions",
            "Creates a chat completion",
            ChatShape.schema(),
            self._body(ChatBody),
            {"model": self.name, "messages": _EXAMPLE},
            streams=True,
        )
        complete = Operation(
            "POST",
            "/v1/completions",
            "Creates a completion",
            CompletionShape.schema(),
            self._body(CompletionBody),
            prompts,
            streams=True,
        )
        models = {"object": {"const": "list"}, "data": {"type": "array", "items": MODEL_SCHEMA}}
        return [
            *([chat] if self._generator.has_chat_template else []),
            complete,
            Operation(
                "GET",
                "/v1/models",
                "Lists the models",
                {"type": "object", "properties": models, "required": list(models)},
            ),
            Operation("GET", f"/v1/models/{self.name}", "Describes the model", MODEL_SCHEMA),
        ]

    def _body(self, model: type[Body]) -> dict:
        """Returns the schema of a body, with the limits of this server."""
        schema = schema_of(model)
        for name in ("max_tokens", "max_completion_tokens"):
            if name in schema["properties"]:
                schema["properties"][name]["maximum"] = self._limits.tokens
        return schema

    def error(self, refusal: Refusal) -> Response:
        """Returns an error in OpenAI's shape."""
        return JSONResponse(error_body(refusal), refusal.status, headers=refusal.headers)

    async def chat(self, request: Request) -> Response:
        """Answers `POST /v1/chat/completions`."""
        body = await read_json(request, self._limits.body)
        wanted = parse_chat(body, self.name, self._limits.tokens)
        if not self._generator.has_chat_template:
            what = f"The model {self.name!r} has no chat template: use /v1/completions"
            raise Refusal(400, what, param="model")
        return await self._answer(request, wanted, ChatShape(self.name))

    async def complete(self, request: Request) -> Response:
        """Answers `POST /v1/completions`."""
        body = await read_json(request, self._limits.body)
        limits = self._limits
        wanted = parse_completion(body, self.name, limits.tokens, limits.instances)
        return await self._answer(request, wanted, CompletionShape(self.name))

    async def models(self, request: Request) -> Response:
        """Answers `GET /v1/models`."""
        return JSONResponse({"object": "list", "data": [self._model()]})

    async def model(self, request: Request) -> Response:
        """Answers `GET /v1/models/NAME`."""
        return JSONResponse(self._model())

    def _model(self) -> dict:
        return {
            "id": self.name,
            "object": "model",
            "created": self._created,
            "owned_by": "kerasllm",
        }

    async def _answer(self, request: Request, wanted: WriteRequest, shape: Shape) -> Response:
        loop = asyncio.get_running_loop()
        encoded = loop.run_in_executor(self._encoding, self._encode, wanted, shape.is_chat)
        answers = self._writer.submit(await unless_hung_up(request, encoded))
        if wanted.stream:
            return _Events(answers, shape, with_usage=wanted.stream_usage)
        try:
            texts = await unless_hung_up(request, _whole(answers))
        finally:
            _cancel(answers)
        return JSONResponse(shape.whole(texts, answers))

    def _encode(
        self, wanted: WriteRequest, is_chat: bool
    ) -> list[tuple[list[int], GenerationSettings]]:
        """Returns the tokens of each prompt, and settings that ask for no more than has room."""
        settings = self._generator.settings_of(wanted.settings, chat=is_chat)
        found, times = [], Counter()
        for number, content in enumerate(wanted.contents):
            where = f"prompt[{number}]: " if len(wanted.contents) > 1 else ""
            prompt, room = self._tokens(content, settings, is_chat, where)
            # Of equal prompts each has random numbers of its own.
            seed = (settings.seed + times[tuple(prompt)]) % 2**64
            times[tuple(prompt)] += 1
            found.append((prompt, dataclasses.replace(settings, max_new_tokens=room, seed=seed)))
        return found

    def _tokens(
        self, content: Content, settings: GenerationSettings, is_chat: bool, where: str
    ) -> tuple[list[int], int]:
        """Returns the tokens of a prompt or a conversation, and the room after them."""
        generator, code = self._generator, None
        param = "messages" if is_chat else "prompt"
        try:
            if is_chat:
                prompt = generator.encode_chat(content)
            elif isinstance(content, str):
                prompt = generator.encode(content)
            else:
                prompt = self._known(content, where)
            code = "context_length_exceeded"
            return prompt, generator.generator.room(prompt, settings)
        except DataError as error:  # of the template, or the length
            raise Refusal(400, where + error.what, param=param, code=code) from None

    def _known(self, tokens: list[int], where: str) -> list[int]:
        """Returns token ids that the tokenizer has."""
        size = self._generator.tokenizer.vocabulary_size
        for token in tokens:
            if not 0 <= token < size:
                what = f"{where}token ids are from 0 to {size - 1}. Received: {brief(token)}"
                raise Refusal(400, what, param="prompt")
        return tokens


class _Events(StreamingResponse):
    """Answers as server-sent events; when the client hangs up, they are cancelled."""

    def __init__(self, answers: Sequence[Answer], shape: Shape, with_usage: bool):
        events = _events(answers, shape, with_usage)
        headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
        super().__init__(events, headers=headers, media_type="text/event-stream")
        self._answers = answers

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            _cancel(self._answers)


async def _events(
    answers: Sequence[Answer], shape: Shape, with_usage: bool
) -> AsyncIterator[bytes]:
    # If requested, every chunk has the field, which is null until the end.
    extra = {"usage": None} if with_usage else {}
    for index in range(len(answers)) if shape.opening else ():
        yield event(shape.chunk(index, shape.opening) | extra)
    try:
        async for index, text in _as_they_come(answers):
            if text is None:
                reason = answers[index].finish_reason
                yield event(shape.chunk(index, shape.closing, reason) | extra)
            else:
                yield event(shape.chunk(index, shape.piece(text)) | extra)
    except Exception:  # noqa: BLE001 - the model's, which the log tells of; the status is sent
        yield event(error_body(failed()))
        return
    if with_usage:
        yield event(shape.usage_chunk(answers))
    yield b"data: [DONE]\n\n"


async def _as_they_come(answers: Sequence[Answer]) -> AsyncIterator[tuple[int, str | None]]:
    """Gives the pieces of all answers with the number of the answer; `None` when one is whole."""
    queue: asyncio.Queue[tuple[int, str | Exception | None]] = asyncio.Queue()

    async def pass_on(index: int, answer: Answer) -> None:
        try:
            async for text in answer.text():
                queue.put_nowait((index, text))
            queue.put_nowait((index, None))
        except Exception as error:  # noqa: BLE001 - raised where the answers are read
            queue.put_nowait((index, error))

    passing = [asyncio.ensure_future(pass_on(*each)) for each in enumerate(answers)]
    try:
        open_ones = len(answers)
        while open_ones:
            index, piece = await queue.get()
            if isinstance(piece, Exception):
                raise piece
            open_ones -= piece is None
            yield index, piece
    finally:
        for each in passing:
            each.cancel()


async def _whole(answers: Sequence[Answer]) -> list[str]:
    return ["".join([piece async for piece in answer.text()]) for answer in answers]


def _cancel(answers: Sequence[Answer]) -> None:
    for answer in answers:
        answer.cancelled = True
