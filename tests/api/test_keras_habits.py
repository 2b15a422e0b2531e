"""What Keras users type first works as typed, or is refused by a message that says what to type.

In the order of Keras' guides: training and evaluation, saving, callbacks, transfer learning,
distribution.
"""

import csv
import json
import logging

import keras
import keras_hub
import numpy as np
import pytest
import tensorflow as tf

import kerasllm.models
from kerasllm.data.dataset import Dataset
from kerasllm.errors import DataError, PresetError
from kerasllm.models.causal_lm import CausalLM
from kerasllm.models.text_classifier import Outputs, TextClassifier
from kerasllm.training.fit import FineTunedModel
from tests.toy import save_toy_preset, toy_rows

LABELS = ["negative", "positive"]
ROWS = toy_rows(64, seed=5)
TEXTS = [text for text, _ in ROWS]
NAMES = [label for _, label in ROWS]
NUMBERS = [LABELS.index(label) for label in NAMES]


@pytest.fixture(autouse=True)
def _own_cache(session_cache, monkeypatch):
    monkeypatch.setenv("KERASLLM_CACHE", str(session_cache))
    keras.utils.set_random_seed(0)


def classifier(preset, **options) -> TextClassifier:
    options = {"labels": LABELS, "precision": "float32", "dropout": 0.0, "max_length": 64} | options
    return TextClassifier.from_preset(preset, **options)


@pytest.fixture(scope="module")
def preset(tmp_path_factory):
    """The folder of a toy encoder with one layer, which is traced in no time."""
    return save_toy_preset(tmp_path_factory.mktemp("preset") / "toy", num_layers=1)


@pytest.fixture(scope="module")
def compiled(preset) -> tuple[TextClassifier, list]:
    """A classifier of the toy encoder, compiled, and the values of its variables."""
    model = classifier(preset)
    model.compile(keras.optimizers.Adam(5e-3), fused=False, slices=1)
    return model, [variable.numpy() for variable in [*model.variables, *model.optimizer.variables]]


@pytest.fixture
def model(compiled) -> TextClassifier:
    """The classifier as it was before the training of another test."""
    model, values = compiled
    for variable, value in zip([*model.variables, *model.optimizer.variables], values, strict=True):
        variable.assign(value)
    model.steps_done = 0
    model.reset_metrics()
    return model


@pytest.fixture(scope="module")
def batch(preset):
    """What KerasHub's preprocessor makes of the texts."""
    return classifier(preset).preprocessor(TEXTS)


def fits(model, *data, **options) -> dict:
    """Fits a model and returns its history, which is finite."""
    history = model.fit(*data, verbose=0, **options).history
    assert np.isfinite(history["loss"]).all()
    return history


# Building


def test_a_preset_with_labels(preset):
    model = classifier(preset)
    assert list(model.labels) == LABELS
    assert model.preprocessor.sequence_length == 64
    assert model.tokenizer.pad_token_id == model.preprocessor.tokenizer.pad_token_id


def test_a_preset_with_a_number_of_classes(preset):
    model = classifier(preset, labels=None, num_classes=3)
    assert model.predict(TEXTS[:2], verbose=0).shape == (2, 3)


def test_a_preset_without_either_is_refused(preset):
    with pytest.raises(PresetError, match="num_classes"):
        TextClassifier.from_preset(preset)


def test_a_run_is_a_preset(toy_run):
    model = TextClassifier.from_preset(toy_run)
    assert list(model.labels) == LABELS
    again = TextClassifier.from_preset(toy_run / "model", labels=LABELS)
    np.testing.assert_allclose(
        model.predict(TEXTS, verbose=0), again.predict(TEXTS, verbose=0), atol=1e-6
    )


def test_other_labels_are_a_new_head(toy_run):
    model = TextClassifier.from_preset(toy_run, labels=["a", "b", "c"])
    assert model.predict(TEXTS[:1], verbose=0).shape == (1, 3)


def test_weights_may_be_left_out(preset):
    pretrained, fresh = (
        classifier(preset, load_weights=each).backbone.get_weights() for each in (True, False)
    )
    assert any(not np.allclose(a, b) for a, b in zip(pretrained, fresh, strict=True))


@pytest.mark.parametrize("precision", ["float32", "mixed_bfloat16"])
def test_a_precision(preset, precision):
    assert classifier(preset, precision=precision).dtype_policy.name == precision


def test_the_global_dtype_policy(preset):
    keras.config.set_dtype_policy("mixed_float16")
    try:
        assert classifier(preset, precision=None).dtype_policy.name == "mixed_float16"
    finally:
        keras.config.set_dtype_policy("float32")


def test_low_rank_adapters(preset):
    model = classifier(preset, lora={"rank": 2})
    trained = sum(np.prod(v.shape) for v in model.trainable_variables)
    assert trained < 0.2 * model.count_params()
    model.compile(keras.optimizers.Adam(1e-2))
    fits(model, TEXTS, NAMES)


def test_frozen_layers(preset):
    model = classifier(preset, freeze="backbone")
    before = [v.numpy() for v in model.backbone.variables]
    model.compile(keras.optimizers.Adam(1e-2))
    fits(model, TEXTS, NAMES)
    for old, new in zip(before, model.backbone.variables, strict=True):
        np.testing.assert_array_equal(old, new.numpy())


def test_the_old_names(preset):
    model = kerasllm.models.bert_classifier(preset, 2)
    assert isinstance(model, TextClassifier) and callable(kerasllm.models.gpt_causal_lm)


def test_a_summary_and_a_count_of_weights(model):
    lines = []
    model.summary(print_fn=lines.append)
    assert lines and model.count_params() == model.task.count_params()


# Inputs


@pytest.mark.parametrize(
    "texts",
    [
        lambda: TEXTS,
        lambda: tuple(TEXTS),
        lambda: np.array(TEXTS),
        lambda: np.array(TEXTS, dtype=object),
        lambda: tf.constant(TEXTS),
        lambda: pytest.importorskip("pandas").Series(TEXTS),
        lambda: tf.data.Dataset.from_tensor_slices(TEXTS).batch(10),
        lambda: tf.data.Dataset.from_tensor_slices(TEXTS),
        lambda: tf.data.Dataset.from_tensor_slices((TEXTS, NUMBERS)).batch(10),
    ],
    ids=["list", "tuple", "array", "objects", "tensor", "series", "batches", "dataset", "labelled"],
)
def test_predict_takes_texts(model, texts):
    logits = model.predict(texts(), verbose=0)
    assert logits.shape == (64, 2) and logits.dtype == np.float32
    np.testing.assert_allclose(logits[:3], model.predict(TEXTS[:3], verbose=0), atol=1e-5)


@pytest.mark.parametrize(
    "labels",
    [
        lambda: NAMES,
        lambda: NUMBERS,
        lambda: np.array(NUMBERS),
        lambda: np.array(NUMBERS)[:, None],
        lambda: np.array(NAMES),
        lambda: pytest.importorskip("pandas").Series(NAMES),
        lambda: keras.utils.to_categorical(NUMBERS),
        lambda: tf.constant(NUMBERS),
    ],
    ids=["names", "numbers", "array", "column", "strings", "series", "one_hot", "tensor"],
)
def test_fit_and_evaluate_take_texts_and_labels(model, labels):
    history = fits(model, TEXTS, labels(), epochs=8, batch_size=16)
    assert history["accuracy"][-1] > 0.9
    loss, accuracy = model.evaluate(TEXTS, labels(), verbose=0)
    assert accuracy > 0.9 and loss < 0.5


def test_what_the_preprocessor_makes(model, batch):
    assert batch["padding_mask"].dtype == tf.bool
    fits(model, batch, np.array(NUMBERS), epochs=2, batch_size=16)
    np.testing.assert_allclose(
        model.predict(batch, verbose=0), model.predict(TEXTS, verbose=0), atol=1e-4
    )


def test_a_dataset_of_the_preprocessor(model):
    dataset = tf.data.Dataset.from_tensor_slices((TEXTS, NUMBERS)).batch(16)
    dataset = dataset.map(lambda x, y: (model.preprocessor(x), y))
    history = fits(model, dataset, validation_data=dataset)
    assert "val_accuracy" in history


def test_a_dataset_of_texts_and_labels(model):
    dataset = tf.data.Dataset.from_tensor_slices((TEXTS, NUMBERS)).batch(8)
    history = fits(model, dataset, epochs=6)
    assert model.steps_done == 6 * 8 and history["accuracy"][-1] > 0.9


def test_an_endless_dataset_of_texts_needs_its_steps(model):
    dataset = tf.data.Dataset.from_tensor_slices((TEXTS, NUMBERS)).repeat().batch(8)
    with pytest.raises(DataError, match="infinite"):
        model.fit(dataset, verbose=0)
    fits(model, dataset, steps_per_epoch=3, epochs=2)
    assert model.steps_done == 6


def test_classify_gives_labels_with_probabilities(model):
    found = model.classify(TEXTS[:2])
    assert found[0]["text"] == TEXTS[0] and found[0]["label"] in LABELS
    assert sum(found[0]["probabilities"].values()) == pytest.approx(1.0)


def test_one_text_without_brackets_is_refused(model):
    for call in (model.predict, model.classify):
        with pytest.raises(ValueError, match="with brackets"):
            call("a great film")


def test_a_frame_is_told_to_say_its_columns(model):
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame({"review": TEXTS, "stars": NAMES})
    with pytest.raises(ValueError, match="from_pandas"):
        model.fit(frame, verbose=0)
    fits(model, frame["review"], frame["stars"])


def test_texts_without_labels_are_refused(model):
    with pytest.raises(ValueError, match="label for each text"):
        model.fit(TEXTS, verbose=0)


def test_lists_of_different_lengths_are_refused(model):
    with pytest.raises(DataError, match="different lengths"):
        model.fit(TEXTS, NUMBERS[:-1], verbose=0)


def test_a_label_that_is_none_is_refused_by_name(model):
    with pytest.raises(DataError, match="neutral"):
        model.fit(TEXTS, ["neutral", *NAMES[1:]], verbose=0)


def test_calling_the_model_on_texts_is_refused(model):
    with pytest.raises(ValueError, match="model.preprocessor"):
        model(tf.constant(TEXTS[:2]))
    with pytest.raises(ValueError, match="lack .*padding_mask.*preprocessor"):
        model({"token_ids": np.ones((2, 4), "int32")})


def test_a_generator_of_texts_is_refused(model):
    with pytest.raises(ValueError, match="as lists, arrays or a `tf.data.Dataset`"):
        model.fit(iter([(TEXTS[:4], NUMBERS[:4])]), steps_per_epoch=1, verbose=0)


def test_soft_labels_of_texts_are_refused(model):
    with pytest.raises(ValueError, match="between 0 and 1"):
        model.fit(TEXTS, np.full((64, 2), 0.5), verbose=0)


def test_a_training_loop_by_hand(model, batch):
    optimizer = keras.optimizers.Adam(5e-3)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    seen = []
    for _ in range(8):
        with tf.GradientTape() as tape:
            value = loss(np.array(NUMBERS), model(batch, training=True))
        gradients = tape.gradient(value, model.trainable_weights)
        optimizer.apply(gradients, model.trainable_weights)
        seen.append(float(value))
    assert seen[-1] < seen[0]


def test_a_step_of_ones_own_is_refused(preset):
    class Own(TextClassifier):
        def train_step(self, data):
            return {}

    with pytest.raises(ValueError, match="loss_and_outputs"):
        Own.from_preset(preset, labels=LABELS)
        Own(classifier(preset).task, classifier(preset).labels).compile()


def test_the_architecture_as_json(model):
    again = keras.models.model_from_json(model.to_json())
    assert isinstance(again, TextClassifier) and again.labels == model.labels


def test_the_same_seed_gives_the_same_training(preset):
    losses = []
    for _ in range(2):
        keras.utils.set_random_seed(7)
        model = classifier(preset, dropout=0.1)
        model.compile()
        losses.append(fits(model, TEXTS, NAMES, epochs=2)["loss"])
    assert losses[0] == losses[1]


# Datasets


def test_a_dataset_of_lists(model):
    dataset = Dataset.from_lists(TEXTS, NAMES)
    assert len(dataset) == 64
    train, validation = dataset.split(0.25, seed=1)
    assert (len(train), len(validation)) == (48, 16)
    history = fits(model, train, epochs=2, validation_data=validation)
    assert len(history["val_loss"]) == 2


def test_a_dataset_of_files(model, toy_data):
    dataset = Dataset.from_files(toy_data / "train.csv")
    assert len(dataset) == 240
    fits(model, dataset, validation_data=Dataset.from_files(toy_data / "test.csv"))
    assert model.evaluate(dataset, verbose=0, return_dict=True)["accuracy"] > 0.4
    assert model.predict(dataset, verbose=0).shape == (240, 2)


def test_a_dataset_of_a_frame_and_of_a_table(model):
    pandas, arrow = pytest.importorskip("pandas"), pytest.importorskip("pyarrow")
    frame = pandas.DataFrame({"stars": NAMES, "review": TEXTS})
    for dataset in (
        Dataset.from_pandas(frame, text="review", label="stars"),
        Dataset.from_arrow(arrow.Table.from_pandas(frame), text="review", label="stars"),
    ):
        fits(model, dataset)
        assert dataset.counts == {name: NAMES.count(name) for name in LABELS}


def test_a_dataset_of_tf_data(model):
    dataset = tf.data.Dataset.from_tensor_slices({"text": TEXTS, "label": NUMBERS}).batch(9)
    found = Dataset.from_tf_data(dataset)
    assert len(found) == 64
    fits(model, found)


def test_balance(preset):
    rows = Dataset.from_lists(TEXTS[:40], NAMES[:30:2] + NAMES[:25])
    counts = np.unique(NAMES[:30:2] + NAMES[:25], return_counts=True)[1]
    assert len(rows.balance("oversample")) == 2 * counts.max()
    assert len(rows.balance("undersample")) == 2 * counts.min()
    model = classifier(preset)
    found = model.encode(rows.balance())
    sums = [found.weights[found.labels == number].sum() for number in (0, 1)]
    assert sums[0] == pytest.approx(sums[1], rel=1e-5)


# compile


def test_compile_without_arguments(preset):
    model = classifier(preset)
    model.compile()
    rates = []

    class Rate(keras.callbacks.Callback):
        def on_train_batch_begin(self, step, logs=None):
            rates.append(float(self.model.optimizer.learning_rate))

    fits(model, TEXTS, NAMES, epochs=5, batch_size=8, callbacks=[Rate()])
    assert len(rates) == 40 and rates[3] == pytest.approx(1e-4)
    assert rates[0] == pytest.approx(1e-4 / 4) and rates[-1] < 1e-5
    assert float(model.optimizer.learning_rate) == pytest.approx(1e-4)


@pytest.mark.parametrize("name", ["adamw", "adam", "SGD", "rmsprop", "nadam", "lion"])
def test_an_optimizer_by_name(preset, name):
    model = classifier(preset)
    model.compile(name)
    before = model.get_weights()
    fits(model, TEXTS[:16], NAMES[:16])
    assert any((a != b).any() for a, b in zip(before, model.get_weights(), strict=True))


def test_an_optimizer_that_has_no_such_name(model):
    before = model.optimizer
    with pytest.raises(ValueError, match="did you mean 'adamw'"):
        model.compile("adanw")
    assert model.optimizer is before
    fits(model, TEXTS[:16], NAMES[:16])


def test_an_optimizer_as_a_class_is_refused(model):
    with pytest.raises(ValueError, match=r"write Adam\(...\)"):
        model.compile(keras.optimizers.Adam)


def test_an_optimizer_as_a_configuration(preset):
    model = classifier(preset)
    model.compile(keras.optimizers.serialize(keras.optimizers.Adam(1e-3)))
    assert float(model.optimizer.learning_rate) == pytest.approx(1e-3)


def test_the_optimizer_is_not_altered(preset):
    optimizer = keras.optimizers.AdamW(1e-3, weight_decay=0.02)
    before = optimizer.get_config()
    model = classifier(preset)
    model.compile(optimizer)
    fits(model, TEXTS[:16], NAMES[:16])
    assert optimizer.get_config() == before and model.optimizer is optimizer


@pytest.mark.parametrize(
    "loss",
    [
        "sparse_categorical_crossentropy",
        "categorical_crossentropy",
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        keras.losses.CategoricalCrossentropy(from_logits=True, label_smoothing=0.1),
        keras.losses.CategoricalFocalCrossentropy(from_logits=True),
    ],
    ids=["sparse", "categorical", "object", "smoothed", "focal"],
)
def test_a_loss_of_keras(preset, loss):
    model = classifier(preset)
    model.compile(keras.optimizers.Adam(5e-3), loss=loss, metrics=["accuracy"])
    assert fits(model, TEXTS, NAMES, epochs=8, batch_size=16)["accuracy"][-1] > 0.9


def test_the_name_of_a_loss_is_that_loss_on_logits(preset, batch):
    model = classifier(preset)
    model.compile("sgd", loss="sparse_categorical_crossentropy")
    expected = keras.losses.SparseCategoricalCrossentropy(from_logits=True)(
        np.array(NUMBERS), model.predict(batch, verbose=0)
    )
    measured = model.evaluate(TEXTS, NAMES, verbose=0, return_dict=True)["loss"]
    assert measured == pytest.approx(float(expected), rel=1e-5)


def test_a_loss_on_probabilities_is_refused(model):
    with pytest.raises(ValueError, match=r"SparseCategoricalCrossentropy\(from_logits=True\)"):
        model.compile("adam", loss=keras.losses.SparseCategoricalCrossentropy())


def test_a_function_as_a_loss(preset):
    def twice(y_true, y_pred):
        return 2 * keras.losses.sparse_categorical_crossentropy(y_true, y_pred, from_logits=True)

    once, model = classifier(preset), classifier(preset)
    model.set_weights(once.get_weights())
    once.compile("sgd")
    model.compile("sgd", loss=twice, metrics=["accuracy"])
    first, second = (
        each.evaluate(TEXTS, NAMES, verbose=0, return_dict=True)["loss"] for each in (once, model)
    )
    assert second == pytest.approx(2 * first, rel=1e-5)
    fits(model, TEXTS, NAMES)


def test_a_loss_class_that_is_not_registered(preset):
    class Own(keras.losses.Loss):
        def __init__(self, factor):
            super().__init__(name="own")
            self.factor = factor

        def call(self, y_true, y_pred):
            return self.factor * keras.losses.sparse_categorical_crossentropy(
                y_true, y_pred, from_logits=True
            )

    model = classifier(preset)
    model.compile(keras.optimizers.Adam(5e-3), loss=Own(0.5))
    assert fits(model, TEXTS, NAMES, epochs=8, batch_size=16)["accuracy"][-1] > 0.9


@pytest.mark.parametrize("loss", ["mse", "binary_crossentropy", keras.losses.Hinge()], ids="abc")
def test_a_loss_for_another_problem_is_refused(model, loss):
    with pytest.raises(ValueError, match="sparse_categorical_crossentropy"):
        model.compile("adam", loss=loss)


def test_a_categorical_loss_is_measured_by_its_accuracy(preset):
    model = classifier(preset)
    model.compile(keras.optimizers.Adam(5e-3), loss="categorical_crossentropy")
    assert "accuracy" in fits(model, TEXTS[:16], NAMES[:16])


def test_names_beside_what_the_preprocessor_makes_are_refused(model, batch):
    with pytest.raises(ValueError, match="labels.encode"):
        model.fit(batch, np.array(NAMES), verbose=0)


@pytest.mark.parametrize("loss", ["crossentrop", 3])
def test_a_loss_that_is_none_is_refused(model, loss):
    with pytest.raises(ValueError, match="`keras.losses.Loss`"):
        model.compile("adam", loss=loss)


@pytest.mark.parametrize(
    "metric",
    [
        "accuracy",
        "acc",
        "sparse_categorical_accuracy",
        keras.metrics.SparseTopKCategoricalAccuracy(k=1, name="top"),
        keras.metrics.AUC(name="auc"),
        keras.metrics.Precision(class_id=1, name="precision"),
        keras.metrics.Recall(name="recall"),
        keras.metrics.F1Score(average="macro", name="f1"),
    ],
    ids=lambda each: each if isinstance(each, str) else each.name,
)
def test_a_metric_of_keras(preset, metric):
    model = classifier(preset)
    if isinstance(metric, keras.metrics.Metric):
        metric = type(metric).from_config(metric.get_config())
    model.compile(keras.optimizers.Adam(5e-3), metrics=[metric])
    name = metric if isinstance(metric, str) else metric.name
    assert fits(model, TEXTS, NAMES, epochs=8, batch_size=16)[name][-1] > 0.9


def test_a_function_as_a_metric(preset):
    def right(y_true, y_pred):
        return keras.ops.cast(
            keras.ops.argmax(y_pred, -1) == keras.ops.cast(y_true, "int32"), "float32"
        )

    model = classifier(preset)
    model.compile(keras.optimizers.Adam(5e-3), metrics=["accuracy", right])
    history = fits(model, TEXTS, NAMES)
    assert history["right"] == pytest.approx(history["accuracy"])


def test_a_metric_that_has_no_such_name(model):
    with pytest.raises(ValueError, match="acuracy"):
        model.compile("adam", metrics=["acuracy"])


def test_weighted_metrics_count_rows_by_their_weights(preset):
    model = classifier(preset)
    model.compile(
        "sgd",
        metrics=[keras.metrics.SparseCategoricalAccuracy(name="plain")],
        weighted_metrics=[keras.metrics.SparseCategoricalAccuracy(name="weighted")],
    )
    right = model.predict(TEXTS, verbose=0).argmax(-1) == np.array(NUMBERS)
    weights = np.where(right, 3.0, 1.0)
    found = model.evaluate(TEXTS, NAMES, sample_weight=weights, verbose=0, return_dict=True)
    assert found["plain"] == pytest.approx(right.mean())
    assert found["weighted"] == pytest.approx(weights[right].sum() / weights.sum())


@pytest.mark.parametrize("option", ["jit_compile", "run_eagerly"])
def test_how_a_step_is_run_changes_no_number(preset, option):
    losses = []
    for value in (False, True):
        keras.utils.set_random_seed(1)
        model = classifier(preset)
        model.compile(keras.optimizers.Adam(1e-3), **{option: value})
        losses.append(fits(model, TEXTS[:32], NAMES[:32], epochs=2, seed=0)["loss"])
    np.testing.assert_allclose(losses[0], losses[1], rtol=1e-4)


def test_run_eagerly_is_plain_python(preset):
    seen = []

    def loss(y_true, y_pred):
        seen.append(tf.executing_eagerly() and y_pred.numpy().shape)
        return keras.losses.sparse_categorical_crossentropy(y_true, y_pred, from_logits=True)

    model = classifier(preset)
    model.compile("sgd", loss=loss, run_eagerly=True)
    fits(model, TEXTS[:8], NAMES[:8])
    assert seen and all(seen)


def test_steps_per_execution(preset):
    model = classifier(preset)
    model.compile("sgd", steps_per_execution=4)
    fits(model, TEXTS, NAMES, batch_size=8, epochs=2)
    assert model.steps_done == 16


def test_a_model_that_is_not_compiled(preset):
    model = classifier(preset)
    for call in (model.fit, model.evaluate, model.train_on_batch):
        with pytest.raises(ValueError, match=r"Call `compile\(\)`"):
            call(TEXTS, NAMES)


# fit, evaluate, predict


def test_validation_data_of_texts(model):
    history = fits(model, TEXTS, NAMES, validation_data=(TEXTS[:20], NAMES[:20]), epochs=2)
    assert len(history["val_accuracy"]) == 2


def test_validation_split_of_texts(model):
    history = fits(model, TEXTS, NAMES, validation_split=0.25, batch_size=8)
    assert "val_loss" in history and model.steps_done == 6


def test_validation_split_of_arrays_is_their_end(model, batch):
    arrays = {name: np.array(each) for name, each in batch.items()}
    history = fits(model, arrays, np.array(NUMBERS), validation_split=0.25, batch_size=48)
    last = {name: each[48:] for name, each in arrays.items()}
    expected = model.evaluate(last, np.array(NUMBERS[48:]), verbose=0)[0]
    assert history["val_loss"][0] == pytest.approx(expected, rel=1e-5)


def test_validation_split_of_a_dataset_is_refused(model, batch):
    dataset = tf.data.Dataset.from_tensor_slices((dict(batch), NUMBERS)).batch(8)
    with pytest.raises(ValueError, match="validation_data"):
        model.fit(dataset, validation_split=0.1, verbose=0)


def test_validation_steps_and_frequency(model, batch):
    dataset = tf.data.Dataset.from_tensor_slices((dict(batch), NUMBERS)).batch(8)
    history = fits(
        model,
        dataset,
        epochs=4,
        validation_data=dataset.repeat(),
        validation_steps=2,
        validation_freq=2,
    )
    assert len(history["loss"]) == 4 and len(history["val_loss"]) == 2


@pytest.mark.parametrize("weight", [{0: 0.0, 1: 1.0}, {"negative": 0.0, "positive": 1.0}])
def test_class_weight(model, weight):
    fits(model, TEXTS, NAMES, class_weight=weight, epochs=8, batch_size=16)
    assert (model.predict(TEXTS, verbose=0).argmax(-1) == 1).all()


def test_class_weight_of_what_the_preprocessor_makes(model, batch):
    fits(model, batch, np.array(NUMBERS), class_weight={0: 0.0}, epochs=8, batch_size=16)
    assert (model.predict(TEXTS, verbose=0).argmax(-1) == 1).all()


def test_class_weight_changes_the_loss_and_not_the_accuracy(preset):
    model = classifier(preset)
    model.compile(keras.optimizers.SGD(0.0))
    plain = fits(model, TEXTS, NAMES)
    weighted = fits(model, TEXTS, NAMES, class_weight={0: 5.0, 1: 1.0})
    assert weighted["accuracy"] == pytest.approx(plain["accuracy"])
    assert weighted["loss"] != pytest.approx(plain["loss"], rel=1e-6)


def test_sample_weight(model):
    weights = [0.0 if label == "negative" else 1.0 for label in NAMES]
    fits(model, TEXTS, NAMES, sample_weight=weights, epochs=8, batch_size=16)
    assert (model.predict(TEXTS, verbose=0).argmax(-1) == 1).all()


def test_initial_epoch(model):
    history = model.fit(TEXTS, NAMES, epochs=5, initial_epoch=3, verbose=0)
    assert history.epoch == [3, 4]


def test_a_second_fit_continues(model):
    first = fits(model, TEXTS, NAMES, epochs=3)
    second = fits(model, TEXTS, NAMES, epochs=3)
    assert second["loss"][0] < first["loss"][0]
    assert int(model.optimizer.iterations) == 12


@pytest.mark.parametrize("verbose", [0, 1, 2, "auto"])
def test_verbose(model, capsys, verbose):
    model.fit(TEXTS, NAMES, verbose=verbose)
    assert ("loss" in capsys.readouterr().out) == (verbose != 0)


def test_steps_of_evaluate_and_predict(model, batch):
    dataset = tf.data.Dataset.from_tensor_slices((dict(batch), NUMBERS)).batch(8).repeat()
    assert model.evaluate(dataset, steps=2, verbose=0)
    assert model.predict(dataset.map(lambda x, y: x), steps=2, verbose=0).shape == (16, 2)


def test_steps_of_texts(model):
    endless = tf.data.Dataset.from_tensor_slices((TEXTS, NUMBERS)).batch(8).repeat()
    assert model.predict(endless, steps=2, verbose=0).shape == (16, 2)
    assert model.predict(TEXTS, steps=2, batch_size=5, verbose=0).shape == (10, 2)
    few = model.evaluate(endless, steps=2, verbose=0)
    np.testing.assert_allclose(few, model.evaluate(TEXTS[:16], NUMBERS[:16], verbose=0), rtol=1e-5)


def test_a_py_dataset(model, batch):
    arrays = {name: np.array(each) for name, each in batch.items()}

    class Batches(keras.utils.PyDataset):
        ended = 0

        def __len__(self):
            return 8

        def __getitem__(self, number):
            rows = slice(8 * number, 8 * number + 8)
            return {n: each[rows] for n, each in arrays.items()}, np.array(NUMBERS[rows])

        def on_epoch_end(self):
            self.ended += 1

    batches = Batches()
    fits(model, batches, epochs=3, validation_data=Batches())
    assert model.steps_done == 24 and batches.ended == 3


def test_a_generator(model, batch):
    arrays = {name: np.array(each) for name, each in batch.items()}

    def batches():
        while True:
            yield {n: each[:8] for n, each in arrays.items()}, np.array(NUMBERS[:8])

    fits(model, batches(), steps_per_epoch=4, epochs=2)
    assert model.steps_done == 8


def test_a_generator_that_ends_is_told(model, batch):
    one = ({n: np.array(each)[:8] for n, each in batch.items()}, np.array(NUMBERS[:8]))
    with pytest.raises(ValueError, match="steps_per_epoch"):
        model.fit(iter([one, one]), epochs=2, verbose=0)


def test_one_batch_at_a_time(model):
    first = model.train_on_batch(TEXTS[:16], NAMES[:16], return_dict=True)
    for _ in range(20):
        model.reset_metrics()
        last = model.train_on_batch(TEXTS[:16], NAMES[:16], return_dict=True)
    assert last["loss"] < first["loss"]
    model.reset_metrics()
    assert len(model.test_on_batch(TEXTS[:16], NAMES[:16])) == 2
    assert model.predict_on_batch(TEXTS[:4]).shape == (4, 2)


def test_one_batch_of_what_the_preprocessor_makes(model, batch):
    some = {name: np.array(each)[:16] for name, each in batch.items()}
    loss, accuracy = model.train_on_batch(some, np.array(NUMBERS[:16]))
    assert np.isfinite(loss) and 0 <= accuracy <= 1
    assert model.predict_on_batch(some).shape == (16, 2)


def test_calling_the_model(model, batch):
    logits = model({name: each[:2] for name, each in batch.items()})
    np.testing.assert_allclose(logits, model.predict(TEXTS[:2], verbose=0), atol=1e-4)


# Saving


@pytest.mark.filterwarnings("error::UserWarning")
def test_a_keras_file(model, tmp_path):
    fits(model, TEXTS, NAMES, epochs=2)
    model.save(tmp_path / "m.keras")
    again = keras.models.load_model(tmp_path / "m.keras")
    assert isinstance(again, TextClassifier) and again.labels == model.labels
    np.testing.assert_allclose(
        again.predict(TEXTS, verbose=0), model.predict(TEXTS, verbose=0), atol=1e-5
    )
    assert int(again.optimizer.iterations) == int(model.optimizer.iterations)
    fits(again, TEXTS, NAMES)


def test_a_keras_file_of_a_model_on_the_mean(preset, tmp_path):
    model = classifier(preset, pooling="mean")
    model.save(tmp_path / "m.keras")
    again = keras.models.load_model(tmp_path / "m.keras")
    np.testing.assert_allclose(
        again.predict(TEXTS, verbose=0), model.predict(TEXTS, verbose=0), atol=1e-5
    )


def test_a_keras_file_has_no_place_for_adapters(preset, tmp_path):
    with pytest.raises(ValueError, match="save_to_preset"):
        classifier(preset, lora={"rank": 2}).save(tmp_path / "m.keras")


def test_weights_in_a_file(model, preset, tmp_path):
    model.save_weights(tmp_path / "m.weights.h5")
    other = classifier(preset)
    other.load_weights(tmp_path / "m.weights.h5")
    np.testing.assert_allclose(
        other.predict(TEXTS, verbose=0), model.predict(TEXTS, verbose=0), atol=1e-6
    )


def test_clone_model(model):
    clone = keras.models.clone_model(model)
    assert isinstance(clone, TextClassifier) and clone.predict(TEXTS[:2], verbose=0).shape == (2, 2)
    clone.set_weights(model.get_weights())
    np.testing.assert_allclose(
        clone.predict(TEXTS, verbose=0), model.predict(TEXTS, verbose=0), atol=1e-6
    )


def test_a_configuration(model):
    again = TextClassifier.from_config(model.get_config())
    assert again.labels == model.labels and again.max_length == model.max_length


def test_export(model, tmp_path, batch):
    model.export(str(tmp_path / "saved"), verbose=False)
    loaded = tf.saved_model.load(str(tmp_path / "saved"))
    served = loaded.serve({name: tf.cast(each[:4], tf.int32) for name, each in batch.items()})
    np.testing.assert_allclose(served, model.predict(TEXTS[:4], verbose=0), atol=1e-4)


def test_a_preset_of_keras_hub(model, tmp_path):
    model.save_to_preset(tmp_path / "preset")
    alone = keras_hub.models.TextClassifier.from_preset(str(tmp_path / "preset"), compile=False)
    np.testing.assert_allclose(
        alone.predict(TEXTS, verbose=0), model.predict(TEXTS, verbose=0), atol=1e-4
    )


# Callbacks


def test_model_checkpoint_of_whole_models(model, tmp_path):
    keep = keras.callbacks.ModelCheckpoint(
        str(tmp_path / "best.keras"), monitor="val_loss", save_best_only=True
    )
    fits(model, TEXTS, NAMES, validation_split=0.25, epochs=2, callbacks=[keep])
    assert keras.models.load_model(tmp_path / "best.keras").predict(TEXTS[:1], verbose=0).size == 2


def test_model_checkpoint_of_weights(model, tmp_path):
    name = str(tmp_path / "{epoch:02d}.weights.h5")
    keep = keras.callbacks.ModelCheckpoint(name, save_weights_only=True)
    fits(model, TEXTS, NAMES, epochs=2, callbacks=[keep])
    assert sorted(file.name for file in tmp_path.iterdir()) == ["01.weights.h5", "02.weights.h5"]


def test_backup_and_restore(preset, tmp_path):
    """A training that failed continues with the epoch in which it failed, to the same weights."""

    class Fails(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            if epoch == 2:
                raise RuntimeError("stop")

    def train(folder, *callbacks):
        keras.utils.set_random_seed(2)
        model = classifier(preset)
        model.compile(keras.optimizers.Adam(1e-3))
        backup = keras.callbacks.BackupAndRestore(str(tmp_path / folder))
        model.fit(TEXTS, NAMES, epochs=4, seed=0, verbose=0, callbacks=[backup, *callbacks])
        return model

    with pytest.raises(RuntimeError):
        train("one", Fails())
    resumed, whole = train("one"), train("two")
    for one, other in zip(resumed.get_weights(), whole.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


def test_early_stopping_restores_the_best_weights(model):
    stop = keras.callbacks.EarlyStopping(
        monitor="val_loss", mode="max", patience=1, restore_best_weights=True
    )
    history = model.fit(
        TEXTS, NAMES, validation_data=(TEXTS, NAMES), epochs=9, verbose=0, callbacks=[stop]
    ).history
    assert len(history["loss"]) < 9
    kept = model.evaluate(TEXTS, NAMES, verbose=0)[0]
    assert kept == pytest.approx(max(history["val_loss"]), rel=1e-5)


@pytest.mark.parametrize("optimizer", ["adamw", None])
def test_reduce_the_rate_on_a_plateau(preset, optimizer):
    model = classifier(preset)
    model.compile(optimizer or keras.optimizers.Adam(1e-3))
    first = float(model.optimizer.learning_rate)
    reduce = keras.callbacks.ReduceLROnPlateau(
        monitor="loss", mode="max", factor=0.5, patience=1, min_delta=0.0
    )
    fits(model, TEXTS, NAMES, epochs=5, callbacks=[reduce])
    assert float(model.optimizer.learning_rate) < first


def test_a_learning_rate_scheduler(model):
    halve = keras.callbacks.LearningRateScheduler(lambda epoch, rate: rate / 2)
    history = fits(model, TEXTS, NAMES, epochs=2, callbacks=[halve])
    assert history["learning_rate"] == pytest.approx([2.5e-3, 1.25e-3])


def test_tensorboard_and_csv_logger(model, tmp_path):
    log = keras.callbacks.CSVLogger(str(tmp_path / "log.csv"))
    board = keras.callbacks.TensorBoard(str(tmp_path / "board"))
    fits(model, TEXTS, NAMES, epochs=2, validation_split=0.25, callbacks=[log, board])
    rows = list(csv.DictReader((tmp_path / "log.csv").open()))
    assert len(rows) == 2 and "val_loss" in rows[0]
    assert list((tmp_path / "board").rglob("events.*"))


def test_lambda_callback_and_a_callback_of_ones_own(model):
    seen = []

    class Own(keras.callbacks.Callback):
        def on_train_batch_end(self, step, logs=None):
            seen.append(("batch", step, sorted(logs)))

        def on_test_begin(self, logs=None):
            seen.append("test")

    epochs = keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: seen.append(epoch))
    fits(model, TEXTS, NAMES, batch_size=32, validation_split=0.5, callbacks=[Own(), epochs])
    assert seen == [("batch", 0, ["accuracy", "loss"]), "test", 0]


def test_stopping_from_a_callback(model):
    class Stop(keras.callbacks.Callback):
        def on_train_batch_end(self, step, logs=None):
            self.model.stop_training = True

    fits(model, TEXTS, NAMES, batch_size=8, epochs=5, callbacks=[Stop()])
    assert model.steps_done == 1


def test_terminate_on_nan(preset):
    model = classifier(preset)
    model.compile(keras.optimizers.SGD(float("nan")))
    history = model.fit(
        TEXTS, NAMES, epochs=5, verbose=0, callbacks=[keras.callbacks.TerminateOnNaN()]
    ).history
    assert len(history["loss"]) <= 5


# Transfer learning, and models of one's own


def test_a_head_of_ones_own_with_two_outputs(preset):
    backbone = classifier(preset).backbone
    first = backbone.output["sequence_output"][:, 0]
    topic = keras.layers.Dense(3, name="topic")(first)
    tone = keras.layers.Dense(1, name="tone")(first)
    model = FineTunedModel(keras.Model(backbone.input, {"topic": topic, "tone": tone}))
    model.compile(
        keras.optimizers.Adam(5e-3),
        loss={
            "topic": keras.losses.SparseCategoricalCrossentropy(from_logits=True),
            "tone": "mse",
        },
        loss_weights={"topic": 1.0, "tone": 0.5},
        metrics={"topic": ["accuracy"], "tone": [keras.metrics.MeanAbsoluteError(name="mae")]},
    )
    x = dict(classifier(preset).preprocessor(TEXTS))
    x = {name: tf.cast(each, tf.int32) for name, each in x.items()}
    y = {"topic": np.array(NUMBERS), "tone": np.array(NUMBERS, "float32")}
    history = fits(model, x, y, epochs=8, batch_size=16)
    assert history["topic_accuracy"][-1] > 0.9
    expected = history["topic_loss"][-1] + 0.5 * history["tone_loss"][-1]
    # The loss is measured before an update, those of the outputs as well.
    assert history["loss"][-1] == pytest.approx(expected, rel=1e-4)
    assert set(model.predict(x, verbose=0)) == {"topic", "tone"}
    with pytest.raises(ValueError, match="toppic"):
        model.compile("adam", loss={"toppic": "mse"})


def hand_built(outputs: int = 1) -> keras.Model:
    """The Transformer classifier of Keras' examples, built by hand."""
    inputs = keras.Input((12,))
    x = keras.layers.Embedding(50, 16)(inputs)
    x = keras.layers.LayerNormalization()(x + keras.layers.MultiHeadAttention(2, 8)(x, x))
    x = keras.layers.GlobalAveragePooling1D()(x)
    last = "sigmoid" if outputs == 1 else "softmax"
    return keras.Model(inputs, keras.layers.Dense(outputs, activation=last)(x))


def numbers_of_tokens():
    rows = np.random.default_rng(0).integers(1, 50, (64, 12))
    y = (rows < 10).any(axis=1).astype("int32")
    x = keras.utils.pad_sequences([row[: 3 + number % 9] for number, row in enumerate(rows)], 12)
    return x, (x < 10).any(axis=1).astype("int32") & (y >= 0)


@pytest.mark.parametrize("outputs", [1, 2])
@pytest.mark.parametrize("wrapped", [False, True])
def test_the_transformer_that_users_build_by_hand(outputs, wrapped):
    model = hand_built(outputs)
    model = FineTunedModel(model) if wrapped else model
    loss = "binary_crossentropy" if outputs == 1 else "sparse_categorical_crossentropy"
    model.compile(optimizer="adam", loss=loss, metrics=["accuracy"])
    x, y = numbers_of_tokens()
    history = fits(model, x, y, epochs=3, batch_size=16, validation_data=(x, y))
    assert {"loss", "accuracy", "val_loss", "val_accuracy"} <= set(history)
    assert history["loss"][-1] < history["loss"][0]


def test_a_wrapped_model_gives_the_numbers_of_keras():
    x, y = numbers_of_tokens()
    plain = hand_built()
    wrapped = FineTunedModel(keras.models.clone_model(plain))
    wrapped.set_weights(plain.get_weights())
    results = []
    for model in (plain, wrapped):
        model.compile(keras.optimizers.SGD(0.1), "binary_crossentropy", metrics=["accuracy"])
        model.fit(x, y, batch_size=16, epochs=2, shuffle=False, verbose=0)
        results.append(model.evaluate(x, y, verbose=0))
    np.testing.assert_allclose(results[0], results[1], rtol=1e-4)


def test_a_sequence_of_outputs_has_the_mean_loss_of_keras():
    inputs = keras.Input((5,))
    x = keras.layers.Dense(4)(keras.layers.Embedding(9, 8)(inputs))
    model = FineTunedModel(keras.Model(inputs, x))
    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    ids = np.arange(40).reshape(8, 5) % 9
    expected = keras.losses.SparseCategoricalCrossentropy(from_logits=True)(ids % 4, model(ids))
    measured = model.evaluate(ids, ids % 4, verbose=0, return_dict=True)["loss"]
    assert measured == pytest.approx(float(expected), rel=1e-5)


def test_a_model_without_weights_is_told():
    with pytest.raises(ValueError, match="`Input`"):
        FineTunedModel(keras.Sequential([keras.layers.Dense(2)]))


def test_batch_normalization_is_refused_by_name():
    inputs = keras.Input((4,))
    x = keras.layers.Dense(2)(keras.layers.BatchNormalization()(inputs))
    model = FineTunedModel(keras.Model(inputs, x))
    model.compile("adam", "mse")
    with pytest.raises(ValueError, match="LayerNormalization"):
        model.fit(np.ones((8, 4)), np.ones((8, 2)), verbose=0)


def test_a_wrapped_model_in_a_keras_file(tmp_path):
    model = FineTunedModel(hand_built())
    model.compile("adam", "binary_crossentropy", metrics=["accuracy"])
    x, y = numbers_of_tokens()
    fits(model, x, y)
    model.save(tmp_path / "own.keras")
    again = keras.models.load_model(tmp_path / "own.keras")
    np.testing.assert_allclose(again.predict(x, verbose=0), model.predict(x, verbose=0), atol=1e-6)
    fits(again, x, y)


# Other problems


def test_several_labels_as_columns_and_as_lists(preset):
    model = classifier(preset, labels=["bad", "good"], outputs=Outputs("multi_label"))
    model.compile(keras.optimizers.Adam(5e-3), metrics=["accuracy", keras.metrics.AUC(name="auc")])
    columns = keras.utils.to_categorical(NUMBERS)
    history = fits(model, TEXTS, columns, epochs=8, batch_size=16)
    assert history["accuracy"][-1] > 0.9 and history["auc"][-1] > 0.9
    names = [["bad"] if number == 0 else ["good"] for number in NUMBERS]
    assert model.evaluate(TEXTS, names, verbose=0)[1] > 0.9


def test_scores_are_in_their_own_unit(preset):
    model = classifier(preset, labels=["stars"], outputs=Outputs("regression"))
    model.compile(keras.optimizers.Adam(5e-3))
    scores = [100.0 + 50 * number for number in NUMBERS]
    for _ in range(2):
        fits(model, TEXTS, scores, epochs=8, batch_size=16, validation_split=0.25)
        found = model.predict(TEXTS, verbose=0)[:, 0]
        assert np.corrcoef(found, scores)[0, 1] > 0.8 and 100 < found.mean() < 150
    assert model.classify(TEXTS[:1])[0]["score"] == pytest.approx(found[0], rel=1e-4)


def test_pairs_of_texts(preset):
    model = classifier(preset, outputs=Outputs(pair=True))
    model.compile(keras.optimizers.Adam(5e-3))
    pairs = list(zip(TEXTS, reversed(TEXTS), strict=True))
    fits(model, pairs, NAMES)
    first = model.predict(pairs, verbose=0)
    second = model.predict((TEXTS, TEXTS[::-1]), verbose=0)
    np.testing.assert_allclose(first, second, atol=1e-5)
    with pytest.raises(ValueError, match="two texts"):
        model.fit(TEXTS, NAMES, verbose=0)


# Language models


@pytest.fixture(scope="module")
def decoder(toy_language_model) -> CausalLM:
    return CausalLM.from_preset(toy_language_model, precision="float32")


def test_a_language_model_learns_texts(toy_language_model):
    model = CausalLM.from_preset(toy_language_model, precision="float32", sequence_length=32)
    model.compile(keras.optimizers.Adam(1e-2), metrics=["accuracy"])
    texts = ["Call me Ishmael. Some years ago I went to sea."] * 16
    history = fits(model, texts, epochs=14, batch_size=4, validation_data=texts[:2])
    assert history["loss"][-1] < 0.5 * history["loss"][0]
    assert history["val_loss"][-1] < history["loss"][0]


def test_generate(decoder):
    text = decoder.generate("The whale", max_new_tokens=5)
    assert text.startswith("The whale") and len(text) > len("The whale")
    alone = decoder.generate(["The whale", "It was"], max_new_tokens=5, strip_prompt=True)
    assert "The whale" + alone[0] == text and len(alone) == 2
    drawn = decoder.generate("The", max_length=8, temperature=0.9, seed=1)
    assert drawn == decoder.generate("The", max_length=8, temperature=0.9, seed=1)
    with pytest.raises(TypeError, match="did you mean 'temperature'"):
        decoder.generate("The", temprature=1.0)


def test_prompts_of_many_sizes_bring_no_warning(decoder):
    handler, lines = logging.Handler(), []
    handler.emit = lambda record: lines.append(record.getMessage())
    logger = logging.getLogger("tensorflow")
    logger.addHandler(handler)
    try:
        for size in (1, 4, 9, 14):
            decoder.generate("The " * size, max_new_tokens=2)
            decoder.generate("The " * size, max_new_tokens=9, temperature=1.0)
    finally:
        logger.removeHandler(handler)
    assert not [line for line in lines if "retracing" in line]


def test_predict_of_a_language_model_is_logits(decoder):
    ids = np.array([[5, 6, 7, 8]], np.int32)
    logits = decoder.predict({"token_ids": ids}, verbose=0)
    assert logits.shape == (1, 4, decoder.backbone.vocabulary_size)
    assert decoder.predict(["The whale"], verbose=0).shape[-1] == decoder.backbone.vocabulary_size


def test_the_likelihood_of_texts(decoder):
    found = decoder.log_likelihood(["The whale", "The whale and the sea"])
    ids = decoder.tokenizer.encode_whole("The whale")
    logits = decoder.predict({"token_ids": np.array([ids], np.int32)}, verbose=0)[0]
    chances = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    expected = sum(chances[place, token] for place, token in enumerate(ids[1:]))
    assert found[0] == pytest.approx(expected, rel=1e-4) and found[1] < found[0]


@pytest.mark.filterwarnings("error::UserWarning")
def test_a_language_model_in_a_keras_file(decoder, tmp_path):
    decoder.save(tmp_path / "lm.keras")
    again = keras.models.load_model(tmp_path / "lm.keras")
    assert isinstance(again, CausalLM)
    assert again.generate("The", max_new_tokens=5) == decoder.generate("The", max_new_tokens=5)


def test_conversations(toy_language_model):
    model = CausalLM.from_preset(
        toy_language_model,
        precision="float32",
        sequence_length=32,
        lora={"rank": 4, "targets": ["attention"], "train": ["embeddings"]},
    )
    chats = [[{"role": "user", "content": "sea?"}, {"role": "assistant", "content": "cold"}]] * 24
    model.compile("adamw")
    with pytest.raises(DataError, match='chat_template="chatml"'):
        model.fit(chats, verbose=0)
    model = CausalLM.from_preset(
        toy_language_model,
        precision="float32",
        sequence_length=32,
        chat_template="plain",
        lora={"rank": 4, "targets": ["attention"], "train": ["embeddings"]},
    )
    model.compile(keras.optimizers.Adam(2e-2))
    history = fits(model, chats, epochs=12, batch_size=4)
    assert history["loss"][-1] < 0.5 * history["loss"][0]
    assert isinstance(model.generate(chats[0][:1], max_new_tokens=4), str)


def test_labels_are_not_for_language_models(toy_language_model):
    model = CausalLM.from_preset(toy_language_model, precision="float32")
    model.compile("adamw")
    with pytest.raises(ValueError, match="`y` is not for language models"):
        model.fit(["a text"], [1], verbose=0)
    with pytest.raises(ValueError, match=r"exp\(loss\)"):
        model.compile("adamw", metrics=[keras_hub.metrics.Perplexity(from_logits=True)])


def test_a_result_is_json(model):
    found = model.evaluate(TEXTS, NAMES, verbose=0, return_dict=True)
    assert json.loads(json.dumps(found)) == found
