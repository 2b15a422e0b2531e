"""The fused encoder has the logits and the gradients of KerasHub's own forward pass."""

import keras
import keras_hub
import numpy as np
import pytest
import tensorflow as tf

from kerasllm.data.labels import Labels
from kerasllm.models.accelerated import program
from kerasllm.models.accelerated.fused_encoder import FusedEncoder, can_fuse
from kerasllm.models.accelerated.fused_operations import dropout, fused
from kerasllm.models.heads import PooledTextClassifier
from kerasllm.models.layers import walk
from kerasllm.models.text_classifier import TextClassifier

FAMILIES = ["Bert", "DistilBert", "Roberta", "XLMRoberta"]
POOLINGS = ["cls", "mean"]
_hub = keras_hub.models


def make_task(family, rate=0.0, dtype="float32", pooling="cls"):
    keras.utils.set_random_seed(1)
    backbone = getattr(_hub, f"{family}Backbone")(
        vocabulary_size=30,
        num_layers=2,
        num_heads=2,
        hidden_dim=8,
        intermediate_dim=16,
        max_sequence_length=16,
        dropout=rate,
        dtype=dtype,
    )
    for weight in backbone.weights:
        if "float" in weight.dtype:
            weight.assign(np.random.default_rng(len(weight.path)).normal(0, 0.5, weight.shape))
    if pooling == "mean":
        return PooledTextClassifier(backbone, num_classes=3, dropout=rate)
    return getattr(_hub, f"{family}TextClassifier")(backbone=backbone, num_classes=3, dropout=rate)


def make_inputs(task, rows=4, length=9):
    lengths = np.arange(rows) * 3 % length + 1
    ids = np.random.default_rng(0).integers(5, 30, (rows, length))
    mask = np.arange(length) < lengths[:, None]
    inputs = {"token_ids": ids * mask, "padding_mask": mask, "segment_ids": ids % 2 * mask}
    return {name: tf.constant(inputs[name], tf.int32) for name in task.input}


def logits_and_gradients(task, compute):
    weights = [variable.value for variable in task.trainable_variables]
    spec = {name: tf.TensorSpec([None, None], tf.int32) for name in task.input}

    @tf.function(input_signature=[spec])
    def run(inputs):
        with tf.GradientTape() as tape:
            logits = tf.cast(compute(inputs), tf.float32)
            loss = tf.reduce_sum(tf.sin(logits))
        found = tape.gradient(loss, weights, unconnected_gradients="zero")
        return logits, [tf.convert_to_tensor(gradient) for gradient in found]

    return run(make_inputs(task))


@pytest.mark.parametrize("pooling", POOLINGS)
@pytest.mark.parametrize("family", FAMILIES)
def test_logits_and_gradients_are_those_of_keras_hub(family, pooling):
    task = make_task(family, pooling=pooling)
    if "segment_ids" in task.input:
        assert tf.reduce_max(make_inputs(task)["segment_ids"]) == 1
    assert can_fuse(task)
    expected, gradients = logits_and_gradients(task, lambda x: task(x, training=True))
    found, found_gradients = logits_and_gradients(task, FusedEncoder(task))
    np.testing.assert_allclose(found, expected, atol=1e-5)
    for variable, one, other in zip(task.trainable_variables, found_gradients, gradients):
        np.testing.assert_allclose(one, other, atol=1e-4, err_msg=variable.path)
    assert sum(np.abs(gradient).max() > 1e-3 for gradient in gradients) > 8


@pytest.mark.parametrize("pooling", POOLINGS)
def test_in_bfloat16_they_are_as_near_to_float32_as_keras_hubs(pooling):
    exact, gradients = logits_and_gradients(
        task := make_task("Bert", pooling=pooling), lambda x: task(x, training=True)
    )
    mixed = make_task("Bert", dtype="mixed_bfloat16", pooling=pooling)
    theirs, their_gradients = logits_and_gradients(mixed, lambda x: mixed(x, training=True))
    found, found_gradients = logits_and_gradients(mixed, FusedEncoder(mixed))

    def distance(logits, those):
        parts = [np.ravel(logits - exact), *(np.ravel(a - b) for a, b in zip(those, gradients))]
        return np.linalg.norm(np.concatenate(parts))

    assert 0 < distance(found, found_gradients) < 1.5 * distance(theirs, their_gradients)


@pytest.mark.parametrize("pooling", POOLINGS)
def test_adapters_are_learned_and_frozen_layers_stay(pooling):
    task = make_task("Bert", pooling=pooling)
    for layer in walk(task.backbone.transformer_layers):
        if layer.name in ("query", "value"):
            layer.enable_lora(2)
    for variable in task.trainable_variables:
        if "lora" in variable.path:
            variable.assign(np.random.default_rng(3).normal(size=variable.shape))
    expected, gradients = logits_and_gradients(task, lambda x: task(x, training=True))
    found, found_gradients = logits_and_gradients(task, FusedEncoder(task))
    np.testing.assert_allclose(found, expected, atol=1e-4)
    for variable, one, other in zip(task.trainable_variables, found_gradients, gradients):
        np.testing.assert_allclose(one, other, atol=1e-3, err_msg=variable.path)


@pytest.mark.parametrize("pooling", POOLINGS)
def test_a_classifier_trains_fused_as_it_does_unfused(pooling):
    trained = {}
    for fused_way in (True, False):
        model = TextClassifier(make_task("Bert", pooling=pooling), Labels(["a", "b", "c"]))
        model.compile(keras.optimizers.SGD(0.05), fused=fused_way)
        assert model.fused is fused_way
        model.fit(make_inputs(model.task), np.array([0, 1, 2, 1]), epochs=5, verbose=0)
        trained[fused_way] = [variable.numpy() for variable in model.trainable_variables]
    untrained = make_task("Bert", pooling=pooling)
    before = [variable.numpy() for variable in untrained.trainable_variables]
    for one, other in zip(trained[True], trained[False], strict=True):
        np.testing.assert_allclose(one, other, atol=1e-4)
    moved = [np.abs(a - b).max() for a, b in zip(trained[True], before, strict=True)]
    assert max(moved) > 0.01
    model.compile(keras.optimizers.SGD(0.05), xla=True)
    assert not model.fused


def test_dropout_drops_its_share_and_keeps_the_mean():
    ones = tf.ones([400, 300])
    drop = fused(lambda x, seed: dropout(x, 0.1, seed))
    first, second = (drop(ones, tf.constant([7, n], tf.uint32)).numpy() for n in (1, 2))
    for found in (first, second):
        assert set(np.unique(found)) == {0, np.float32(1 / 0.9)}
        # Five standard deviations of 120,000 draws.
        assert np.mean(found == 0) == pytest.approx(0.1, abs=5 * np.sqrt(0.09 / 120_000))
        # Neither rows nor columns nor neighbours know of each other.
        assert np.mean(found == 0, axis=0).std() == pytest.approx(np.sqrt(0.09 / 400), rel=0.25)
        assert np.mean(found == 0, axis=1).std() == pytest.approx(np.sqrt(0.09 / 300), rel=0.25)
    dropped = (first == 0).ravel()
    assert np.mean(dropped[1:] & dropped[:-1]) == pytest.approx(0.01, rel=0.15)
    assert np.mean((first == 0) & (second == 0)) == pytest.approx(0.01, rel=0.15)
    again = drop(ones, tf.constant([7, 1], tf.uint32)).numpy()
    np.testing.assert_array_equal(first, again)


def test_the_gradient_drops_what_the_output_dropped():
    x = tf.random.stateless_normal([50, 40], [1, 2])
    drop = fused(lambda x, seed: dropout(x, 0.5, seed))
    with tf.GradientTape() as tape:
        tape.watch(x)
        found = drop(x, tf.constant([1, 2], tf.uint32))
    gradient = tape.gradient(found, x).numpy()
    np.testing.assert_array_equal(gradient, np.where(found.numpy() == 0, 0, 2))


def test_a_batch_that_is_padded_further_drops_the_same():
    task = make_task("Bert", rate=0.3)
    encoder, inputs = FusedEncoder(task), make_inputs(task)
    seeds = [each for each in task.variables if each.name == "seed_generator_state"]
    before = [each.numpy() for each in seeds]
    found = []
    for more in (0, 5):
        for each, state in zip(seeds, before, strict=True):
            each.assign(state)
        found.append(encoder({k: tf.pad(v, [[0, 0], [0, more]]) for k, v in inputs.items()}))
    np.testing.assert_allclose(*found, atol=1e-5)
    for each, state in zip(seeds, before, strict=True):
        each.assign(state + 1)
    assert np.abs(encoder(inputs) - found[0]).max() > 0.01


def test_its_programs_are_compiled_before_they_are_used(monkeypatch):
    encoder, task = FusedEncoder(make_task("Bert", rate=0.1)), make_task("Bert", rate=0.1)
    noted = set()
    monkeypatch.setattr(program.xla_cache, "note", noted.add)
    monkeypatch.setattr(program.xla_cache, "is_kept", noted.__contains__)
    assert not encoder.is_compiled(4, 9)
    for compile_one in encoder.compilations(4, 9):
        compile_one()
    assert encoder.is_compiled(4, 9) and not encoder.is_compiled(4, 10)
    # The tokens of a length, and the first of each row: not one program for each layer.
    assert len(noted) == 18
    assert np.isfinite(encoder(make_inputs(task))).all()


@pytest.mark.parametrize("pooling", POOLINGS)
def test_every_dropout_of_a_model_draws_by_its_own_seed(pooling):
    task = make_task("Bert", rate=0.3, pooling=pooling)
    encoder, inputs = FusedEncoder(task), make_inputs(make_task("Bert"))
    first, second = encoder(inputs).numpy(), encoder(inputs).numpy()
    assert np.abs(first - second).max() > 0.01
    generators = [
        variable for variable in task.variables if variable.name == "seed_generator_state"
    ]
    # Embeddings, three a layer, and the head: each has drawn twice.
    assert [int(state.numpy()[1]) for state in generators] == [2] * 8


def test_only_the_mean_computes_the_last_layer_for_all_tokens():
    shapes = {}
    for pooling in POOLINGS:
        encoder = FusedEncoder(make_task("Bert", pooling=pooling))
        inputs = make_inputs(make_task("Bert"))
        graph = tf.function(encoder).get_concrete_function(inputs).graph
        products = [op for op in graph.get_operations() if op.type == "MatMul"]
        shapes[pooling] = len(products)
    # A query of its own, for the first token alone; and the pooler.
    assert shapes == {"cls": 4 + 5 + 2, "mean": 4 + 4 + 1}


def test_other_encoders_are_not_fused():
    backbone = _hub.FNetBackbone(
        vocabulary_size=30, num_layers=1, hidden_dim=8, intermediate_dim=16, max_sequence_length=16
    )
    assert not can_fuse(_hub.FNetTextClassifier(backbone=backbone, num_classes=2))
