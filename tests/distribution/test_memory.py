"""What a training needs is estimated from the model and its step."""

from functools import cache

import keras_hub
import pytest
import tensorflow as tf

from kerasllm.distribution import memory
from kerasllm.distribution.memory import checkpoint_bytes, device_memory, estimate_memory
from kerasllm.models.adapters.encoder_lora import add_lora
from kerasllm.training.fit import FineTunedModel
from kerasllm.training.optimizers import build_optimizer


@cache
def needs(rows=16, length=32, precision="float32", lora=False, accumulate=1):
    model = compiled_model(precision, lora, accumulate)
    inputs = {name: tf.TensorSpec([rows, length], tf.int32) for name in model.input_names}
    batch = (inputs, tf.TensorSpec([rows], tf.int32), tf.TensorSpec([rows]))

    @tf.function
    def step(data):
        arguments = (data, tf.constant(0, tf.int64), tf.constant(model.requests))
        model.distribute_strategy.run(model.train_step, args=arguments)

    return estimate_memory(model, step.get_concrete_function(batch))


def compiled_model(precision="float32", lora=False, accumulate=1):
    backbone = keras_hub.models.BertBackbone(
        vocabulary_size=50,
        num_layers=2,
        num_heads=2,
        hidden_dim=32,
        intermediate_dim=64,
        max_sequence_length=64,
        dtype=precision,
    )
    task = keras_hub.models.BertTextClassifier(backbone, num_classes=2)
    if lora:
        add_lora(task, rank=2)
    model = FineTunedModel(task)
    model.compile(build_optimizer("adamw", 1e-3, model.trainable_variables), accumulate=accumulate)
    return model


def test_weights_gradients_and_moments_are_those_of_the_model():
    model = compiled_model()
    weights = 4 * sum(weight.numpy().size for weight in model.trainable_weights)
    estimate = needs()
    assert estimate.gradients == weights
    # Beside them stand counters and seeds.
    assert weights <= estimate.weights < weights + 500
    assert 2 * weights <= estimate.optimizer < 2 * weights + 500
    assert estimate.activations > weights
    assert checkpoint_bytes(model) == weights + estimate.optimizer
    assert estimate.device == weights + estimate.weights + estimate.optimizer + estimate.activations
    assert estimate.process(2) - estimate.process() == estimate.device


def test_activations_grow_with_rows_and_with_length_faster():
    one = needs()
    assert 1.8 < needs(rows=32).activations / one.activations < 2.1
    assert 2.0 < needs(length=64).activations / one.activations < 4.0


def test_lora_needs_less_than_full_training():
    full, lora = needs(), needs(lora=True)
    assert lora.gradients < full.gradients / 5
    assert lora.optimizer < full.optimizer / 5
    assert lora.activations < full.activations
    assert lora.weights > full.weights


def test_mixed_precision_keeps_less_of_the_forward_pass():
    full, mixed = needs(), needs(precision="mixed_bfloat16")
    assert mixed.weights == full.weights
    assert mixed.activations < 0.75 * full.activations


def test_accumulation_needs_little_more_than_one_small_batch():
    whole, small = needs(rows=32), needs(rows=8)
    parts = needs(rows=32, accumulate=4)
    assert small.activations < parts.activations < 0.5 * whole.activations


@pytest.fixture
def system(tmp_path, monkeypatch):
    """Lets a test write what the system says of itself."""
    monkeypatch.setattr(memory, "_PROC", tmp_path / "proc")
    monkeypatch.setattr(memory, "_CGROUPS", tmp_path / "cgroup")

    def write(file, text):
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / file).write_text(text)

    write("proc/meminfo", "MemTotal: 900 kB\nMemAvailable: 800 kB\n")
    return write


def test_a_cpu_has_what_is_free(system):
    assert device_memory("CPU") == 800 * 1024


@pytest.mark.parametrize("limited", ["memory.max", "a/memory.max", "a/b/memory.max"])
def test_a_container_has_no_more_than_its_limit_or_that_of_any_around_it(system, limited):
    system("proc/self/cgroup", "0::/a/b\n")
    for file in ("memory.max", "a/memory.max", "a/b/memory.max"):
        system(f"cgroup/{file}", "max\n")
    assert device_memory("CPU") == 800 * 1024
    system(f"cgroup/{limited}", "5000\n")
    assert device_memory("CPU") == 5000


def test_an_old_container_has_no_more_than_its_limit(system):
    system("cgroup/memory/memory.limit_in_bytes", "6000\n")
    assert device_memory("CPU") == 6000


def test_the_smallest_gpu_counts(monkeypatch, tmp_path):
    tool = tmp_path / "nvidia-smi"
    tool.write_text("#!/bin/sh\necho 40960\necho 24576\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin:/usr/bin")
    assert device_memory("GPU") == 24576 * 2**20


def test_what_is_not_known_is_none(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert device_memory("GPU") is None
    assert device_memory("TPU") is None
