"""Checkpoints come when they are due, once each, and on all workers at the same step."""

import dataclasses

import keras
import numpy as np
import pytest

from kerasllm.errors import RunError
from kerasllm.training.checkpointing import Checkpoints, TrainingStopped, position
from kerasllm.training.checkpoints import CheckpointStore
from kerasllm.training.optimizers import build_optimizer
from kerasllm.training.validation import Validation
from tests.training.tiny import tiny_batches, tiny_model


@pytest.fixture(scope="module")
def model():
    """A model that every test trains on: 3 steps an epoch."""
    model = tiny_model()
    model.compile(build_optimizer("sgd", 0.01, model.trainable_variables))
    return model


@pytest.fixture
def clock(monkeypatch):
    """The time in minutes, which passes when a test says so."""
    minutes = [0.0]
    monkeypatch.setattr("kerasllm.training.checkpointing.time.monotonic", lambda: 60 * minutes[0])
    return minutes


class Saved(CheckpointStore):
    """A store that also tells what was asked of it."""

    def __init__(self, folder, **options):
        super().__init__(folder, **options)
        self.asked = []

    def save(self, step, arrays, state, *, best=False):
        self.asked.append((step, best))
        super().save(step, arrays, state, best=best)


class Each(keras.callbacks.Callback):
    """Calls a function after each step with its number."""

    def __init__(self, function):
        super().__init__()
        self._function = function

    def on_train_batch_end(self, batch, logs=None):
        self._function(self.model.steps_done)


def fit(model, *callbacks, epochs=4):
    data = tiny_batches().repeat()
    model.fit(data, epochs=epochs, steps_per_epoch=3, callbacks=list(callbacks), verbose=0)


def test_they_are_saved_every_few_steps_and_the_last_of_them_stay(model, tmp_path):
    store = Saved(tmp_path, keep=2)
    fit(model, Checkpoints(store, every=2))
    assert [step for step, _ in store.asked] == [2, 4, 6, 8, 10, 12]
    assert store.steps() == [10, 12]


def test_they_are_saved_every_few_minutes(model, tmp_path, clock):
    store = Saved(tmp_path)
    passing = Each(lambda step: clock.__setitem__(0, clock[0] + 1))
    fit(model, passing, Checkpoints(store, minutes=4))
    assert [step for step, _ in store.asked] == [4, 8, 12]


def test_workers_whose_clocks_differ_save_once_and_a_step_later(model, tmp_path, clock):
    """One process stands for all: what it asks for is told with the next step."""
    store = Saved(tmp_path)
    passing = Each(lambda step: clock.__setitem__(0, clock[0] + 1))
    fit(model, passing, Checkpoints(store, minutes=4, workers=2))
    # And once at the end, so that the training can be continued.
    assert [step for step, _ in store.asked] == [5, 10, 12]


def test_the_last_step_is_saved_where_checkpoints_are_wanted(model, tmp_path):
    for every, asked in ((500, [(12, False)]), (None, []), (12, [(12, False)])):
        store = Saved(tmp_path / str(every))
        fit(model, Checkpoints(store, every=every))
        assert store.asked == asked


def test_the_best_one_stays(model, tmp_path):
    store = Saved(tmp_path, keep=1)
    values = iter([0.5, 0.2, 0.4, 0.3])
    validation = Validation(lambda: {"loss": next(values)})
    fit(model, validation, Checkpoints(store, every=2, validation=validation))
    assert store.asked == [(2, False), (3, True), (4, False), (6, True)] + [
        (step, False) for step in (8, 10, 12)
    ]
    assert store.steps() == [6, 12] and store.best_step == 6


@pytest.mark.parametrize(("workers", "saved_at"), [(1, 2), (2, 3)])
def test_a_stop_is_saved(model, tmp_path, workers, saved_at):
    store = Saved(tmp_path)
    checkpoints = Checkpoints(store, workers=workers)
    with pytest.raises(TrainingStopped):
        fit(model, Each(lambda step: checkpoints.stop() if step == 2 else None), checkpoints)
    assert checkpoints.stopped and store.steps() == [saved_at]


def test_a_stop_while_validating_is_saved_after_it(model, tmp_path):
    store = Saved(tmp_path)
    validation = Validation(lambda: checkpoints.stop() or {"loss": 1.0})
    checkpoints = Checkpoints(store, states={"validation": validation}, validation=validation)
    with pytest.raises(TrainingStopped):
        fit(model, validation, checkpoints)
    found = store.newest()
    assert found.step == 3 and found.state["states"]["validation"]["_validated_at"] == 3
    assert position(found, 3) == {"initial_epoch": 0, "initial_step": 3, "epoch_ended": True}


def test_a_stop_and_an_early_stop_at_one_step_leave_a_training_that_has_ended(model, tmp_path):
    store = Saved(tmp_path)
    validation = Validation(lambda: {"loss": 1.0}, every=2, patience=1)
    checkpoints = Checkpoints(store, states={"validation": validation}, validation=validation)
    asking = Each(lambda step: checkpoints.stop() if step == 4 else None)
    with pytest.raises(TrainingStopped):
        fit(model, asking, validation, checkpoints)
    assert store.newest().step == 4 and store.newest().state["epoch_ended"]


def test_a_checkpoint_of_another_model_is_refused(model, tmp_path):
    store = Saved(tmp_path)
    fit(model, Checkpoints(store, every=3), epochs=1)
    other = tiny_model()
    other.compile(build_optimizer("adamw", 0.01, other.trainable_variables))
    with pytest.raises(RunError, match="another model or optimizer: optimizer/"):
        Checkpoints(None).restore(other, store.newest())


@pytest.mark.parametrize(
    ("name", "array", "message"),
    [
        ("metrics/00000", None, "metrics/00000 is not there"),
        ("metrics/00000", np.zeros(3, np.float32), r"metrics/00000 is \(3,\) of float there"),
        ("model/", np.zeros((), np.complex64), r"of complex there and"),
        ("model/", np.zeros((1 << 20,), np.float32), r"is \(1048576,\) of float there"),
        ("model/", None, "is not there"),
        ("model/extra", np.zeros(1, np.float32), "and not here"),
        ("best/00000", np.zeros(7, np.float32), "best/00000 is"),
    ],
)
def test_forged_arrays_are_refused_by_name(model, tmp_path, name, array, message):
    store = Saved(tmp_path)
    validation = Validation(lambda: {"loss": 1.0}, patience=3)
    checkpoints = Checkpoints(store, every=3, states={"v": validation}, validation=validation)
    fit(model, validation, checkpoints, epochs=1)
    found = store.newest()
    arrays = dict(found.arrays)
    known = next((each for each in sorted(arrays) if each.startswith(name)), name)
    arrays.pop(known, None)
    if array is not None:
        arrays[known if name.endswith("/") else name] = array
    with pytest.raises(RunError, match=message):
        checkpoints.restore(model, dataclasses.replace(found, arrays=arrays))


@pytest.mark.parametrize("state", [{}, {"v": None}, {"v": []}, {"v": {"best_step": 1}}])
def test_forged_states_are_refused_by_name(model, tmp_path, state):
    store = Saved(tmp_path)
    validation = Validation(lambda: {"loss": 1.0})
    checkpoints = Checkpoints(store, every=3, states={"v": validation}, validation=validation)
    fit(model, validation, checkpoints, epochs=1)
    found = store.newest()
    forged = dataclasses.replace(found, state={**found.state, "states": state})
    with pytest.raises(RunError, match="does not hold the state of 'v'"):
        checkpoints.restore(model, forged)
