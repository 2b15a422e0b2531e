"""A step that is not finite changes nothing, is named, and ends the training or is counted."""

import numpy as np
import pytest
import tensorflow as tf

from kerasllm.data.batch_plan import plan_batches
from kerasllm.errors import JobError
from kerasllm.training.monitor import StepMonitor
from kerasllm.training.nan_guard import NonFiniteGuard
from kerasllm.training.optimizers import build_optimizer
from kerasllm.training.profiler import Profile
from tests.training.tiny import tiny_batches, tiny_model, weights_of


@pytest.fixture(scope="module", params=[1, 4], ids=["one by one", "executions of 4"])
def model(request):
    """A model that every test trains on, from where the last one left it."""
    model = tiny_model()
    optimizer = build_optimizer("sgd", 0.01, model.trainable_variables)
    model.compile(optimizer, steps_per_execution=request.param)
    return model


def batches(*bad: int, count: int = 12) -> tf.data.Dataset:
    """Returns batches of 8 rows, where those of some steps, from 1, have infinite weights."""
    weights = np.ones(8 * count, np.float32)
    for step in bad:
        weights[8 * (step - 1)] = np.inf
    inputs = tiny_batches(8 * count, 8).map(lambda x, y, weight: (x, y)).unbatch()
    rows = tf.data.Dataset.zip(inputs, tf.data.Dataset.from_tensor_slices(weights))
    return rows.map(lambda data, weight: (*data, weight)).batch(8, drop_remainder=True)


def fit(model, data, *callbacks, count: int = 12):
    return model.fit(data, steps_per_epoch=count, callbacks=list(callbacks), verbose=0)


def guard(said: list, skip: bool = True) -> NonFiniteGuard:
    return NonFiniteGuard(skip=skip, rows_of=lambda step: f"rows of {step}", on_skip=said.append)


def test_the_run_stops_and_names_the_rows(model):
    with pytest.raises(JobError, match="At step 6 the loss is (nan|inf)") as stopped:
        fit(model, batches(6), guard([], skip=False))
    assert stopped.value.where == "rows of 5" and "on_nan=skip" in stopped.value.fix
    assert stopped.value.exit_status == 1
    assert all(np.isfinite(weight).all() for weight in weights_of(model))


def test_such_steps_are_skipped_and_leave_no_trace(model):
    said, rows = [], []
    monitor = StepMonitor(
        lambda epoch: plan_batches(np.full(96, 8), 8, np.array([8])), 4, on_row=rows.append
    )
    history = fit(model, batches(2, 3, 7), guard(said), monitor).history
    assert [text.split(" is skipped")[0] for text in said] == ["step 2", "step 3", "step 7"]
    assert "rows of 6" in said[-1]
    assert monitor.timing()["skipped"] == 3 and rows[-1]["skipped"] == 3
    assert np.isfinite(history["loss"][-1]) and np.isfinite(history["accuracy"][-1])
    assert all(np.isfinite(row["loss"]) for row in rows)


def test_a_skipped_step_changes_no_weight(model):
    before = weights_of(model)
    fit(model, batches(1, 2, 3, 4, count=4), guard([]), count=4)
    for after, weight in zip(weights_of(model), before, strict=True):
        np.testing.assert_array_equal(after, weight)


def test_ten_in_a_row_stop_the_run(model):
    said = []
    with pytest.raises(JobError, match="At step 12 .* for the 10th step in a row"):
        fit(model, batches(1, *range(3, 13)), guard(said))
    assert len(said) == 10


def test_the_count_continues_where_a_run_was_stopped(model):
    first, second = guard([]), guard([])
    fit(model, batches(1, 2, 3, 4, count=4), first, count=4)
    second.set_state(first.get_state())
    with pytest.raises(JobError, match="At step 6 .* for the 10th"):
        fit(model, batches(*range(1, 9), count=8), second, count=8)


def test_a_profile_is_where_tensorboard_looks_for_it(model, tmp_path):
    profile = Profile(3, 5, tmp_path)
    fit(model, batches(), profile)
    assert profile.done
    assert list(tmp_path.glob("plugins/profile/*/*.xplane.pb"))


def test_steps_before_a_resume_are_not_profiled(model, tmp_path):
    profile = Profile(1, 2, tmp_path)
    profile.set_model(model)
    model.steps_done = 4
    profile.on_train_batch_begin(0)
    assert not profile.done and not list(tmp_path.iterdir())
