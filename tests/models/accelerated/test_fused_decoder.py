"""The fused decoder has the loss and the gradients of KerasHub's own layers."""

from types import SimpleNamespace

import keras
import keras_hub
import numpy as np
import pytest
import tensorflow as tf

from kerasllm.models.accelerated.fused_decoder import FusedDecoder, can_fuse
from kerasllm.models.adapters import add_adapter
from kerasllm.models.causal_lm import CausalLM
from kerasllm.models.decoder_forward import hidden_states, logits
from kerasllm.training.chunked_loss import chunked_loss
from kerasllm.training.losses import SmoothedSparseCategoricalCrossentropy

# With several texts in a row or one.
FAMILIES = [
    ("GPT2", True),
    ("Llama3", False),
    ("Mistral", True),
    ("Qwen", False),
    ("Qwen3", True),
]
_SIZES = {"vocabulary_size": 30, "hidden_dim": 16, "intermediate_dim": 24}
_GROUPED = {"num_query_heads": 4, "num_key_value_heads": 2}
_OF_FAMILY = {
    "GPT2": {"num_heads": 2, "max_sequence_length": 16},
    "Llama3": {**_GROUPED, "tie_word_embeddings": True},
    "Mistral": {**_GROUPED, "sliding_window": 4},
    "Qwen": _GROUPED,
    "Qwen3": {**_GROUPED, "head_dim": 8},
}
_LOSS = SmoothedSparseCategoricalCrossentropy(0.1, reduction="sum")


def make_backbone(family, dtype="float32", rate=0.0, layers=2):
    keras.utils.set_random_seed(1)
    arguments = {**_SIZES, **_OF_FAMILY[family], "dtype": dtype, "dropout": rate}
    arguments["num_layers"] = layers
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


@pytest.mark.parametrize(("family", "packed"), FAMILIES)
def test_loss_and_gradients_are_those_of_keras_hub(family, packed):
    assert_alike(make_backbone(family), packed)


def test_adapters_are_learned_and_what_is_frozen_stays():
    backbone = make_backbone("Llama3")
    add_adapter(backbone, rank=2, targets=["query", "value", "mlp"], train=["norm"])
    random = np.random.default_rng(3)
    for variable in backbone.trainable_variables:
        variable.assign(random.normal(0, 0.3, variable.shape))
    frozen = [variable for variable in backbone.variables if not variable.trainable]
    assert len(frozen) > 10
    assert_alike(backbone, rematerialize=True)


def test_in_bfloat16_it_is_as_near_to_float32_as_keras_hub():
    exact, _, gradients = loss_and_gradients(one := make_backbone("Qwen"), by_keras_hub(one))
    mixed = make_backbone("Qwen", "mixed_bfloat16")
    theirs, _, their_gradients = loss_and_gradients(mixed, by_keras_hub(mixed))
    found, _, found_gradients = loss_and_gradients(mixed, by_fused(mixed))

    def distance(those):
        return np.linalg.norm(np.concatenate([np.ravel(a - b) for a, b in zip(those, gradients)]))

    assert abs(found - exact) < max(2 * abs(theirs - exact), 0.02 * abs(exact))
    assert 0 < distance(found_gradients) < 1.5 * distance(their_gradients)


def test_dropout_is_drawn_again_alike_where_layers_are_computed_again():
    found = {}
    for again in (False, True):
        backbone = make_backbone("GPT2", rate=0.3)
        fused = by_fused(backbone, rematerialize=again)
        found[again] = loss_and_gradients(backbone, fused)
    np.testing.assert_allclose(found[True][0], found[False][0], rtol=1e-6)
    for one, other in zip(found[True][2], found[False][2], strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5)
    without, *_ = loss_and_gradients(one := make_backbone("GPT2"), by_fused(one))
    assert abs(without - found[True][0]) > 1e-3


def test_a_layer_is_traced_once_for_all_that_are_alike():
    backbone = make_backbone("Llama3", layers=6)
    backbone.transformer_layers[0].trainable = False
    decoder = FusedDecoder(backbone)
    tf.function(decoder)(tf.ones([2, 4], tf.int32))
    # The first one is frozen, and the norm that follows the last one trains as all others do.
    assert len(decoder._functions) == 2


def test_a_model_trains_fused_and_in_slices_as_it_does_unfused():
    trained = {}
    for how in ({"fused": False}, {"fused": True}, {"fused": True, "slices": 2}):
        task = keras_hub.models.GPT2CausalLM(backbone=make_backbone("GPT2"), preprocessor=None)
        model = CausalLM(task, SimpleNamespace(vocabulary_size=30), loss_tokens=10)
        model.compile(keras.optimizers.SGD(0.05), **how)
        assert model.fused is how["fused"]
        ids = np.random.default_rng(0).integers(0, 30, (4, 8)).astype("int32")
        x, y = {"token_ids": ids[:, :-1]}, ids[:, 1:]
        data = tf.data.Dataset.from_tensors((x, y, np.ones(y.shape, "float32"))).repeat(4)
        model.fit(data, verbose=0)
        trained[str(how)] = [variable.numpy() for variable in model.trainable_variables]
    expected, *others = trained.values()
    for each in others:
        for one, other in zip(each, expected, strict=True):
            np.testing.assert_allclose(one, other, atol=2e-4)


def test_what_it_does_not_compute_is_left_to_keras_hub():
    for options in ({"dora": True}, {"quantize": "int8"}):
        backbone = make_backbone("Llama3")
        assert can_fuse(backbone)
        add_adapter(backbone, **options)
        assert not can_fuse(backbone)
