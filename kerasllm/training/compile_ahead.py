"""Compiles XLA's programs in the order in which training needs them, in the background."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait

import keras

from kerasllm.data.batch_plan import BatchPlan, Width
from kerasllm.data.pipeline import replica_rows
from kerasllm.runtime.threads import available_cores
from kerasllm.training.compile_costs import MOST_THREADS


class CompileAhead(keras.callbacks.Callback):
    """Compiles for each length of a training, the first needed first, on all cores.

    A step waits for the programs of its own length and for no others; the first one is traced
    meanwhile. Where a step has no programs, or is one, it does nothing.

    Args:
        plan: Gives the batch plan of an epoch by its number.
        on_wait: Called where a step has to wait, and before the first one: with the length, how
            many are compiled before it, and how many there are. Defaults to `None`.

    Attributes:
        waited: Seconds that steps have waited.
    """

    def __init__(
        self,
        plan: Callable[[int], BatchPlan],
        on_wait: Callable[[Width, int, int], None] | None = None,
    ):
        super().__init__()
        self._plan = plan
        self._on_wait = on_wait
        self._threads: ThreadPoolExecutor | None = None
        self._futures: dict[Width, list[Future]] = {}
        self.waited = 0.0
        self._first = True

    @property
    def busy(self) -> bool:
        """Whether something is being compiled."""
        return not all(map(self._is_done, self._futures))

    def on_epoch_begin(self, epoch, logs=None):
        model = self.model
        self._current = plan = self._plan(epoch)
        rows = replica_rows(
            plan.batch_size, model.distribute_strategy.num_replicas_in_sync, model.accumulate
        )
        first = model.steps_done % len(plan)
        ahead = dict.fromkeys(map(plan.width, range(first, len(plan))))
        for length in [each for each in ahead if each not in self._futures]:
            compilations = model.compilations(rows, length)
            if not compilations:
                return
            if self._threads is None:
                self._threads = ThreadPoolExecutor(min(available_cores(), MOST_THREADS))
            self._futures[length] = [self._threads.submit(each) for each in compilations]

    def on_train_batch_begin(self, batch, logs=None):
        length = self._current.width(batch)
        first, self._first = self._first, False
        if self._is_done(length):
            return
        began = time.perf_counter()
        if self._on_wait:
            done = sum(map(self._is_done, self._futures))
            self._on_wait(length, done, len(self._futures))
        if first:
            return
        # What failed is compiled again by the step, which tells why.
        wait(self._futures[length])
        self.waited += time.perf_counter() - began

    def on_train_end(self, logs=None):
        self.close()

    def close(self) -> None:
        """Leaves out what is not compiled yet."""
        if self._threads is not None:
            self._threads.shutdown(cancel_futures=True)
            self._threads = None

    def _is_done(self, length: Width) -> bool:
        return all(future.done() for future in self._futures.get(length, ()))
