"""The one thread that computes outputs of instances, and the requests that wait for it."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, InvalidStateError

from kerasllm.serving.metrics import Metrics
from kerasllm.serving.model_thread import ModelThread
from kerasllm.serving.refusal import too_many_wait

_INSTANCES = 64


class Batcher(ModelThread):
    """Computes the instances of requests together.

    Nothing is delayed: what waits when the thread is free is computed next. Each request that waits
    gives one instance in turn, so that a request of many does not hold up one of few.

    Args:
        predict: Returns a result for each of some instances; called in the thread alone.
        metrics: What is computed is counted there.
        tokens: Returns how many tokens `predict` has computed so far. Defaults to `None`: they are
            not counted.
        most_instances: The maximum number of instances that are computed together. `None`: 64.
        most_waiting: The maximum number of requests that wait.

    Example:

    ```python
    batcher = Batcher(api.predict, Metrics(), most_instances=64, most_waiting=256)
    batcher.start()
    results = await batcher.submit([api.Instance(text="A film to remember.")])
    ```
    """

    def __init__(
        self,
        predict: Callable[[list], Sequence],
        metrics: Metrics,
        *,
        tokens: Callable[[], int] | None = None,
        most_instances: int | None,
        most_waiting: int,
    ):
        super().__init__(most_waiting)
        self._predict = predict
        self._metrics = metrics
        self._tokens = tokens or (lambda: 0)
        self._most_instances = most_instances or _INSTANCES

    async def submit(self, instances: Sequence) -> list:
        """Returns the result of each instance.

        When it is cancelled, the instances that are not yet computed are left out.

        Args:
            instances: At least one.

        Raises:
            Refusal: If too many requests wait.
        """
        job = _Job(instances)
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
            results = self._compute([job.instances[place] for job, place in batch])
        except Exception as error:  # noqa: BLE001 - the server continues after any error
            if len(batch) == 1:
                batch[0][0].fail(error)
            else:  # Only the request whose instance it is shall fail.
                for each in batch:
                    self._do([each])
        else:
            for (job, place), result in zip(batch, results, strict=True):
                job.put(place, result)

    def _compute(self, instances: list) -> Sequence:
        started, tokens = time.perf_counter(), self._tokens()
        results = self._predict(instances)
        if len(results) != len(instances):
            raise ValueError(f"{len(instances)} instances were given {len(results)} predictions")
        self._metrics.compute_seconds.observe(time.perf_counter() - started)
        self._metrics.batch_rows.observe(len(instances))
        self._metrics.tokens.labels("prompt").inc(self._tokens() - tokens)
        return results

    def _next(self) -> list[tuple[_Job, int]]:
        """Returns the instances to compute next, by request and place; none when it is closed."""
        batch: list[tuple[_Job, int]] = []
        with self._changed:
            while not batch:
                while self._waiting and len(batch) < self._most_instances:
                    job = self._waiting.popleft()
                    if job.done.done():  # cancelled, or failed
                        continue
                    batch.append((job, job.begun))
                    job.begun += 1
                    if job.begun < len(job.instances):
                        self._waiting.append(job)
                if not batch:
                    if self._closed:
                        return []
                    self._changed.wait()
        return batch


class _Job:
    """A request's instances.

    Attributes:
        instances: As given.
        begun: How many of them were given to the model.
        done: The results of all of them.
    """

    def __init__(self, instances: Sequence):
        self.instances = instances
        self.begun = 0
        self.done: Future = Future()
        self._results: dict[int, object] = {}

    def put(self, place: int, result: object) -> None:
        self._results[place] = result
        if len(self._results) == len(self.instances):
            results = [self._results[number] for number in range(len(self.instances))]
            _unless_cancelled(self.done.set_result, results)

    def fail(self, error: Exception) -> None:
        _unless_cancelled(self.done.set_exception, error)


def _unless_cancelled(set_outcome: Callable, outcome: object) -> None:
    with contextlib.suppress(InvalidStateError):
        set_outcome(outcome)
