"""The fused decoder has the loss and the gradients of KerasHub's own layers."""

import keras
import keras_hub
import numpy as np
import pytest
import tensorflow as tf

from kerasllm.models.accelerated.fused_decoder import FusedDecoder, can_fuse
from kerasllm.models.adapters import add_adapter
from kerasllm.models.decoder_forward import hidden_states, logits
from kerasllm.training.chunked_loss import chunked_loss
from kerasllm.training.losses import SmoothedSparseCategoricalCrossentropy

FAMILIES = ["GPT2", "Llama3", "Mistral", "Qwen", "Qwen3"]
_SIZES = {"vocabulary_size": 30, "num_layers": 3, "hidden_dim": 16, "intermediate_dim": 24}
_GROUPED = {"num_query_heads": 4, "num_key_value_heads": 2}
_OF_FAMILY = {
    "GPT2": {"num_heads": 2, "max_sequence_length": 16},
    "Llama3": {**_GROUPED, "tie_word_embeddings": True},
    "Mistral": {**_GROUPED, "sliding_window": 4},
    "Qwen": _GROUPED,
    "Qwen3": {**_GROUPED, "head_dim": 8},
}
_LOSS = SmoothedSparseCategoricalCrossentropy(0.1, reduction="sum")


def make_backbone(family, dtype="float32", rate=0.0):
    keras.utils.set_random_seed(1)
    arguments = {**_SIZES, **_OF_FAMILY[family], "dtype": dtype, "dropout": rate}
    backbone = getattr(keras_hub.models, f"{family}Backbone")(**arguments)
    for weight in backbone.weights:
        if "float" in weight.dtype:
            weight.assign(np.random.default_rng(len(weight.path)).normal(0.2, 0.4, weight.shape))
    return backbone


def loss_and_gradients(backbone, compute, packed=False):
    """Returns the loss, the hits and the gradients of all that trains, by `compute`."""
    weights = [variable.value for variable in backbone.trainable_variables]
    random = np.random.default_rng(0)
    ids, y = (tf.constant(random.integers(0, 30, (3, 9)), tf.int32) for _ in range(2))
    share = tf.constant(random.uniform(0, 1, (3, 9)) * random.integers(0, 2, (3, 9)), tf.float32)
    segments = tf.constant([[1] * 4 + [2] * 5, [1] * 9, [1, 2, 2, 2, 3, 3, 3, 0, 0]], tf.int32)

    @tf.function(input_signature=[tf.TensorSpec([None, None], tf.int32)])
    def run(ids):
        with tf.GradientTape() as tape:
            loss, correct = compute(ids, segments if packed else None, y, share)
        found = tape.gradient(loss, weights, unconnected_gradients="zero")
        return loss, correct, [tf.convert_to_tensor(gradient) for gradient in found]

    return run(ids)


def by_keras_hub(backbone, **options):
    def compute(ids, segments, y, share):
        hidden = hidden_states(backbone, ids, segments, training=True, **options)
        variables = backbone.token_embedding.trainable_variables
        pieces = {"loss": _LOSS, "tokens": 10, "variables": variables}
        return chunked_loss(hidden, y, share, head=lambda x: logits(backbone, x), **pieces)

    return compute


def by_fused(backbone, **options):
    decoder = FusedDecoder(backbone)

    def compute(ids, segments, y, share):
        hidden = decoder(ids, segments, **options)
        return decoder.loss(hidden, y, share, loss=_LOSS, tokens=10)

    return compute


def assert_alike(backbone, packed=False, **options):
    assert can_fuse(backbone)
    expected, hits, gradients = loss_and_gradients(backbone, by_keras_hub(backbone), packed)
    fused = by_fused(backbone, **options)
    found, found_hits, found_gradients = loss_and_gradients(backbone, fused, packed)
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    np.testing.assert_array_equal(found_hits, hits)
    for variable, one, other in zip(
        backbone.trainable_variables, found_gradients, gradients, strict=True
    ):
        np.testing.assert_allclose(one, other, atol=2e-4, rtol=1e-3, err_msg=variable.path)
    assert sum(np.abs(gradient).max() > 1e-3 for gradient in gradients) > 8


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("family", FAMILIES)
def test_loss_and_gradients_are_those_of_keras_hub(family, packed):
    assert_alike(make_backbone(family), packed)
