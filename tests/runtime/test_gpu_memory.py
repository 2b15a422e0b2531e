"""The memory of GPUs is taken as the recipe says, before TensorFlow reserves it."""

import pytest
import tensorflow as tf

from kerasllm import recipe
from kerasllm.errors import RecipeError
from kerasllm.runtime import gpu_memory, startup
from kerasllm.workflows import job

GPUS = ["GPU:0", "GPU:1"]


@pytest.fixture
def calls(monkeypatch):
    """What TensorFlow is asked for, with two GPUs."""
    calls = []
    monkeypatch.setattr(
        tf.config, "list_physical_devices", lambda kind=None: GPUS if kind == "GPU" else []
    )
    monkeypatch.setattr(
        tf.config.experimental,
        "set_memory_growth",
        lambda device, enable: calls.append((device, enable)),
    )
    monkeypatch.setattr(
        tf.config,
        "set_logical_device_configuration",
        lambda device, parts: calls.append((device, [part.memory_limit for part in parts])),
    )
    return calls


@pytest.mark.parametrize(
    ("limit", "expected"),
    [("growth", True), ("all", False), (8 * 10**9, [7629]), (4 << 30, [4096]), (1, [1])],
)
def test_each_gpu_is_set_before_it_is_used(calls, limit, expected):
    assert gpu_memory.set_gpu_memory(limit) is None
    assert calls == [(device, expected) for device in GPUS]


def test_a_switch_leaves_the_gpus(calls, monkeypatch):
    monkeypatch.setenv("KERASLLM_GPU_MEMORY", "0")
    assert gpu_memory.set_gpu_memory("growth") is None and not calls


@pytest.mark.parametrize(
    ("error", "words"), [(RuntimeError, "came too late"), (ValueError, "is not applied")]
)
def test_gpus_that_are_in_use_are_told(calls, monkeypatch, error, words):
    def refuse(device, enable):
        raise error

    monkeypatch.setattr(tf.config.experimental, "set_memory_growth", refuse)
    assert words in gpu_memory.set_gpu_memory("growth")


def test_the_process_is_prepared_as_the_recipe_says(monkeypatch):
    seen = []
    monkeypatch.setattr(gpu_memory, "set_gpu_memory", lambda limit: seen.append(limit))
    startup.prepare_process()
    for setting in ("growth", "all", "7.5GiB"):
        loaded = recipe.load("bert_cls", [f"training.gpu_memory={setting}"])
        job.prepare_process_for(loaded, {"slices": 1})
    assert seen == ["growth", "growth", "all", int(7.5 * 2**30)]


@pytest.mark.parametrize("size", ["much", "8 bananas", "0GB", "-1GB", "IB"])
def test_a_size_that_is_none_is_refused_with_where_and_how(size):
    with pytest.raises(RecipeError, match="is not an amount of memory") as refused:
        recipe.load("bert_cls", [f"training.gpu_memory={size}"])
    assert "training.gpu_memory" in str(refused.value)
    assert "8GB" in refused.value.fix
