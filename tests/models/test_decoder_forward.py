"""Walking a decoder gives what it gives as a whole, and more: segments, and layers done again."""

import keras
import keras_hub
import numpy as np
import pytest
import tensorflow as tf

from kerasllm.models.decoder_forward import WALKABLE, hidden_states
from tests.training.tiny_decoder import VOCABULARY, gpt2

SIZES = {"vocabulary_size": VOCABULARY, "num_layers": 2, "hidden_dim": 16, "intermediate_dim": 32}
HEADS = {"num_query_heads": 4, "num_key_value_heads": 2}
RANDOM = np.random.default_rng(0)


def build(kind):
    keras.utils.set_random_seed(0)
    if kind is keras_hub.models.GPT2Backbone:
        return kind(**SIZES, num_heads=2, max_sequence_length=32, dropout=0.0)
    more = {"head_dim": 8} if kind is keras_hub.models.Qwen3Backbone else {}
    return kind(**SIZES, **HEADS, **more)


@pytest.mark.parametrize("kind", WALKABLE, ids=lambda kind: kind.__name__)
def test_segments_of_a_row_are_computed_as_if_each_were_alone(kind):
    backbone = build(kind)
    ids = RANDOM.integers(1, VOCABULARY, (2, 12)).astype("int32")
    whole = backbone({"token_ids": ids, "padding_mask": np.ones_like(ids)})
    np.testing.assert_allclose(hidden_states(backbone, ids), whole, atol=1e-6)
    segments = np.array([[1] * 5 + [2] * 7, [1] * 3 + [2] * 6 + [0] * 3], "int32")
    packed = np.asarray(hidden_states(backbone, ids, segments))
    for row, first, last in ((0, 0, 5), (0, 5, 12), (1, 0, 3), (1, 3, 9)):
        alone = hidden_states(backbone, ids[row : row + 1, first:last])[0]
        np.testing.assert_allclose(packed[row, first:last], alone, atol=2e-6)


def test_a_layer_that_is_done_again_drops_the_same_units():
    """Else its gradients would be of another function than its outputs."""

    def step(rematerialize):
        model = gpt2(dropout=0.3, rematerialize=rematerialize)
        model.compile(keras.optimizers.SGD(1.0))
        ids = np.random.default_rng(0).integers(1, VOCABULARY, (4, 16)).astype("int32")
        data = ({"token_ids": tf.constant(ids)}, tf.constant(ids), tf.ones((4, 16)))
        before = [variable.numpy().copy() for variable in model.trainable_variables]
        run = tf.function(lambda: model.train_step(data, tf.constant(0, tf.int64), tf.zeros(2)))
        loss = run()[1]["step_loss"].numpy()
        after = [variable.numpy() for variable in model.trainable_variables]
        return loss, [a - b for a, b in zip(before, after, strict=True)]

    loss, gradients = step(rematerialize=False)
    again, found = step(rematerialize=True)
    assert again == pytest.approx(loss, abs=1e-6)
    assert max(np.abs(gradient).max() for gradient in gradients) > 0.05
    for one, other in zip(found, gradients, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-6)


def test_rematerialization_holds_less_in_memory():
    from kerasllm.distribution.memory import estimate_memory

    def activations(rematerialize):
        keras.utils.set_random_seed(0)
        backbone = keras_hub.models.GPT2Backbone(
            **{**SIZES, "num_layers": 6}, num_heads=2, max_sequence_length=64
        )
        model = type(gpt2())(
            keras_hub.models.GPT2CausalLM(backbone), None, rematerialize=rematerialize
        )
        model.compile(keras.optimizers.SGD(1.0))
        ids = tf.ones((8, 64), tf.int32)
        data = ({"token_ids": ids}, ids, tf.ones((8, 64)))
        run = tf.function(
            lambda data: model.train_step(data, tf.constant(0, tf.int64), tf.zeros(2))
        )
        return estimate_memory(model, run.get_concrete_function(data)).activations

    assert activations(rematerialize=True) < 0.5 * activations(rematerialize=False)


def test_a_family_that_cannot_be_walked_refuses_segments():
    backbone = keras_hub.models.GemmaBackbone(
        **SIZES, num_query_heads=2, num_key_value_heads=1, head_dim=8
    )
    ids = np.ones((1, 4), "int32")
    assert hidden_states(backbone, ids).shape == (1, 4, 16)
    with pytest.raises(ValueError, match="GemmaBackbone"):
        hidden_states(backbone, ids, segment_ids=ids)
