"""The thread that runs a language model, and the answers that it generates."""

from __future__ import annotations

import asyncio
import itertools
import logging
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator, Sequence

from kerasllm.generation.settings import GenerationSettings
from kerasllm.generation.text import TextGenerator
from kerasllm.generation.text_stream import TextPieces
from kerasllm.serving.continuous_batching import Asked, decoding_for
from kerasllm.serving.metrics import Metrics
from kerasllm.serving.model_thread import ModelThread
from kerasllm.serving.refusal import too_many_wait

_ANSWERS = 32
_log = logging.getLogger(__name__)


class Answer:
    """An answer that is being written; made by `Writer.submit`.

    Args:
        prompt: Token ids.
        settings: How, with everything that ends it.
        pieces: Makes text of its tokens.

    Attributes:
        prompt: As given.
        settings: As given.
        cancelled: Whether nobody reads it any more; may be set.
        finish_reason: `"stop"` or `"length"`, when it is whole.
    """

    def __init__(self, prompt: list[int], settings: GenerationSettings, pieces: TextPieces):
        self.prompt = prompt
        self.settings = settings
        self.cancelled = False
        self.finish_reason: str | None = None
        self._pieces = pieces
        self._loop = asyncio.get_running_loop()
        self._queue: asyncio.Queue[str | Exception | None] = asyncio.Queue()

    @property
    def tokens(self) -> int:
        """How many tokens it has."""
        return self._pieces.tokens

    async def text(self) -> AsyncIterator[str]:
        """Gives its text in chunks, as they come."""
        while (piece := await self._queue.get()) is not None:
            if isinstance(piece, Exception):
                raise piece
            yield piece

    def take(self, tokens: list[int]) -> None:
        """Takes its next tokens; called in the model's thread."""
        text = ""
        for token in tokens:
            text += self._pieces.step(token)
            if self._pieces.stopped:
                self.finish_reason = "stop"
            elif self._pieces.tokens == self.settings.max_new_tokens:
                self.finish_reason = "length"
            if self.finish_reason:
                text += self._pieces.finish()
                break
        if text:
            self._put(text)
        if self.finish_reason:
            self._put(None)

    def fail(self, error: Exception) -> None:
        """Ends it with an error; called in the model's thread."""
        self.cancelled = True
        self._put(error)

    def _put(self, piece: str | Exception | None) -> None:
        try:
            self._loop.call_soon_threadsafe(self._queue.put_nowait, piece)
        except RuntimeError:  # The loop has ended: nobody reads it.
            self.cancelled = True


class Writer(ModelThread):
    """Writes the answers of requests together.

    Each turn of the thread opens answers that wait, as far as there is room, and gives every open
    one its next token: none waits for another to end, but for room. A request of many answers does
    not hold up one of few: for room they take turns.

    Args:
        generator: The model.
        metrics: What is computed is counted there.
        most_answers: The maximum number of answers that are written together. `None`: 32.
        most_waiting: The maximum number of requests that wait.
        prefix_bytes: The memory for texts that prompts may begin with. Defaults to `0`: none.
    """

    def __init__(
        self,
        generator: TextGenerator,
        metrics: Metrics,
        *,
        most_answers: int | None,
        most_waiting: int,
        prefix_bytes: int = 0,
    ):
        super().__init__(most_waiting)
        self._generator = generator
        self._decoding = decoding_for(generator.generator, prefix_bytes)
        self._metrics = metrics
        self._most_answers = most_answers or _ANSWERS
        self._open: list[Answer] = []

    def warm_up(self) -> None:
        """Writes a little, in every way, so that no request waits for what is done once."""
        drawn = GenerationSettings(max_new_tokens=3, temperature=1.0, top_p=0.9)
        for key, settings in enumerate((drawn, GenerationSettings(max_new_tokens=3))):
            self._decoding.add([Asked(key, [0, 0, 0], settings)])
            self._decoding.step()
        self._decoding.remove([0])
        self._decoding.remove([1])

    def submit(self, asked: Sequence[tuple[list[int], GenerationSettings]]) -> list[Answer]:
        """Returns the answers to a request, which will be written.

        Args:
            asked: For each its prompt, token ids that leave room for `max_new_tokens`, and how it
                is written, with everything that ends it.

        Raises:
            Refusal: If too many requests wait.
        """
        tokenizer = self._generator.tokenizer
        answers = [Answer(*each, TextPieces(tokenizer, each[1])) for each in asked]
        with self._changed:
            self._forget_cancelled()
            if len(self._waiting) >= self._most_waiting:
                raise too_many_wait(self._most_waiting)
            self._waiting.append(deque(answers))
            self._changed.notify()
        return answers

    def _run(self) -> None:
        while self._has_work():
            try:
                self._enter()
                self._leave()
                if self._open:
                    self._give(self._decoding.step)
            except Exception as error:  # noqa: BLE001 - the server continues after any error
                _log.exception("The model failed, and the running requests with it")
                self._fail_open(error)

    def _has_work(self) -> bool:
        with self._changed:
            while not self._waiting and not self._open and not self._closed:
                self._changed.wait()
        return bool(self._waiting or self._open)

    def _leave(self) -> None:
        """Closes answers that are whole, or that nobody reads."""
        left = [answer for answer in self._open if answer.finish_reason or answer.cancelled]
        if left:
            self._decoding.remove(left)
            self._open = [answer for answer in self._open if answer not in left]

    def _enter(self) -> None:
        """Opens answers that wait, as far as there is room: of each request one in turn."""
        with self._changed:
            self._forget_cancelled()
            room = self._most_answers - len(self._open)
            # On a copy: how many are best opened at once is known when their prompts are.
            first = itertools.islice(_in_turn(deque(map(deque, self._waiting))), room)
            count = self._at_once(list(first))
            new = list(itertools.islice(_in_turn(self._waiting), count))
        if new:
            asked = [Asked(answer, answer.prompt, answer.settings) for answer in new]
            self._metrics.tokens.labels("prompt").inc(sum(len(one.prompt) for one in asked))
            self._open += new
            self._give(lambda: self._decoding.add(asked))

    def _at_once(self, answers: list[Answer]) -> int:
        return self._decoding.at_once([answer.prompt for answer in answers])

    def _forget_cancelled(self) -> None:
        kept = (deque(one for one in request if not one.cancelled) for request in self._waiting)
        self._waiting = deque(request for request in kept if request)

    def _give(self, compute: Callable[[], dict[Answer, list[int]]]) -> None:
        """Gives open answers their next tokens."""
        started = time.perf_counter()
        made = compute()
        self._metrics.compute_seconds.observe(time.perf_counter() - started)
        self._metrics.batch_rows.observe(len(made))
        self._metrics.tokens.labels("generated").inc(sum(map(len, made.values())))
        for answer, tokens in made.items():
            answer.take(tokens)

    def _fail_open(self, error: Exception) -> None:
        self._decoding.remove(self._open)
        for answer in self._open:
            answer.fail(error)
        self._open = []


def _in_turn(waiting: deque[deque[Answer]]) -> Iterator[Answer]:
    """Takes answers out of the requests that wait, one of each in turn."""
    while waiting:
        request = waiting.popleft()
        answer = request.popleft()
        if request:
            waiting.append(request)
        yield answer
