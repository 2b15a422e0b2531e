"""Texts and labels reach a model as they were meant, in every form that Keras users have them."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from kerasllm.data.dataset import Dataset
from kerasllm.errors import DataError
from kerasllm.models.causal_lm import CausalLM
from kerasllm.models.text_classifier import Outputs, TextClassifier
from tests.toy import save_toy_preset, toy_rows

LABELS = ["negative", "positive"]
ROWS = toy_rows(16, seed=5)
TEXTS = [text for text, _ in ROWS]
NAMES = [label for _, label in ROWS]
NUMBERS = [LABELS.index(label) for label in NAMES]
OTHERS = TEXTS[::-1]
PAIRS = list(zip(TEXTS, OTHERS, strict=True))
CHAT = [{"role": "user", "content": "sea?"}, {"role": "assistant", "content": "cold"}]


@pytest.fixture(autouse=True)
def _own_cache(session_cache, monkeypatch):
    monkeypatch.setenv("KERASLLM_CACHE", str(session_cache))
    keras.utils.set_random_seed(0)


@pytest.fixture(scope="module")
def preset(tmp_path_factory):
    return save_toy_preset(tmp_path_factory.mktemp("preset") / "toy", num_layers=1)


def classifier(preset, **options) -> TextClassifier:
    options = {"labels": LABELS, "precision": "float32", "dropout": 0.0, "max_length": 64} | options
    model = TextClassifier.from_preset(preset, **options)
    model.compile(keras.optimizers.Adam(0.0), fused=False, slices=1)
    # The outputs of different texts differ.
    model.scale_outputs(1000.0)
    return model


@pytest.fixture(scope="module")
def model(preset) -> TextClassifier:
    return classifier(preset)


@pytest.fixture(scope="module")
def pairs(preset) -> TextClassifier:
    return classifier(preset, outputs=Outputs(pair=True))


@pytest.fixture(scope="module")
def several(preset) -> TextClassifier:
    return classifier(preset, labels=["bad", "good"], outputs=Outputs("multi_label"))


@pytest.fixture(scope="module")
def decoder(toy_language_model) -> CausalLM:
    model = CausalLM.from_preset(toy_language_model, precision="float32", sequence_length=32)
    model.compile("adamw")
    return model


def loss(model, *data, **options) -> float:
    return model.evaluate(*data, verbose=0, return_dict=True, **options)["loss"]


# Labels of a model


@pytest.mark.parametrize("labels", [[1, 2, 3], np.arange(1, 4), {1: "a", 2: "b", 3: "c"}])
def test_labels_that_are_numbers(preset, labels):
    model = TextClassifier.from_preset(preset, labels=labels, precision="float32")
    assert model.labels.raw == ("1", "2", "3")
    model.compile(keras.optimizers.Adam(0.0))
    assert np.isfinite(loss(model, TEXTS[:3], [3, 1, 2]))


def test_labels_of_a_set_are_refused(preset):
    with pytest.raises(DataError, match="sorted"):
        TextClassifier.from_preset(preset, labels=set(LABELS))


# Texts


def test_a_dataset_of_dicts_is_read_by_its_text(model):
    rows = {"a_label": NAMES, "text": TEXTS}
    dataset = tf.data.Dataset.from_tensor_slices(rows).batch(5)
    expected = model.predict(TEXTS, verbose=0)
    np.testing.assert_allclose(model.predict(dataset, verbose=0), expected, atol=1e-5)
    dataset = tf.data.Dataset.from_tensor_slices({"label": NAMES, "review": TEXTS})
    np.testing.assert_allclose(model.predict(dataset, verbose=0), expected, atol=1e-5)
    dataset = tf.data.Dataset.from_tensor_slices(({"text": TEXTS}, NUMBERS)).batch(5)
    assert loss(model, dataset) == pytest.approx(loss(model, TEXTS, NUMBERS), rel=1e-4)
    strange = tf.data.Dataset.from_tensor_slices({"a": NAMES, "z": TEXTS})
    with pytest.raises(DataError, match="text="):
        model.predict(strange, verbose=0)


@pytest.mark.parametrize(
    "texts",
    [
        lambda: np.array(TEXTS)[:, None],
        lambda: [[text] for text in TEXTS],
        lambda: tf.constant(TEXTS)[:, None],
        lambda: tf.data.Dataset.from_tensor_slices(np.array(TEXTS)[:, None]).batch(5),
    ],
    ids=["array", "lists", "tensor", "dataset"],
)
def test_a_column_of_texts(model, texts):
    expected = model.predict(TEXTS, verbose=0)
    np.testing.assert_allclose(model.predict(texts(), verbose=0), expected, atol=1e-5)


def test_labels_of_a_column_of_texts(model):
    assert loss(model, np.array(TEXTS)[:, None], NAMES) == pytest.approx(
        loss(model, TEXTS, NAMES), rel=1e-4
    )


@pytest.mark.parametrize("wrong", [None, float("nan"), 3, ["a", "b"]])
@pytest.mark.parametrize("place", [0, 1])
def test_what_is_no_text_is_refused_with_its_place(model, wrong, place):
    texts = [*TEXTS[:place], wrong, *TEXTS[place + 1 :]]
    for call in (model.predict, model.classify, lambda x: model.fit(x, NAMES, verbose=0)):
        with pytest.raises(DataError, match=f"[Ii]tem {place}"):
            call(texts)


@pytest.mark.parametrize("texts", [np.array("a good film"), {"a film", "a play"}, "a film"])
def test_what_has_no_order_or_is_one_text_is_refused(model, texts):
    for call in (model.predict, model.classify):
        with pytest.raises((ValueError, DataError), match="list"):
            call(texts)


def test_iterators_of_texts_are_refused_and_of_batches_are_not(model):
    with pytest.raises(ValueError, match="give a list"):
        model.predict(iter(TEXTS), verbose=0)
    with pytest.raises(ValueError, match="give a list"):
        model.predict((TEXTS[:4] for _ in range(2)), verbose=0)
    batch = model.preprocessor(TEXTS[:4])
    assert len(model.predict(iter([batch, batch]), verbose=0, steps=2)) == 8


def test_the_callbacks_of_predict(model, decoder, capsys):
    seen = []
    callback = keras.callbacks.LambdaCallback(
        on_predict_batch_begin=lambda batch, logs: seen.append(f"begin {batch}"),
        on_predict_batch_end=lambda batch, logs: seen.append(f"end {batch}"),
    )
    callback.on_predict_begin = lambda logs=None: seen.append("begin")
    callback.on_predict_end = lambda logs=None: seen.append("end")
    for texts, own in ((TEXTS * 5, model), (["the sea"] * 48, decoder)):
        own.predict(texts, callbacks=[callback], verbose=0)
        assert seen == ["begin", "begin 0", "end 0", "begin 1", "end 1", "end"]
        seen.clear()
        assert not capsys.readouterr().out
        own.predict(texts, verbose=2)
        assert "2/2 - " in capsys.readouterr().out


@pytest.mark.parametrize("numbers", [[1, 2, 3], np.arange(3), [[0.5], [1.0]]])
def test_numbers_are_no_texts(model, numbers):
    for call in (model.predict, model.evaluate, model.fit):
        with pytest.raises(ValueError, match="^`x` must be texts"):
            call(numbers)


def test_predict_reads_the_columns_that_fit_reads(model):
    pandas = pytest.importorskip("pandas")
    # Of two texts a model that reads one takes the first; the second may be missing.
    frame = pandas.DataFrame(
        {"question": TEXTS, "passage": [None, *OTHERS[1:]], "label": NAMES, "weight": range(16)}
    )
    found = model.predict(Dataset.from_pandas(frame), verbose=0)
    np.testing.assert_allclose(found, model.predict(TEXTS, verbose=0), atol=1e-4)
    some = Dataset.from_lists(TEXTS).take([3, 1])
    np.testing.assert_allclose(model.predict(some, verbose=0), found[[3, 1]], atol=1e-4)


# Pairs of texts


def test_pairs_in_every_form(pairs):
    expected = pairs.predict(PAIRS, verbose=0)
    assert not np.allclose(expected, pairs.predict((OTHERS, TEXTS), verbose=0), atol=1e-5)
    rows = {"text": TEXTS, "text_pair": OTHERS}
    for texts in (
        np.array(PAIRS),
        (TEXTS, OTHERS),
        (np.array(TEXTS), np.array(OTHERS)),
        Dataset.from_lists(TEXTS, text_pairs=OTHERS),
        Dataset.from_lists(PAIRS, NAMES),
        tf.data.Dataset.from_tensor_slices(((TEXTS, OTHERS), NUMBERS)).batch(5),
        tf.data.Dataset.from_tensor_slices(((TEXTS, OTHERS),)).batch(5),
        tf.data.Dataset.from_tensor_slices(rows).batch(5),
        tf.data.Dataset.from_tensor_slices((rows, NUMBERS)),
    ):
        np.testing.assert_allclose(pairs.predict(texts, verbose=0), expected, atol=1e-5)
    found = pairs.classify(tf.data.Dataset.from_tensor_slices(rows))
    assert found[0]["text_pair"] == OTHERS[0]


def test_labelled_pairs_of_a_dataset(pairs):
    expected = loss(pairs, PAIRS, NAMES)
    rows = {"text": TEXTS, "text_pair": OTHERS}
    for x in ((TEXTS, OTHERS), rows):
        dataset = tf.data.Dataset.from_tensor_slices((x, NUMBERS)).batch(4)
        assert loss(pairs, dataset) == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize(
    "texts",
    [
        lambda: TEXTS,
        lambda: Dataset.from_lists(TEXTS, NAMES),
        lambda: tf.data.Dataset.from_tensor_slices((TEXTS, OTHERS)),
        lambda: tf.data.Dataset.from_tensor_slices(TEXTS).batch(4),
    ],
    ids=["list", "dataset", "two columns", "one column"],
)
def test_single_texts_are_refused_by_a_model_of_pairs(pairs, texts):
    for call in (pairs.predict, pairs.classify):
        with pytest.raises(ValueError, match="reads two texts"):
            call(texts())


def test_two_lists_in_a_list_are_refused(pairs):
    with pytest.raises(ValueError, match="a tuple of two lists"):
        pairs.predict([TEXTS, OTHERS], verbose=0)


def test_pairs_are_refused_by_a_model_of_single_texts(model):
    dataset = Dataset.from_lists(TEXTS, NAMES, text_pairs=OTHERS)
    for call in (model.predict, model.classify, lambda x: model.evaluate(x, NAMES, verbose=0)):
        with pytest.raises(DataError, match="reads one text"):
            call(PAIRS)
    for call in (model.predict, model.evaluate, model.fit):
        with pytest.raises(ValueError, match="reads one text"):
            call(dataset)


# Labels of texts


def test_a_frame_of_one_hot_labels_is_read_by_its_names(model):
    pandas = pytest.importorskip("pandas")
    frame = pandas.get_dummies(pandas.Series(NAMES))
    expected = loss(model, TEXTS, NAMES)
    assert loss(model, TEXTS, frame[LABELS]) == pytest.approx(expected, rel=1e-4)
    assert loss(model, TEXTS, frame[LABELS[::-1]]) == pytest.approx(expected, rel=1e-4)
    with pytest.raises(ValueError, match="not a label: other; missing: negative"):
        loss(model, TEXTS, frame.rename(columns={"negative": "other"}))


def test_a_frame_of_several_labels_is_read_by_its_names(several):
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame({"good": NUMBERS, "bad": [1] * 16})
    expected = loss(several, TEXTS, [["bad", "good"][: 1 + number] for number in NUMBERS])
    assert loss(several, TEXTS, frame) == pytest.approx(expected, rel=1e-4)


def test_one_column_of_labels(model):
    pandas = pytest.importorskip("pandas")
    expected = loss(model, TEXTS, NAMES)
    booleans = [bool(number) for number in NUMBERS]
    for y in (
        pandas.DataFrame({"label": NAMES}),
        pandas.DataFrame({"label": NUMBERS}),
        np.array(NAMES)[:, None],
        np.array(NAMES, object)[:, None],
        booleans,
        np.array(booleans),
        pandas.Series(booleans),
        [booleans[0], *NUMBERS[1:]],
    ):
        assert loss(model, TEXTS, y) == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("wrong", [None, float("nan")])
def test_a_label_that_is_missing_is_refused_with_its_place(model, wrong):
    for y in ([*NAMES[:2], wrong, *NAMES[3:]], [*NUMBERS[:2], wrong, *NUMBERS[3:]]):
        with pytest.raises(DataError, match="Item 2 has no label"):
            model.fit(TEXTS, y, verbose=0)


def test_one_hot_labels_of_a_dataset(model):
    one_hot = keras.utils.to_categorical(NUMBERS)
    dataset = tf.data.Dataset.from_tensor_slices((TEXTS, one_hot)).batch(4)
    assert loss(model, dataset) == pytest.approx(loss(model, TEXTS, NAMES), rel=1e-4)


def test_class_weights(model):
    rows = model.encode(Dataset.from_lists(TEXTS[:3], NAMES[:3]))
    by_number = model._weighted(rows, {0: 2.0, 1: 3.0}).weights
    assert model._weighted(rows, [2.0, 3.0]).weights.tolist() == by_number.tolist()
    balanced = model._weighted(rows, "balanced").weights
    assert balanced[0] == pytest.approx(0.75) and balanced[1] == pytest.approx(1.5)
    for wrong in ([1.0], "even", 2.0):
        with pytest.raises(ValueError, match="class_weight="):
            model.fit(TEXTS, NAMES, class_weight=wrong, verbose=0)


# Validation data


def test_validation_data_as_a_list(model):
    for y in (NAMES, np.array(NUMBERS)):
        history = model.fit(TEXTS, y, validation_data=[TEXTS[:4], y[:4]], verbose=0).history
        assert "val_loss" in history


def test_validation_data_of_another_kind_is_refused(model):
    batch = model.preprocessor(TEXTS)
    with pytest.raises(ValueError, match="`validation_data` does not"):
        model.fit(TEXTS, NAMES, validation_data=(batch, np.array(NUMBERS)), verbose=0)


def test_a_part_that_is_none_is_named(model):
    with pytest.raises(ValueError, match="validation_split=1.5"):
        model.fit(TEXTS, NAMES, validation_split=1.5, verbose=0)


# Messages


def test_errors_name_arguments(model):
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame({"a": TEXTS, "b": OTHERS, "c": NAMES})
    for call in (model.fit, model.evaluate, model.predict, lambda x: x.labels):
        with pytest.raises(DataError) as caught:
            call(Dataset.from_pandas(frame))
        told = str(caught.value)
        assert (
            "text=NAME" in told
            and "available columns" in told
            and "--" not in told
            and "data." not in told
        )


# Language models


def test_one_conversation_without_brackets_is_refused(decoder):
    for call in (decoder.fit, decoder.evaluate):
        with pytest.raises(DataError, match=r"\[conversation\]"):
            call(CHAT)


@pytest.mark.parametrize("texts", [[CHAT], CHAT])
def test_predict_of_conversations_is_refused(decoder, texts):
    with pytest.raises(ValueError, match="`generate`"):
        decoder.predict(texts, verbose=0)


def test_likelihoods_of_texts_in_every_form(decoder):
    pandas = pytest.importorskip("pandas")
    texts = ["The whale", "The sea and"]
    expected = decoder.log_likelihood(texts)
    for each in (
        tf.constant(texts),
        np.array(texts)[:, None],
        pandas.Series(texts),
        tf.data.Dataset.from_tensor_slices(texts),
        Dataset.from_lists(texts),
    ):
        np.testing.assert_allclose(decoder.log_likelihood(each), expected, rtol=1e-4)
    for wrong in ("ab", [], {"ab", "cd"}, [CHAT], [None], 3):
        with pytest.raises((ValueError, DataError)):
            decoder.log_likelihood(wrong)


def test_labels_in_a_dataset_are_refused(decoder):
    texts = ["The whale"] * 4
    for x in (texts, {"text": texts}):
        dataset = tf.data.Dataset.from_tensor_slices((x, [0, 1, 0, 1])).batch(2)
        for call in (decoder.fit, decoder.evaluate):
            with pytest.raises(ValueError, match="`y` is not for language models"):
                call(dataset)


def test_pairs_are_refused_by_a_language_model(decoder):
    for call in (decoder.fit, decoder.evaluate, decoder.predict, decoder.log_likelihood):
        with pytest.raises(DataError, match="reads one text at a time"):
            call([("The whale", "The sea")])


def test_the_steps_of_texts(decoder):
    texts = ["Call me Ishmael. Some years ago I went to sea."] * 8
    assert np.isfinite(loss(decoder, texts, batch_size=2, steps=1))
    assert np.isfinite(loss(decoder, texts, batch_size=2, steps=99))
