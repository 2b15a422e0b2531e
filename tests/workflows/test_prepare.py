"""Every key of a recipe reaches the training: what is prepared is what was asked for."""

import io

import keras
import numpy as np
import pytest
from rich.console import Console

from kerasllm.recipe import load
from kerasllm.workflows.job import prepare
from kerasllm.workflows.report import Report
from tests.conftest import toy_settings


@pytest.fixture
def prepared(toy_data, toy_preset, session_cache, monkeypatch):
    """Prepares a toy job with some keys set."""
    monkeypatch.setenv("KERASLLM_CACHE", str(session_cache))

    def prepare_with(*settings, preset=toy_preset):
        recipe = load("bert_cls", [*toy_settings(toy_data, preset), *settings])
        return prepare(recipe, Report(Console(file=io.StringIO())))

    return prepare_with


def test_the_optimizer_is_the_recipes(prepared):
    job = prepared(
        "training.optimizer=lion",
        "training.weight_decay=0.07",
        "training.clip_norm=0.3",
        "training.ema=0.95",
        "training.schedule=polynomial",
        "training.power=3",
        "training.warmup=5",
        "training.learning_rate=0.002",
        "training.epochs=4",
    )
    optimizer = job.model.optimizer
    assert isinstance(optimizer, keras.optimizers.Lion)
    assert (optimizer.weight_decay, optimizer.global_clipnorm) == (0.07, 0.3)
    assert (optimizer.use_ema, optimizer.ema_momentum) == (True, 0.95)
    steps = 4 * -(-216 // 32)
    rates = []
    for step in (0, 4, 5, steps - 1):
        optimizer.iterations.assign(step)
        rates.append(float(optimizer.learning_rate))
    last = 0.002 * (1 - (steps - 1 - 5) / (steps - 5)) ** 3
    assert rates == pytest.approx([0.002 / 5, 0.002, 0.002, last], rel=1e-4)


def test_the_rate_of_a_layer_falls_with_its_depth(prepared, deep_toy_preset):
    """Measured: the step that each variable makes under one gradient for all."""
    settings = ("training.layer_decay=0.5", "training.weight_decay=0", "training.clip_norm=null")
    job = prepared(*settings, preset=deep_toy_preset)
    variables = job.model.trainable_variables
    before = [variable.numpy() for variable in variables]
    job.model.optimizer.apply([keras.ops.ones_like(variable) for variable in variables])
    moved = {
        variable.path: float(np.abs(variable.numpy() - old).mean())
        for variable, old in zip(variables, before, strict=True)
    }
    step = next(value for path, value in moved.items() if path.endswith("logits/kernel"))
    for part, factor in (
        ("token_embedding", 0.125),
        ("transformer_layer_0", 0.25),
        ("transformer_layer_1", 0.5),
    ):
        found = [value for path, value in moved.items() if part in path]
        assert found and found == pytest.approx([step * factor] * len(found), rel=0.01), part


def test_the_loss_is_smoothed_and_regularised(prepared):
    job = prepared("training.label_smoothing=0.2", "training.l2=0.01")
    assert job.model.item_loss.label_smoothing == 0.2
    kernels = [v for v in job.model.trainable_variables if v.name == "kernel"]
    expected = 0.01 * sum(float(np.square(kernel.numpy()).sum()) for kernel in kernels)
    assert len(kernels) > 5
    assert float(sum(job.model.losses)) == pytest.approx(expected, rel=1e-4)


def test_rows_weigh_as_their_class(prepared):
    job = prepared("data.class_weights={positive: 3}")
    assert {
        (job.data.labels.names[label], weight)
        for label, weight in zip(job.data.train.labels, job.data.train.weights, strict=True)
    } == {("negative", 1.0), ("positive", 3.0)}


def test_batches_precision_and_xla_are_the_recipes(prepared):
    job = prepared(
        "training.batch_size=24",
        "training.accumulate=3",
        "training.xla=true",
        "training.precision=mixed_bfloat16",
        "data.buckets=2",
        "model.dropout=0.3",
        "model.head_dropout=0.4",
    )
    assert job.plan.batch_size == 24 and len(job.plan().shapes) <= 2
    assert (job.model.accumulate, job.model.xla) == (3, True)
    assert job.model.dtype_policy.name == "mixed_bfloat16"
    assert job.model.task.output_dropout.rate == 0.4
    assert job.model.task.backbone.embeddings_dropout.rate == 0.3
    assert job.model.max_length == 32


def test_names_with_brackets_are_shown_as_they_are():
    shown = io.StringIO()
    report = Report(Console(file=shown, width=80, force_terminal=True))
    report.facts([("train", "data[old]/a[/x].csv")])
    with report.busy("reading a[/x].csv"), report.training(3):
        pass
    assert "data[old]/a[/x].csv" in shown.getvalue()
