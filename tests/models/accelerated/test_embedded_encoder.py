"""An encoder computed from vectors gives KerasHub's outputs, and the gradients of the vectors."""

import keras
import keras_hub
import numpy as np
import pytest
import tensorflow as tf

from kerasllm.explain.embedded_model import EmbeddedModel
from kerasllm.models.accelerated.embedded_encoder import can_embed
from kerasllm.models.heads import PooledTextClassifier
from kerasllm.models.token_head import TokenHead

_hub = keras_hub.models


def _task(family="Bert", pooling="cls", dtype="float32"):
    keras.utils.set_random_seed(1)
    backbone = getattr(_hub, f"{family}Backbone")(
        vocabulary_size=30,
        num_layers=2,
        num_heads=2,
        hidden_dim=8,
        intermediate_dim=16,
        max_sequence_length=16,
        dtype=dtype,
    )
    if pooling == "tokens":
        task = TokenHead(backbone, 3)
    elif pooling == "mean":
        task = PooledTextClassifier(backbone, num_classes=3)
    else:
        task = getattr(_hub, f"{family}TextClassifier")(backbone=backbone, num_classes=3)
    for weight in task.weights:
        if "float" in weight.dtype:
            value = np.random.default_rng(len(weight.path)).normal(0, 0.5, weight.shape)
            # A small scale of a norm would hide what comes before it.
            weight.assign(value + (weight.name == "gamma"))
    return task


@pytest.mark.parametrize(
    ("family", "pooling"),
    [("Bert", "cls"), ("Bert", "mean"), ("Bert", "tokens"), ("DistilBert", "cls"),
     ("Roberta", "cls")],
)  # fmt: skip
def test_outputs_and_gradients_are_those_of_keras_hub(family, pooling):
    task = _task(family, pooling)
    assert can_embed(task)
    rows = {"token_ids": np.random.default_rng(0).integers(5, 30, (3, 9)).astype("int32")}
    rows["padding_mask"] = np.ones((3, 9), "int32")
    rows["segment_ids"] = np.tile(np.arange(9) > 3, (3, 1)).astype("int32")
    inputs = {name: tf.constant(rows[name]) for name in task.input}
    embedded, by_keras = EmbeddedModel(task), EmbeddedModel(task)
    by_keras._encoder = None
    vectors = embedded.vectors(inputs["token_ids"])
    np.testing.assert_allclose(by_keras(vectors, inputs), task(inputs, training=False), atol=1e-5)
    found = []
    for model in (embedded, by_keras):
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(vectors)
            outputs = model(vectors, inputs)
            total = tf.reduce_sum(outputs[..., 1] - outputs[..., 0] ** 2)
        found.append((outputs, tape.gradient(total, vectors)))
    (outputs, gradients), (expected, expected_gradients) = found
    np.testing.assert_allclose(outputs, expected, atol=1e-5)
    np.testing.assert_allclose(gradients, expected_gradients, atol=1e-4, rtol=1e-4)


def test_models_in_bfloat16_and_other_families_are_computed_by_keras():
    assert not can_embed(_task(dtype="mixed_bfloat16"))
    assert not can_embed(_task().backbone)
