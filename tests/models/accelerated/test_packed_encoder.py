"""A packed encoder gives the logits of KerasHub's own forward pass, whatever the padding."""

import keras
import keras_hub
import numpy as np
import pytest
import tensorflow as tf

from kerasllm.models.accelerated.packed_encoder import PackedEncoder, can_pack
from kerasllm.models.adapters.encoder_lora import add_lora
from kerasllm.models.heads import PooledTextClassifier

_SIZES = {
    "vocabulary_size": 30,
    "num_layers": 2,
    "num_heads": 2,
    "hidden_dim": 8,
    "intermediate_dim": 16,
    "max_sequence_length": 16,
}
_hub = keras_hub.models


def _task(family: str, dtype: str = "float32", pooling: str = "cls"):
    keras.utils.set_random_seed(1)
    backbone = getattr(_hub, f"{family}Backbone")(**_SIZES, dtype=dtype)
    if pooling == "mean":
        task = PooledTextClassifier(backbone, num_classes=3)
    else:
        task_class = getattr(_hub, f"{family}TextClassifier")
        task = task_class(backbone=backbone, num_classes=3, dtype=dtype)
    for weight in task.weights:
        if "float" in weight.dtype:
            value = np.random.default_rng(len(weight.path)).normal(0, 0.5, weight.shape)
            # A small scale of a norm would hide what comes before it.
            weight.assign(value + (weight.name == "gamma"))
    return task


def _inputs(task):
    """Returns inputs of three rows, padded at their ends, and the rows' lengths."""
    lengths = tf.constant([5, 1, 7])
    ids = np.random.default_rng(0).integers(5, 30, (3, 9)).astype("int32")
    mask = tf.sequence_mask(lengths, 9, tf.int32)
    segments = tf.constant(np.arange(9) > 3, tf.int32) * mask
    inputs = {"token_ids": ids * mask, "padding_mask": mask, "segment_ids": segments}
    return {name: inputs[name] for name in task.input}, lengths


@pytest.mark.parametrize("pooling", ["cls", "mean"])
@pytest.mark.parametrize("family", ["Bert", "DistilBert", "Roberta", "XLMRoberta"])
def test_logits_are_those_of_keras_hub(family, pooling):
    task = _task(family, pooling=pooling)
    assert can_pack(task)
    inputs, lengths = _inputs(task)
    found = PackedEncoder(task)(inputs, lengths)
    np.testing.assert_allclose(found, task(inputs, training=False), atol=1e-5)
    # So do those of more tokens than there are.
    np.testing.assert_allclose(PackedEncoder(task)(inputs, lengths, 16), found, atol=1e-6)


@pytest.mark.parametrize("pooling", ["cls", "mean"])
def test_segments_count(pooling):
    task = _task("Bert", pooling=pooling)
    inputs, lengths = _inputs(task)
    pair = PackedEncoder(task)(inputs, lengths)
    one_text = inputs | {"segment_ids": tf.zeros_like(inputs["segment_ids"])}
    alone = PackedEncoder(task)(one_text, lengths)
    # The second row is a single token, of the first segment either way.
    assert (np.abs(pair - alone).max(1) > 1e-4).tolist() == [True, False, True]


@pytest.mark.parametrize("pooling", ["cls", "mean"])
def test_mixed_precision_computes_as_keras_hub_does(pooling):
    task = _task("Bert", "mixed_bfloat16", pooling)
    inputs, lengths = _inputs(task)
    found = PackedEncoder(task)(inputs, lengths)
    expected = tf.cast(task(inputs, training=False), tf.float32)
    np.testing.assert_allclose(found, expected, atol=0.05 * np.abs(expected).max())


def test_adapters_and_quantized_weights_are_not_packed():
    task = _task("Bert")
    add_lora(task, rank=2)
    assert not can_pack(task)
    task = _task("Bert")
    task.quantize("int8")
    assert not can_pack(task)


def test_other_encoders_are_not_packed():
    backbone = _hub.FNetBackbone(
        vocabulary_size=30, num_layers=1, hidden_dim=8, intermediate_dim=16, max_sequence_length=16
    )
    assert not can_pack(_hub.FNetTextClassifier(backbone=backbone, num_classes=2))
