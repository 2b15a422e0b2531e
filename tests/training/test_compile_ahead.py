"""Programs are compiled in the order of their use, and a step waits for its own alone."""

import threading
import time
from types import SimpleNamespace

import numpy as np
import pytest

from kerasllm.data.batch_plan import EpochPlans
from kerasllm.training.compile_ahead import CompileAhead


@pytest.fixture
def plans():
    return EpochPlans(np.repeat([4, 8, 16], 4), batch_size=2, buckets=3, seed=0)


def made(plans, compilations, **options):
    ahead = CompileAhead(plans, **options)
    strategy = SimpleNamespace(num_replicas_in_sync=1)
    ahead.set_model(
        SimpleNamespace(
            steps_done=0, accumulate=1, distribute_strategy=strategy, compilations=compilations
        )
    )
    return ahead


def test_lengths_are_compiled_once_and_a_step_waits_for_its_own(plans):
    plan, free = plans(0), threading.Event()
    order = list(dict.fromkeys(map(plan.width, range(len(plan)))))
    compiled, waits = [], []

    def compilations(rows, length):
        assert rows == 2
        return [lambda: (free.wait(0.2 if length == order[0] else 9), compiled.append(length))]

    def on_wait(length, done, lengths):
        waits.append((length, done, lengths))
        if len(waits) > 1:
            free.set()

    ahead = made(plans, compilations, on_wait=on_wait)
    ahead.on_epoch_begin(0)
    for step in range(len(plan)):
        ahead.on_train_batch_begin(step)
        while not compiled:
            time.sleep(0.01)
        assert step == 0 or plan.width(step) in compiled
    ahead.on_epoch_begin(1)
    ahead.close()
    assert sorted(compiled) == [4, 8, 16]
    # The first step is not waited for: it is traced first.
    assert waits[:2] == [(order[0], 0, 3), (order[1], 1, 3)]
    assert ahead.waited > 0 and not ahead.busy


def test_a_model_without_programs_has_no_threads(plans):
    ahead = made(plans, lambda rows, length: [])
    before = threading.active_count()
    ahead.on_epoch_begin(0)
    ahead.on_train_batch_begin(0)
    assert threading.active_count() == before and not ahead.busy
    ahead.close()


def test_what_cannot_be_compiled_ahead_is_left_to_its_step(plans):
    def fail():
        raise RuntimeError("out of memory")

    ahead = made(plans, lambda rows, length: [fail])
    ahead.on_epoch_begin(0)
    for step in range(len(plans(0))):
        ahead.on_train_batch_begin(step)
    ahead.close()
    assert not ahead.busy
