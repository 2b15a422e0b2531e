"""A model of one's own on the engine gives Keras' numbers, or says what it cannot do."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from kerasllm.training.fit import FineTunedModel

RANDOM = np.random.default_rng(0)
X = RANDOM.normal(size=(24, 4)).astype("float32")
Y = RANDOM.normal(size=24).astype("float32")
CLASSES = RANDOM.integers(0, 3, 24)


@pytest.fixture(autouse=True)
def _seed():
    keras.utils.set_random_seed(0)


def dense(units: int = 1, **options) -> keras.Model:
    inputs = keras.Input((4,))
    return keras.Model(inputs, keras.layers.Dense(units, **options)(inputs))


def losses_of_both(task: keras.Model, x, y, loss, metrics=(), **options) -> list[list[float]]:
    """What Keras measures, and what the engine does."""
    found = []
    for model in (task, FineTunedModel(task)):
        model.compile("sgd", loss, metrics=list(metrics))
        values = model.evaluate(x, y, verbose=0, batch_size=len(y), **options)
        found.append(np.ravel(values).tolist())
    return found


def test_a_lambda_as_a_loss_and_as_a_metric_has_a_name():
    model = FineTunedModel(dense())
    model.compile("adam", loss=lambda y, p: (y - p) ** 2, metrics=[lambda y, p: abs(y - p)])
    history = model.fit(X, Y[:, None], verbose=0).history
    assert set(history) == {"loss", "lambda"}
    # Nothing is left behind that another model would stumble over.
    plain = dense()
    plain.compile("adam", "mse")
    plain.fit(X, Y, verbose=0)


def test_a_function_of_the_whole_batch_as_a_metric():
    def rmse(y_true, y_pred):
        return keras.ops.sqrt(keras.ops.mean((y_true - y_pred) ** 2))

    keras_own, ours = losses_of_both(dense(), X, Y[:, None], "mse", [rmse])
    np.testing.assert_allclose(ours, keras_own, rtol=1e-5)


def test_targets_that_the_loss_ignores_do_not_count():
    inputs = keras.Input((6,))
    task = keras.Model(inputs, keras.layers.Dense(5)(keras.layers.Embedding(9, 4)(inputs)))
    ids = RANDOM.integers(0, 9, (8, 6))
    y = RANDOM.integers(-1, 5, (8, 6))
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True, ignore_class=-1)
    keras_own, ours = losses_of_both(task, ids, y, loss)
    np.testing.assert_allclose(ours[0], keras_own[0], rtol=1e-5)


def test_a_mask_of_tokens_is_refused_unless_weights_say_the_same():
    inputs = keras.Input((6,))
    x = keras.layers.Embedding(9, 4, mask_zero=True)(inputs)
    model = FineTunedModel(keras.Model(inputs, keras.layers.Dense(5)(x)))
    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    ids, y = RANDOM.integers(0, 9, (8, 6)), RANDOM.integers(0, 5, (8, 6))
    with pytest.raises(ValueError, match="mask_zero=True"):
        model.fit(ids, y, verbose=0)
    weights = (ids != 0).astype("float32")
    found = model.evaluate(ids, y, sample_weight=weights, verbose=0, return_dict=True)
    each = keras.losses.SparseCategoricalCrossentropy(from_logits=True, reduction="none")(
        y, tf.identity(model(ids))
    )
    assert found["loss"] == pytest.approx(np.average(each, weights=weights), rel=1e-5)


def test_metrics_and_weighted_metrics_of_one_name_are_both_there():
    model = FineTunedModel(dense())
    model.compile("sgd", "mse", metrics=["mae"], weighted_metrics=["mae"])
    weights = np.arange(24.0)
    found = model.evaluate(X, Y[:, None], sample_weight=weights, verbose=0, return_dict=True)
    errors = abs(model.predict(X, verbose=0)[:, 0] - Y)
    assert found["mae"] == pytest.approx(errors[1:].mean(), rel=1e-4)
    assert found["weighted_mae"] == pytest.approx(np.average(errors, weights=weights), rel=1e-4)


def test_a_loss_that_is_no_number_shows_and_stops():
    model = FineTunedModel(dense())
    model.compile(keras.optimizers.SGD(1e30), "mse")
    history = model.fit(
        X, Y, epochs=6, batch_size=8, verbose=0, callbacks=[keras.callbacks.TerminateOnNaN()]
    )
    assert len(history.history["loss"]) < 6
    again = FineTunedModel(dense(kernel_initializer="ones"))
    again.compile("sgd", "mse")
    with np.errstate(invalid="ignore"):
        lost = again.fit(X, Y * np.nan, verbose=0).history["loss"]
    assert np.isnan(lost[0])


def test_validation_data_win_over_a_split():
    model = FineTunedModel(dense())
    model.compile("sgd", "mse")
    model.fit(X, Y, batch_size=4, validation_split=0.5, validation_data=(X, Y), verbose=0)
    assert model.steps_done == 6


def test_the_layers_are_those_of_the_model():
    task = dense(name="head")
    model = FineTunedModel(task)
    assert model.layers == task.layers and model.get_layer("head") is task.layers[-1]
    assert model.input is task.input and model.output is task.output
    for layer in model.layers[:-1]:
        layer.trainable = False
    model.get_layer("head").trainable = False
    assert not model.trainable_variables


def test_a_sequential_model_and_a_subclassed_one():
    class Own(keras.Model):
        def __init__(self):
            super().__init__()
            self.dense = keras.layers.Dense(1)

        def call(self, inputs):
            return self.dense(inputs)

    called = Own()
    called(X)
    for task in (keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)]), called):
        model = FineTunedModel(task)
        model.compile("adam", "mse", metrics=["mae"])
        assert np.isfinite(model.fit(X, Y[:, None], verbose=0).history["mae"]).all()


def test_several_inputs_in_a_list():
    first, second = keras.Input((4,)), keras.Input((4,))
    model = FineTunedModel(keras.Model([first, second], keras.layers.Add()([first, second])))
    model.compile("sgd", "mse")
    np.testing.assert_allclose(model.predict([X, X], verbose=0), 2 * X, rtol=1e-6)
    np.testing.assert_allclose(model.predict_on_batch([X, X]), 2 * X, rtol=1e-6)
    assert model.evaluate([X, X], 2 * X, verbose=0) == pytest.approx(0, abs=1e-6)


def test_a_py_dataset_is_shuffled_and_none_of_its_batches_is_lost():
    class Batches(keras.utils.PyDataset):
        asked: list = []

        def __len__(self):
            return 12

        def __getitem__(self, number):
            self.asked.append(number)
            return X[2 * number : 2 * number + 2], Y[2 * number : 2 * number + 2]

    batches = Batches()
    model = FineTunedModel(dense())
    model.compile("sgd", "mse")
    model.fit(batches, verbose=0)
    order = batches.asked[-12:]
    assert sorted(order) == list(range(12)) and order != sorted(order)
    batches.asked.clear()
    model.fit(batches, shuffle=False, verbose=0)
    assert batches.asked[-12:] == list(range(12))


@pytest.mark.parametrize(
    "options",
    [
        {"steps_per_execution": 0},
        {"steps_per_execution": "auto"},
        {"accumulate": 3.5},
        {"jit_compile": "yes"},
    ],
    ids=str,
)
def test_values_that_compile_cannot_use_are_refused(options):
    with pytest.raises(ValueError, match=next(iter(options))):
        FineTunedModel(dense()).compile("sgd", "mse", **options)


@pytest.mark.parametrize("options", [{"batch_size": 0}, {"steps_per_epoch": 0}], ids=str)
def test_no_rows_and_no_steps_are_refused(options):
    model = FineTunedModel(dense())
    model.compile("sgd", "mse")
    with pytest.raises(ValueError, match="1 (step )?or more"):
        model.fit(X, Y, verbose=0, **options)


def test_another_float(monkeypatch):
    keras.config.set_floatx("float64")
    try:
        model = FineTunedModel(dense())
        model.compile(keras.optimizers.SGD(0.01), "mse")
        assert np.isfinite(model.fit(X, Y[:, None], verbose=0).history["loss"]).all()
    finally:
        keras.config.set_floatx("float32")
