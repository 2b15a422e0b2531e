"""What a notebook is made of: batches for Keras' own `fit`, and texts that get a label."""

import keras
import numpy as np
import pytest

from kerasllm.data import EpochPlans
from kerasllm.data.classification import load_data
from kerasllm.models import bert_classifier, load_tokenizer
from kerasllm.models.classify import classify, probabilities
from kerasllm.tasks.task import find
from kerasllm.tasks.text_classification import ClassificationData as Data
from kerasllm.training.batches import training_batches
from tests.toy import toy_rows


@pytest.fixture
def data(toy_data, toy_preset):
    """The toy reviews, unevenly many, so that the last batch is short."""
    settings = Data(train=str(toy_data / "train.csv"), test=str(toy_data / "test.csv"))
    return load_data(settings, load_tokenizer(toy_preset), folder=toy_data / "tokens")


@pytest.fixture
def model(data, toy_preset):
    keras.utils.set_random_seed(0)
    model = bert_classifier(
        toy_preset, labels=data.labels, dropout=0.0, max_length=64, precision="float32"
    )
    model.compile(keras.optimizers.Adam(5e-3))
    return model


def test_a_classifier_learns_by_keras_own_fit(data, model):
    plans = EpochPlans(data.train.lengths, batch_size=32, buckets=4, seed=0)
    history = model.fit(
        training_batches(model, data.train, plans, epochs=6),
        epochs=6,
        steps_per_epoch=plans.steps,
        shuffle=False,
        verbose=0,
    ).history
    assert len(history["loss"]) == 6 and history["loss"][-1] < 0.5 * history["loss"][0]
    rows = toy_rows(40, seed=8)
    found = classify(model, [text for text, _ in rows])
    assert [row["text"] for row in found] == [text for text, _ in rows]
    right = [row["label"] == label for row, (_, label) in zip(found, rows, strict=True)]
    assert np.mean(right) > 0.9


def test_keras_own_evaluate_measures_what_ours_does(data, model):
    plans = EpochPlans(data.validation.lengths, batch_size=7, buckets=3)
    assert len(data.validation) % 7
    measured = model.evaluate(
        training_batches(model, data.validation, plans), return_dict=True, verbose=0
    )
    expected = find("text_classification").evaluate(model, data.validation).metrics
    assert measured["accuracy"] == pytest.approx(expected["accuracy"])
    assert measured["loss"] == pytest.approx(expected["loss"], rel=1e-5)


def test_a_classified_text_gets_the_probabilities_of_its_row(data, model):
    logits = find("text_classification").evaluate(model, data.test).outputs
    texts = data.sources["test"].texts_of(np.arange(10))
    for found, chances in zip(classify(model, texts), probabilities(logits)[:10]):
        assert list(found["probabilities"]) == ["negative", "positive"]
        np.testing.assert_allclose(list(found["probabilities"].values()), chances, atol=1e-5)
        assert found["label"] == data.labels.names[chances.argmax()]


def test_a_model_that_was_quantized_no_longer_computes_with_its_old_weights(data, model):
    assert model.packed is not None
    model.task.backbone.quantize("int8")
    assert model.packed is None
