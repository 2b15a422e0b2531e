"""A batch of which each core computes a part trains to the same weights."""

import os
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf

from kerasllm.data.labels import Labels
from kerasllm.models.text_classifier import TextClassifier
from kerasllm.runtime import threads as cores
from kerasllm.training import fit, forward_backward
from tests.models.accelerated.test_fused_encoder import make_inputs, make_task
from tests.training.test_fit import trained
from tests.training.tiny import tiny_batches, tiny_model

RUN = """
from kerasllm.runtime.startup import import_tensorflow
import_tensorflow()
from kerasllm.runtime import threads as cores
cores._cores = lambda: 2
print(cores.spread_batches({rows}))
import numpy as np, tensorflow as tf
tf.constant(0) + 1
print(cores.spread_batches({rows}), cores.parts_of_batch())
print(tf.config.threading.get_intra_op_parallelism_threads())
from kerasllm.training.optimizers import build_optimizer
from kerasllm.training.fit import FineTunedModel
from kerasllm.models.accelerated.fused_encoder import FusedEncoder
from tests.models.accelerated.test_fused_encoder import make_inputs, make_task

class Classifier(FineTunedModel):
    def fuse(self):
        return FusedEncoder(self.task)

import keras; keras.utils.set_random_seed(0)
model = Classifier(make_task("Bert"))
model.compile(build_optimizer("adamw", 1e-2, model.trainable_variables))
inputs = make_inputs(model.task)
labels = np.arange(len(inputs["token_ids"])) % model.task.num_classes
history = model.fit(inputs, labels, batch_size=64, epochs=60, shuffle=False, verbose=0).history
print(model.fused, history["loss"][-1] < 0.5 * history["loss"][0])
"""


@pytest.mark.parametrize("accumulate", [1, 2])
@pytest.mark.parametrize("parts", [2, 3])
def test_parts_give_the_numbers_of_one_large_batch(monkeypatch, parts, accumulate):
    expected_history, expected = trained(tiny_model())
    monkeypatch.setattr(fit, "parts_of_batch", lambda: parts)
    history, weights = trained(tiny_model(), accumulate=accumulate)
    np.testing.assert_allclose(history["loss"], expected_history["loss"], rtol=1e-5)
    assert history["accuracy"] == expected_history["accuracy"]
    for ours, theirs in zip(weights, expected, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=2e-6)


@pytest.mark.parametrize("accumulate", [1, 2])
@pytest.mark.parametrize("parts", [1, 2])
def test_parts_share_the_matrices_of_a_fused_encoder(monkeypatch, parts, accumulate):
    def make_wide_awake():
        task = make_task("Bert")
        # A new head hardly looks at the layers below it, and they would hardly move.
        head = task.get_layer("logits").kernel
        head.assign(100 * head)
        return task

    def weights_of(fused):
        task = make_wide_awake()
        # Frozen matrices are none of those that are shared.
        task.backbone.transformer_layers[0].trainable = False
        model = TextClassifier(task, Labels(["a", "b", "c"]))
        model.compile(keras.optimizers.SGD(0.1), fused=fused, accumulate=accumulate)
        assert (len(model.shared_by_parts()) == 5) is fused
        model.fit(make_inputs(task, rows=8), np.arange(8) % 3, epochs=3, verbose=0)
        return [variable.numpy() for variable in task.variables], task

    expected, _ = weights_of(fused=False)
    monkeypatch.setattr(fit, "parts_of_batch", lambda: parts)
    found, task = weights_of(fused=True)
    moved = set()
    before = [variable.numpy() for variable in make_wide_awake().variables]
    for variable, one, other, old in zip(task.variables, found, expected, before, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-6, err_msg=variable.path)
        if np.abs(one - old).max() > 5e-6:
            moved.add(id(variable))
    still, trained = (
        [id(weight) in moved for weight in layer.weights if weight.name == "kernel"]
        for layer in task.backbone.transformer_layers
    )
    assert still == [False] * 6 and trained == [True] * 6


def test_grappler_is_left_out_of_a_fused_step_alone():
    def left_out() -> bool:
        options = tf.config.optimizer.get_experimental_options()
        return options.get("disable_meta_optimizer", False)

    class Recording(TextClassifier):
        """Looks while its step is traced; the setting of the first call holds for the function."""

        def loss_and_outputs(self, *arguments, training=True):
            seen[training] = left_out()
            return super().loss_and_outputs(*arguments, training=training)

    for fused in (True, False):
        seen = {}
        task = make_task("Bert")
        model = Recording(task, Labels(["a", "b", "c"]))
        model.compile(keras.optimizers.SGD(0.1), fused=fused)
        assert model.fused is fused
        rows = make_inputs(task, rows=8), np.arange(8) % 3
        model.fit(*rows, verbose=0)
        model.evaluate(*rows, verbose=0)
        assert seen == {True: fused, False: False} and not left_out()


def test_gradients_of_shared_matrices_add_up_in_float32():
    small = tf.constant([2.0**-9], tf.bfloat16)
    total = forward_backward._sum_in_float32([tf.ones([1], tf.bfloat16), small])
    assert total.dtype == tf.float32 and total.numpy() == [1 + 2**-9]


def test_predictions_come_in_the_order_of_the_rows(monkeypatch):
    (x, _, _) = next(iter(tiny_batches(rows=7, batch_size=7)))
    model = tiny_model()
    expected = model.predict(tf.data.Dataset.from_tensors(x), verbose=0)
    monkeypatch.setattr(fit, "parts_of_batch", lambda: 3)
    model.compile(keras.optimizers.SGD(0.0))
    model.predict_function = None
    np.testing.assert_allclose(
        model.predict(tf.data.Dataset.from_tensors(x), verbose=0), expected, atol=1e-6
    )


@pytest.mark.parametrize(("rows", "spreads"), [(32, True), (15, False)])
def test_a_process_that_spreads_its_batches_learns(rows, spreads):
    environment = {**os.environ}
    for name in ("TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS"):
        environment.pop(name, None)
    done = subprocess.run(
        [sys.executable, "-c", RUN.format(rows=rows)],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    first, again, threads, learned = done.stdout.splitlines()
    assert first == str(spreads)
    assert again == ("True 2" if spreads else "False 1")
    assert threads == ("1" if spreads else "0")
    assert learned == "True True"


def test_threads_that_a_user_chose_stay(monkeypatch):
    monkeypatch.setattr(cores, "_cores", lambda: 2)
    monkeypatch.setattr(cores, "calls_at_once", lambda: True)
    monkeypatch.setenv("TF_NUM_INTRAOP_THREADS", "2")
    monkeypatch.setattr(
        tf.config.threading, "set_intra_op_parallelism_threads", lambda _: pytest.fail("set")
    )
    assert not cores.spread_batches(64)
    monkeypatch.delenv("TF_NUM_INTRAOP_THREADS")
    # TensorFlow was imported by another than kerasllm.
    monkeypatch.setattr(cores, "calls_at_once", lambda: False)
    assert not cores.spread_batches(64)
