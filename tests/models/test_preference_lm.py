"""A model that is tuned by preferences has the loss and the gradients of all its logits at once."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from kerasllm.data.batch_plan import EpochPlans
from kerasllm.models.adapters import add_adapter
from kerasllm.models.likelihood import log_probabilities
from kerasllm.models.preference_lm import PreferenceLM
from kerasllm.tasks.task import find
from kerasllm.training.batches import training_batches
from kerasllm.training.preference_loss import LOSSES, PreferenceLoss
from tests.training.tiny_decoder import gpt2, llama, random_pairs

LENGTH = 14


def tuned(make=gpt2, loss=None, lora=False, **options) -> PreferenceLM:
    model = make(**options)
    if lora:
        model.adapters = add_adapter(model.backbone, rank=4, targets=["all-linear"])
    model = PreferenceLM(model)
    model.compile(keras.optimizers.Adam(1e-2), loss)
    return model


def batch_of(model, pairs):
    rows = np.arange(len(pairs))
    return tf.nest.map_structure(
        tf.constant, pairs.batch(rows, LENGTH, model.input_names, pad_id=0)
    )


def whole_log_probabilities(model, x):
    """From all logits, each token by itself."""
    sums = []
    for side in range(2):
        logits = tf.nn.log_softmax(model({"token_ids": x["token_ids"][:, side]}))
        each = tf.gather(logits, x["targets"][:, side], batch_dims=2)
        sums.append(tf.reduce_sum(each * tf.cast(x["counted"][:, side], tf.float32), axis=-1))
    return tf.stack(sums, axis=-1)


@pytest.fixture
def pairs():
    found = random_pairs(5, 6, LENGTH + 1)
    # Of another model, so that the pairs do not all have the same margin.
    found.reference = np.random.default_rng(1).normal(-40, 9, (5, 2)).astype(np.float32)
    return found


@pytest.mark.parametrize(
    ("kind", "options", "xla"),
    [
        *((kind, {}, None) for kind in LOSSES),
        ("ipo", {"loss_tokens": 9}, True),
        ("sigmoid", {"loss_tokens": 9, "rematerialize": True}, None),
    ],
)
def test_loss_and_gradients_are_those_of_the_whole_formula(kind, options, xla, pairs):
    model = tuned(loss=PreferenceLoss(kind, 0.05), **options)
    x, reference, _ = batch_of(model, pairs)
    share = tf.constant([0.1, 0.0, 0.3, 0.4, 0.2])
    variables = [variable.value for variable in model.trainable_variables]
    with tf.GradientTape() as tape:
        found = whole_log_probabilities(model, x)
        gained = (found - reference) @ [[1.0], [-1.0]]
        each = {
            "sigmoid": -tf.math.log_sigmoid(0.05 * gained),
            "ipo": (gained - 10.0) ** 2,
            "hinge": tf.nn.relu(1 - 0.05 * gained),
        }[kind]
        expected = tf.reduce_sum(share * each[:, 0])
    gradients = tape.gradient(expected, variables)

    @tf.function(jit_compile=xla)
    def ours():
        with tf.GradientTape() as tape:
            loss, outputs = model.loss_and_outputs(x, reference, share)
        return loss, outputs, tape.gradient(loss, variables)

    loss, outputs, ours_gradients = ours()
    assert float(loss) == pytest.approx(float(expected), rel=1e-5)
    np.testing.assert_allclose(outputs, found, rtol=1e-5)
    scale = float(tf.linalg.global_norm(gradients))
    assert scale > 1e-3
    for ours_one, one in zip(ours_gradients, gradients, strict=True):
        one = tf.convert_to_tensor(one)
        np.testing.assert_allclose(tf.convert_to_tensor(ours_one), one, atol=2e-6 * scale)


def test_the_reference_is_the_base_and_the_first_loss_the_logarithm_of_two(pairs):
    model = tuned(llama, lora=True)
    pairs.reference = log_probabilities(model, pairs, buckets=1)
    with model.adapters.disabled():
        x, reference, _ = batch_of(model, pairs)
        np.testing.assert_allclose(reference, whole_log_probabilities(model, x), rtol=1e-5)
    metrics = find("preference").evaluate(model, pairs, buckets=1).metrics
    assert metrics["loss"] == pytest.approx(np.log(2), rel=1e-5)
    assert metrics["margin"] == pytest.approx(0, abs=1e-5) and metrics["pairs"] == 5


def test_training_raises_the_margin_and_its_metrics_are_those_of_evaluate():
    model, pairs = tuned(loss=PreferenceLoss(beta=0.5)), random_pairs(12, 6, LENGTH + 1)
    pairs.reference = log_probabilities(model, pairs, buckets=1)
    plans = EpochPlans(pairs.lengths, 5, 1, seed=0)
    batches = training_batches(model, pairs, plans, 6)
    history = model.fit(batches, epochs=6, steps_per_epoch=plans.steps, verbose=0).history
    assert history["margin"][-1] > max(0.5, 2 * history["margin"][0])
    assert history["loss"][-1] < 0.8 * history["loss"][0]
    evaluation = find("preference").evaluate(model, pairs, buckets=1)
    metrics, found = evaluation.metrics, evaluation.outputs
    assert metrics["accuracy"] == 1 and metrics["chosen_reward"] > metrics["rejected_reward"]
    gained = 0.5 * (found - pairs.reference) @ [1.0, -1.0]
    assert metrics["margin"] == pytest.approx(gained.mean(), rel=1e-4)
    # The last batch is short, and padded with pairs of weight 0.
    measured = model.evaluate(training_batches(model, pairs, plans), steps=3, return_dict=True)
    assert set(measured) == set(metrics) - {"pairs"}
    for name, value in measured.items():
        assert value == pytest.approx(metrics[name], rel=1e-4, abs=1e-5), name
