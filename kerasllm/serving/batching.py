"""The one thread that computes with a classifier, and the requests that wait for it."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, InvalidStateError

from kerasllm.serving.model_thread import ModelThread
from kerasllm.serving.refusal import too_many_wait

_TEXTS = 64


class Batcher(ModelThread):
    """Computes the texts of requests together.

    Nothing is delayed: whatever waits when the thread is free is computed next. Each request that
    waits gives one text in turn, so that a request of many texts does not hold up one of few.

    Args:
        compute: Returns a result for each of some texts; called in the thread alone.
        most_texts: The most texts that are computed together. `None`: 64.
        most_waiting: The most requests that wait.

    Example:

    ```python
    batcher = Batcher(classifier.classify, most_texts=64, most_waiting=256)
    batcher.start()
    results = await batcher.submit(["A film to remember."])
    ```
    """

    def __init__(
        self, compute: Callable[[list[str]], Sequence], *, most_texts: int | None, most_waiting: int
    ):
        super().__init__(most_waiting)
        self._compute = compute
        self._most_texts = most_texts or _TEXTS

    async def submit(self, texts: Sequence[str]) -> list:
        """Returns the result of each text; when it is cancelled, what was not begun is left out.

        Args:
            texts: At least one.

        Raises:
            Refusal: If too many requests wait.
        """
        job = _Job(texts)
        with self._changed:
            if len(self._waiting) >= self._most_waiting:
                self._waiting = deque(each for each in self._waiting if not each.done.done())
            if len(self._waiting) >= self._most_waiting:
                raise too_many_wait(self._most_waiting)
            self._waiting.append(job)
            self._changed.notify()
        return await asyncio.wrap_future(job.done)

    def _run(self) -> None:
        while batch := self._next():
            self._do(batch)

    def _do(self, batch: list[tuple[_Job, int]]) -> None:
        try:
            results = self._compute([job.texts[place] for job, place in batch])
        except Exception as error:  # noqa: BLE001 - whatever it is, the server goes on
            if len(batch) == 1:
                batch[0][0].fail(error)
            else:  # Only the text that it is about shall fail.
                for each in batch:
                    self._do([each])
        else:
            for (job, place), result in zip(batch, results, strict=True):
                job.put(place, result)

    def _next(self) -> list[tuple[_Job, int]]:
        """Returns the texts to compute next, by request and place; none when it is closed."""
        batch: list[tuple[_Job, int]] = []
        with self._changed:
            while not batch:
                while self._waiting and len(batch) < self._most_texts:
                    job = self._waiting.popleft()
                    if job.done.done():  # cancelled, or failed
                        continue
                    batch.append((job, job.begun))
                    job.begun += 1
                    if job.begun < len(job.texts):
                        self._waiting.append(job)
                if not batch:
                    if self._closed:
                        return []
                    self._changed.wait()
        return batch


class _Job:
    """A request's texts.

    Attributes:
        texts: As given.
        begun: How many of them were given to the model.
        done: The results of all of them.
    """

    def __init__(self, texts: Sequence[str]):
        self.texts = texts
        self.begun = 0
        self.done: Future = Future()
        self._results: dict[int, object] = {}

    def put(self, place: int, result: object) -> None:
        self._results[place] = result
        if len(self._results) == len(self.texts):
            _unless_cancelled(self.done.set_result, [self._results[i] for i in range(len(self.texts))])

    def fail(self, error: Exception) -> None:
        _unless_cancelled(self.done.set_exception, error)


def _unless_cancelled(set_outcome: Callable, outcome: object) -> None:
    with contextlib.suppress(InvalidStateError):
        set_outcome(outcome)
