"""Validation at the right steps, early stopping with the best weights, rows that add up."""

from types import SimpleNamespace

import keras
import numpy as np
import pytest

from kerasllm.data.batch_plan import plan_batches
from kerasllm.training import monitor as monitor_module
from kerasllm.training.monitor import StepMonitor
from kerasllm.training.optimizers import build_optimizer
from kerasllm.training.schedules import WarmupSchedule
from kerasllm.training.validation import Validation
from tests.training.tiny import small_model, tiny_batches, tiny_model, weights_of


def fit(model, callbacks, epochs=4):
    model.fit(tiny_batches(), epochs=epochs, callbacks=callbacks, verbose=0)


def compiled(learning_rate=0.01, **options):
    model = tiny_model()
    model.compile(build_optimizer("sgd", learning_rate, model.trainable_variables, **options))
    return model


def test_it_validates_after_each_epoch():
    steps = []
    fit(compiled(), [Validation(lambda: {"loss": 1.0}, on_result=lambda s, _: steps.append(s))])
    assert steps == [3, 6, 9, 12]


def test_it_validates_every_few_steps_and_at_the_end():
    steps = []
    validation = Validation(lambda: {"loss": 1.0}, every=5, on_result=lambda s, _: steps.append(s))
    fit(compiled(), [validation])
    assert steps == [5, 10, 12]
    assert validation.best_step == 12


@pytest.mark.parametrize(
    ("metric", "values", "best"),
    [("loss", [0.9, 0.5, 0.7, 0.6, 0.1], 2), ("accuracy", [0.1, 0.2, 0.9, 0.3, 0.9], 3)],
)
def test_it_stops_early_and_restores_the_best_weights(metric, values, best):
    model = compiled(learning_rate=0.1)
    at_validation = []
    results = iter(values)

    def evaluate():
        at_validation.append(weights_of(model))
        return {metric: next(results)}

    validation = Validation(evaluate, metric=metric, patience=2)
    fit(model, [validation], epochs=5)
    assert len(at_validation) == best + 2
    assert validation.result == {metric: values[best - 1]} and validation.best_step == 3 * best
    for restored, kept in zip(weights_of(model), at_validation[best - 1], strict=True):
        np.testing.assert_array_equal(restored, kept)
    assert any(
        np.any(last != kept)
        for last, kept in zip(at_validation[-1], at_validation[best - 1], strict=True)
    )


def test_a_change_below_min_delta_does_not_count():
    results = iter([0.50, 0.49, 0.48, 0.2])
    validation = Validation(lambda: {"loss": next(results)}, patience=2, min_delta=0.1)
    fit(compiled(), [validation])
    assert validation.best_step == 3


def test_without_patience_the_last_weights_stay():
    model = compiled(learning_rate=0.1)
    last = []
    results = iter([0.1, 0.9, 0.9, 0.9])

    def evaluate():
        last[:] = weights_of(model)
        return {"loss": next(results)}

    fit(model, [Validation(evaluate)])
    for now, then in zip(weights_of(model), last, strict=True):
        np.testing.assert_array_equal(now, then)


def test_the_moving_average_is_what_is_validated_and_kept():
    """Against the average computed by hand from the weights after each step."""
    momentum = 0.8
    model = compiled(learning_rate=0.1, ema=momentum)
    average, validated = [], []

    class Average(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            weights = weights_of(model)
            # It starts with the weights after the first step.
            before = average or weights
            average[:] = [
                momentum * old + (1 - momentum) * new
                for old, new in zip(before, weights, strict=True)
            ]

    def evaluate():
        validated.append(weights_of(model))
        return {"loss": 1.0}

    fit(model, [Average(), Validation(evaluate)], epochs=2)
    for ours, expected in zip(validated[-1], average, strict=True):
        np.testing.assert_allclose(ours, expected, atol=1e-6)
    for ours, expected in zip(weights_of(model), average, strict=True):
        np.testing.assert_allclose(ours, expected, atol=1e-6)


def test_the_rows_of_the_monitor_add_up():
    lengths = np.random.default_rng(0).integers(3, 9, 21)

    def plan(epoch):
        return plan_batches(lengths, 8, np.array([5, 8]), seed=0, epoch=epoch)

    rows, steps = [], []
    monitor = StepMonitor(plan, 2, on_step=steps.append, on_row=rows.append)
    fit(compiled(), [monitor], epochs=2)
    assert steps == [1, 2, 3, 4, 5, 6]
    assert [row["step"] for row in rows] == [1, 2, 3, 4, 6]
    assert [row["epoch"] for row in rows] == pytest.approx([1 / 3, 2 / 3, 1, 4 / 3, 2], abs=1e-4)
    assert {"loss", "accuracy", "learning_rate", "tokens_per_second", "seconds"} <= set(rows[0])
    timing = monitor.timing()
    assert timing["real_tokens"] == 2 * lengths.sum()
    assert timing["processed_tokens"] == sum(int(plan(e).widths.sum()) * 8 for e in (0, 1))
    # What the plan says before the training.
    assert timing["processed_tokens"] == sum(plan(e).training_tokens for e in (0, 1))
    assert timing["train_seconds"] == pytest.approx(rows[-1]["seconds"])


class Largest(keras.metrics.Metric):
    """The largest label so far: no mean, and no sum."""

    def __init__(self):
        super().__init__(name="largest")
        self.value = self.add_variable((), "zeros", name="largest")

    def update_state(self, y_true, y_pred, sample_weight=None):
        largest = keras.ops.max(keras.ops.cast(y_true, "float32"))
        self.value.assign(keras.ops.maximum(self.value, largest))

    def result(self):
        return self.value


class RootMean(keras.metrics.Mean):
    """The root of the mean label."""

    def update_state(self, y_true, y_pred, sample_weight=None):
        super().update_state(y_true, sample_weight)

    def result(self):
        return keras.ops.sqrt(super().result())


def test_loss_and_metrics_of_a_row_are_those_since_the_row_before():
    rows = []
    monitor = StepMonitor(
        lambda epoch: plan_batches(np.full(24, 8), 8, np.array([8])), 2, on_row=rows.append
    )
    model = small_model()
    accuracy = keras.metrics.SparseCategoricalAccuracy(name="accuracy")
    metrics = [accuracy, RootMean(name="root"), Largest()]
    model.compile(keras.optimizers.SGD(0.0), metrics=metrics)
    batches = tiny_batches()
    # Nothing is learned: a batch measures the same in training as alone.
    alone = [model.evaluate(batches.skip(k).take(1), return_dict=True, verbose=0) for k in range(3)]
    history = model.fit(
        batches, epochs=2, callbacks=[monitor], validation_data=batches, verbose=0
    ).history
    rows = [row for row in rows if "validation" not in row]
    assert [row["step"] for row in rows] == [1, 2, 3, 4, 6]
    for row, batch in zip(rows[:4], (0, 1, 2, 0)):
        for name in ("loss", "accuracy", "root"):
            assert row[name] == pytest.approx(alone[batch][name], rel=1e-4)
    # Rows count alike in a metric, whatever they weigh.
    weights = [float((batch[2].numpy() != 0).sum()) for batch in batches]
    both = sum(weights[k] * alone[k]["accuracy"] for k in (1, 2)) / sum(weights[1:])
    assert rows[4]["accuracy"] == pytest.approx(both, rel=1e-4)
    # What is no mean is that of the epoch, at its end.
    assert ["largest" in row for row in rows] == [False, False, True, False, True]
    # Keras sees the epoch's own.
    whole = sum(w * one["accuracy"] for w, one in zip(weights, alone)) / sum(weights)
    assert history["accuracy"] == pytest.approx([whole, whole], rel=1e-4)
    assert monitor.epoch_metrics["accuracy"] == pytest.approx(whole, rel=1e-4)


def test_the_monitor_tells_what_fit_validated_and_leaves_its_time_out(monkeypatch):
    seconds = [0]
    monkeypatch.setattr("kerasllm.training.monitor.time.perf_counter", lambda: seconds[0])

    class Clock(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            seconds[0] += 10

        def on_test_end(self, logs=None):
            seconds[0] += 1000

    rows = []
    lengths = np.full(24, 8)
    monitor = StepMonitor(
        lambda epoch: plan_batches(lengths, 8, np.array([8])), 1, on_row=rows.append
    )
    history = (
        compiled()
        .fit(
            tiny_batches().repeat(2),
            epochs=2,
            steps_per_epoch=3,
            validation_data=tiny_batches(),
            callbacks=[Clock(), monitor],
            shuffle=False,
            verbose=0,
        )
        .history
    )
    validated = [row for row in rows if "validation" in row]
    assert [row["step"] for row in validated] == [3, 6]
    assert [row["validation"]["loss"] for row in validated] == history["val_loss"]
    assert [row["validation"]["accuracy"] for row in validated] == history["val_accuracy"]
    assert monitor.seconds == 60


def test_time_that_is_excluded_does_not_count(monkeypatch):
    clock = iter(range(0, 1000, 10))
    # Of this module alone: others ask for the time as well.
    time = SimpleNamespace(perf_counter=lambda: next(clock))
    monkeypatch.setattr("kerasllm.training.monitor.time", time)
    monitor = StepMonitor(
        lambda epoch: plan_batches(np.full(24, 8), 8, np.array([8])),
        100,
        on_step=lambda step: monitor.exclude(),
        on_row=lambda row: None,
    )
    fit(compiled(), [monitor], epochs=1)
    assert monitor.seconds == 30


def test_what_first_uses_of_a_length_take_is_told_apart(monkeypatch):
    seconds = [0.0]
    monkeypatch.setattr("kerasllm.training.monitor.time.perf_counter", lambda: seconds[0])
    # Two batches padded to 4, then two to 8, in both epochs.
    plan = plan_batches(np.array([4] * 16 + [8] * 16), 8, np.array([4, 8]))
    assert plan.widths.tolist() == [4, 4, 8, 8]
    took = iter([7, 0.4, 3.8, 0.8, 0.4, 0.4, 0.8, 0.8])

    class Clock(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            seconds[0] += next(took)

    monitor = StepMonitor(lambda epoch: plan, 100, on_row=lambda row: None)
    assert monitor.first_use_seconds() is None
    compiled().fit(
        tiny_batches().repeat(4),
        epochs=2,
        steps_per_epoch=4,
        callbacks=[Clock(), monitor],
        verbose=0,
    )
    # A step takes 0.1 s a token of a row's length: 7 - 0.4 and 3.8 - 0.8.
    assert monitor.first_use_seconds() == pytest.approx(6.6 + 3.0)


def test_the_learning_rate_of_a_row_is_that_of_its_step():
    schedule = WarmupSchedule(0.1, steps=6, warmup_steps=2)
    model = compiled(learning_rate=schedule)
    rows = []
    monitor = StepMonitor(
        lambda epoch: plan_batches(np.full(24, 8), 8, np.array([8])), 1, on_row=rows.append
    )
    fit(model, [monitor], epochs=2)
    expected = [float(schedule(step)) for step in range(6)]
    assert [row["learning_rate"] for row in rows] == pytest.approx(expected)


def test_early_stopping_that_begins_with_a_resume_keeps_what_it_has_seen():
    model = compiled(learning_rate=0.1)
    results = iter([0.1, 0.9, 0.5, 0.7, 0.6])
    before = Validation(lambda: {"loss": next(results)})
    fit(model, [before], epochs=2)
    watching = Validation(lambda: {"loss": next(results)}, patience=2)
    watching.set_state(before.get_state())
    kept = []
    watching._on_result = lambda step, result: kept.append(weights_of(model))
    model.fit(tiny_batches(), epochs=5, initial_epoch=2, callbacks=[watching], verbose=0)
    # The best of those that it has seen, 0.5, and not the 0.1 whose weights are gone.
    assert (watching.best_step, watching.result) == (9, {"loss": 0.5})
    for ours, best in zip(weights_of(model), kept[0], strict=True):
        np.testing.assert_array_equal(ours, best)


def test_a_second_fit_starts_afresh():
    results = iter([0.1, 0.9, 0.9, 0.9, 0.9])
    model = compiled(learning_rate=0.1)
    validation = Validation(lambda: {"loss": next(results)}, patience=3)
    fit(model, [validation], epochs=3)
    fit(model, [validation], epochs=2)
    assert next(results, None) is None and validation.best_step == 3


def test_the_time_left_is_that_of_steps_beside_which_nothing_is_compiled():
    plan = plan_batches(np.full(64, 8), 8, np.array([8]), seed=0)
    clock, left = SimpleNamespace(now=0.0), []
    ahead = SimpleNamespace(waited=0.0, busy=True)
    monitor = StepMonitor(
        lambda epoch: plan,
        1,
        on_row=(rows := []).append,
        ahead=ahead,
        on_pace=left.append,
        steps=16,
    )
    optimizer = SimpleNamespace(learning_rate=0.1)
    monitor.set_model(
        SimpleNamespace(optimizer=optimizer, metrics=[], steps_done=0, trace_seconds=0.0)
    )
    monitor.model.last_execution = {
        "step_loss": np.ones(1),
        "gradient_norm": np.ones(1),
        "applied": np.ones(1, bool),
        "input_seconds": np.zeros(1),
    }
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(monitor_module.time, "perf_counter", lambda: clock.now)
        monitor.on_train_begin()
        monitor.on_epoch_begin(0)
        # The first one is traced and waits for XLA, the second one shares the cores with it.
        for step, (seconds, traced, waited, busy) in enumerate(
            [(9, 4, 3, True), (5, 0, 0, True), (1, 0, 0, False), (1, 0, 0, False)]
        ):
            ahead.busy, ahead.waited = busy, ahead.waited + waited
            monitor.model.trace_seconds += traced
            monitor.on_train_batch_begin(step)
            clock.now += seconds
            monitor.on_train_batch_end(step, {"loss": 1.0})
    assert left == [None, 70, 13, 12]
    assert [row["step_seconds"] for row in rows] == [2, 5, 1, 1]
    assert monitor.seconds == 16
