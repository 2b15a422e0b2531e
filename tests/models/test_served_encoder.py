"""An encoder behind a server gives what `predict` gives, with few input shapes."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from kerasllm.data.labels import Labels
from kerasllm.models import bert_classifier
from kerasllm.models.classify import predict_logits, tokenize
from kerasllm.models.served_encoder import ServedEncoder
from tests.toy import toy_rows


@pytest.fixture(scope="module")
def model(toy_preset):
    keras.utils.set_random_seed(0)
    labels = Labels(["negative", "positive"])
    return bert_classifier(toy_preset, labels=labels, max_length=64, precision="float32")


@pytest.fixture(scope="module")
def texts():
    """Texts of one to some forty tokens."""
    random = np.random.default_rng(0)
    words = " ".join(text for text, _ in toy_rows(60)).split()
    return [" ".join(random.choice(words, random.integers(1, 40))) for _ in range(150)]


@pytest.mark.parametrize("packs", [True, False])
def test_outputs_are_those_of_predict(model, texts, packs, monkeypatch):
    if not packs:
        monkeypatch.setattr(type(model), "packed", None)
    served, tokens = ServedEncoder(model), tokenize(model, texts)
    expected = predict_logits(model, tokens)
    np.testing.assert_allclose(served.logits(tokens), expected, atol=1e-5)
    alone = tokenize(model, texts[:1])
    np.testing.assert_allclose(served.logits(alone), expected[:1], atol=1e-5)
    assert served.tokens == tokens.lengths.sum() + alone.lengths.sum()


def test_whatever_is_asked_few_shapes_are_computed(model, texts, monkeypatch):
    """Kernels are made for each shape, and kept: memory would grow with the requests."""
    served, rows, tokens = ServedEncoder(model), set(), set()
    forward = served._forward

    def seeing(inputs, lengths, most_tokens):
        rows.add(tuple(inputs["token_ids"].shape))
        tokens.add(int(most_tokens))
        return forward(inputs, lengths, most_tokens)

    monkeypatch.setattr(served, "_forward", seeing)
    random = np.random.default_rng(1)
    for _ in range(150):
        served.logits(tokenize(model, list(random.choice(texts, random.integers(1, 30)))))
    # 5 numbers of rows by 8 lengths up to 64; 28 numbers of tokens up to 16 texts of 64.
    assert len(rows) <= 40 and len(tokens) <= 28
    assert isinstance(forward, tf.types.experimental.PolymorphicFunction)
    assert forward.experimental_get_tracing_count() == 1
