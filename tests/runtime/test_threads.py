"""A batch that the cores compute in slices trains to the same weights."""

import os

import keras
import numpy as np
import pytest
import tensorflow as tf

from kerasllm.data.labels import Labels
from kerasllm.models.text_classifier import TextClassifier
from kerasllm.runtime import threads
from kerasllm.training import fit, forward_backward
from tests import forked
from tests.models.accelerated.test_fused_encoder import make_inputs, make_task
from tests.training.test_fit import trained
from tests.training.tiny import small_model, tiny_batches

RUN = """
from kerasllm.runtime.startup import prepare_process
prepare_process()
from kerasllm.runtime import threads
threads.available_cores = lambda: 2
slices = threads.slices_for({rows})
print(slices, prepare_process(slices=slices))
import numpy as np, tensorflow as tf
tf.constant(0) + 1
print(prepare_process(slices=slices), threads.operations_at_once())
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
model.compile(build_optimizer("adamw", 1e-2, model.trainable_variables), slices=slices)
inputs = make_inputs(model.task)
labels = np.arange(len(inputs["token_ids"])) % model.task.num_classes
history = model.fit(inputs, labels, batch_size=64, epochs=60, shuffle=False, verbose=0).history
print(model.fused, history["loss"][-1] < 0.5 * history["loss"][0])
"""


@pytest.fixture(scope="module")
def in_one_piece():
    """Losses and weights of a training whose batches are not cut."""
    return trained(small_model())


@pytest.mark.parametrize("accumulate", [1, 2])
@pytest.mark.parametrize("slices", [2, 3])
def test_slices_give_the_numbers_of_one_large_batch(slices, accumulate, in_one_piece):
    expected_history, expected = in_one_piece
    history, weights = trained(small_model(), accumulate=accumulate, slices=slices)
    np.testing.assert_allclose(history["loss"], expected_history["loss"], rtol=1e-5)
    assert history["accuracy"] == expected_history["accuracy"]
    for ours, theirs in zip(weights, expected, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=2e-6)


@pytest.mark.parametrize("accumulate", [1, 2])
@pytest.mark.parametrize("slices", [1, 2])
def test_slices_share_the_matrices_of_a_fused_encoder(slices, accumulate):
    def make_wide_awake():
        task = make_task("Bert")
        # A new head hardly looks at the layers below it, and they would hardly move.
        head = task.get_layer("logits").kernel
        head.assign(100 * head)
        return task

    def weights_of(fused, slices=1):
        task = make_wide_awake()
        # Frozen matrices are none of those that are shared.
        task.backbone.transformer_layers[0].trainable = False
        model = TextClassifier(task, Labels(["a", "b", "c"]))
        optimizer = keras.optimizers.SGD(0.1)
        model.compile(optimizer, fused=fused, accumulate=accumulate, slices=slices)
        assert (len(model.shared_by_slices()) == 5) is fused
        model.fit(make_inputs(task, rows=8), np.arange(8) % 3, epochs=3, verbose=0)
        return [variable.numpy() for variable in task.variables], task

    expected, _ = weights_of(fused=False)
    found, task = weights_of(fused=True, slices=slices)
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


@pytest.fixture
def grappler():
    """Grappler as commands have it; the tests' own process leaves it out."""
    before = tf.config.optimizer.get_experimental_options()
    tf.config.optimizer.set_experimental_options({"disable_meta_optimizer": False})
    yield
    tf.config.optimizer.set_experimental_options(before)


def test_grappler_is_left_out_of_a_fused_step_alone(grappler):
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


def test_predictions_come_in_the_order_of_the_rows():
    (x, _, _) = next(iter(tiny_batches(rows=7, batch_size=7)))
    model = small_model()
    expected = model.predict(tf.data.Dataset.from_tensors(x), verbose=0)
    model.compile(keras.optimizers.SGD(0.0), slices=3)
    model.predict_function = None
    np.testing.assert_allclose(
        model.predict(tf.data.Dataset.from_tensors(x), verbose=0), expected, atol=1e-6
    )


@pytest.mark.parametrize("precision", ["float32", "mixed_bfloat16"])
def test_slices_one_after_another_give_the_bits_of_slices_at_once(monkeypatch, precision):
    found = []
    for at_once in (True, False):
        monkeypatch.setattr(fit, "calls_at_once", lambda at_once=at_once: at_once)
        task = make_task("Bert", dtype=precision)
        model = TextClassifier(task, Labels(["a", "b", "c"]))
        model.compile(keras.optimizers.SGD(0.1), slices=3)
        model.fit(make_inputs(task, rows=8), np.arange(8) % 3, epochs=3, verbose=0)
        assert model.fused
        found.append([variable.numpy() for variable in task.variables])
    for one, other in zip(*found, strict=True):
        np.testing.assert_array_equal(one, other)


def test_slices_one_after_another_wait_for_each_other():
    model = small_model()
    model.compile(keras.optimizers.SGD(0.1), slices=2)
    x, y, weight = next(iter(tiny_batches()))

    def calls(at_once):
        compute = forward_backward.ForwardBackward(model, False, 1, 2, at_once=at_once)
        graph = (
            tf.function(compute, autograph=False)
            .get_concrete_function(x, y, weight, tf.constant(0, tf.int64))
            .graph
        )
        return [op for op in graph.get_operations() if op.type.endswith("PartitionedCall")]

    first, second = calls(at_once=False)
    assert {op.name.split("/")[0] for op in second.control_inputs} >= {first.name}
    assert not any(op.control_inputs for op in calls(at_once=True))


@pytest.mark.parametrize(("rows", "slices"), [(32, 2), (15, 1)])
def test_a_process_that_spreads_its_batches_learns(rows, slices):
    environment = {**os.environ}
    for name in ("TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS"):
        environment.pop(name, None)
    done = forked.run("-c", RUN.format(rows=rows), env=environment, cwd=forked.ROOT)
    assert done.returncode == 0, done.stderr[-2000:]
    first, again, threads, learned = done.stdout.splitlines()
    assert first == f"{slices} []"
    assert again == f"[] {slices}"
    assert threads == ("1" if slices == 2 else "0")
    assert learned == "True True"


def test_the_number_of_slices_is_of_the_rows_and_the_machine_alone(monkeypatch):
    monkeypatch.setattr(threads, "calls_at_once", lambda: pytest.fail("looked at XLA"))
    monkeypatch.setenv("TF_NUM_INTRAOP_THREADS", "2")
    found = {}
    for cores in (1, 2, 4, 8):
        monkeypatch.setattr(threads, "available_cores", lambda cores=cores: cores)
        found[cores] = [threads.slices_for(rows) for rows in (8, 16, 32)]
    assert found == {1: [1, 1, 1], 2: [1, 2, 2], 4: [1, 1, 4], 8: [1, 1, 1]}
    monkeypatch.setattr(threads, "available_cores", lambda: 2)
    monkeypatch.setenv("KERASLLM_SLICES", "0")
    assert threads.slices_for(64) == 1


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="Linux sets affinities")
def test_only_the_cores_that_the_process_may_use_count():
    allowed = os.sched_getaffinity(0)
    found = {}
    try:
        for cores in range(1, len(allowed) + 1):
            os.sched_setaffinity(0, sorted(allowed)[:cores])
            found[cores] = threads.available_cores()
    finally:
        os.sched_setaffinity(0, allowed)
    assert found == {cores: cores for cores in found}


@pytest.mark.parametrize(
    ("cores", "rows", "slices"),
    [(1, 32, 1), (2, 32, 2), (2, 8, 1), (4, 32, 4), (4, 16, 1), (8, 32, 1), (64, 512, 1)],
)
def test_the_table_of_slices_in_the_docs(cores, rows, slices):
    assert threads.slices_on(cores, rows) == slices


@pytest.fixture
def asked(monkeypatch):
    """What TensorFlow is asked for, on two cores."""
    asked = {}
    monkeypatch.setattr(threads, "_operations_at_once", 1)
    monkeypatch.setattr(threads, "available_cores", lambda: 2)
    monkeypatch.setattr(threads, "calls_at_once", lambda: True)
    for name in ("TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS"):
        monkeypatch.delenv(name, raising=False)
    for name in ("set_intra_op_parallelism_threads", "set_inter_op_parallelism_threads"):
        monkeypatch.setattr(
            tf.config.threading, name, lambda count, name=name: asked.update({name[4:9]: count})
        )
    return asked


def test_each_core_computes_a_slice(asked):
    assert threads.set_threads(2) is None
    assert asked == {"intra": 1, "inter": 2} and threads.operations_at_once() == 2


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("TF_NUM_INTRAOP_THREADS", "2"),
        ("TF_NUM_INTEROP_THREADS", "2"),
        ("KERASLLM_THREADS", "0"),
    ],
)
def test_threads_that_a_user_chose_stay(asked, monkeypatch, variable, value):
    monkeypatch.setenv(variable, value)
    assert threads.set_threads(2) is None
    assert not asked and threads.operations_at_once() == 1


def test_fewer_slices_than_cores_share_them(asked, monkeypatch):
    monkeypatch.setattr(threads, "available_cores", lambda: 8)
    assert threads.set_threads(2) is None and not asked


def test_what_came_too_late_is_told(asked, monkeypatch):
    def refuse(count):
        raise RuntimeError

    monkeypatch.setattr(tf.config.threading, "set_intra_op_parallelism_threads", refuse)
    assert "same results" in threads.set_threads(2)
    monkeypatch.setattr(threads, "calls_at_once", lambda: False)
    assert "2 slices of a batch are computed one after another" in threads.set_threads(2)
    assert threads.set_threads(1) is None
