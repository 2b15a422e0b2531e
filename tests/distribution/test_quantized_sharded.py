"""Adapters on a quantized base, in float16, train in shards as commands, and resume anywhere."""

import json
import os

import numpy as np
import pytest
from safetensors.numpy import load_file

from tests.distribution.processes import XLA_FLAGS
from tests.distribution.quantized_sharded import begun_until
from tests.distribution.test_sharded import in_shards, kerasllm, losses
from tests.toy_language_model import chat_settings, save_toy_decoder

pytest.importorskip("jax")

MODULE = "tests.distribution.quantized_sharded"
# Of a loss, between engines: 1e-4 was seen after 6 steps in mixed_float16.
NEAR = 1e-3


@pytest.fixture(scope="module")
def settings(tmp_path_factory):
    """The options of a toy training of 6 steps on a base of 4 bits."""
    folder = tmp_path_factory.mktemp("chats")
    changed = ["model.quantize=int4", "training.precision=mixed_float16"]
    # A higher rate carries on what rounding differs in.
    changed += ["training.learning_rate=0.002", "training.max_steps=6"]
    changed += ["training.keep_checkpoints=9"]
    changed += ["training.checkpoint_every=3", "training.log_every=1"]
    of_toy = chat_settings(folder, save_toy_decoder(folder / "preset"))
    both = [part for each in [*of_toy, *changed] for part in ("--set", each)]
    return ["--recipe", "gpt_sft_qlora", *both]


@pytest.fixture(scope="module")
def day(settings, session_cache, tmp_path_factory):
    """The folder that TensorFlow wrote `one_device` into, and commands in shards the rest."""
    folder = tmp_path_factory.mktemp("quantized")
    run = folder / "one_device"
    done = kerasllm(
        session_cache, "finetune", *settings, "--output", run, "--strategy", "one_device"
    )
    assert done.returncode == 0, done.stderr
    begun_until(3, run, folder / "begun")
    (folder / "settings.json").write_text(json.dumps(settings))
    done = in_shards(MODULE, "commands", folder, cwd=folder, KERASLLM_CACHE=str(session_cache))
    assert done.returncode == 0, done.stderr[-5000:]
    return folder


def saved(run, step: int) -> dict:
    """Returns the arrays of a checkpoint, those of the optimizer by their last names."""
    [file] = (run / "checkpoints" / f"step-{step}").glob("*.safetensors")
    return load_file(file)


def scaling(run, step: int) -> dict:
    names = ("dynamic_scale", "step_counter")
    return {
        name: value.item()
        for key, value in saved(run, step).items()
        for name in names
        if key.endswith(f"/{name}")
    }


@pytest.mark.slow
def test_qlora_in_float16_trains_near_one_device(day):
    found, expected = losses(day / "in_shards"), losses(day / "one_device")
    np.testing.assert_allclose(found, expected, atol=NEAR, rtol=0)
    assert found[-1] < 0.95 * found[0]


@pytest.mark.slow
def test_a_resumed_run_is_exact(day):
    np.testing.assert_array_equal(losses(day / "again"), losses(day / "in_shards"))
    again, whole = (saved(day / name, 6) for name in ("again", "in_shards"))
    assert again.keys() == whole.keys()
    for name, value in whole.items():
        np.testing.assert_array_equal(again[name], value, err_msg=name)


@pytest.mark.slow
def test_the_scale_goes_from_engine_to_engine(day, settings, session_cache, tmp_path):
    begun_until(3, day / "in_shards", tmp_path / "run")
    done = kerasllm(
        session_cache,
        *("finetune", *settings, "--output", tmp_path / "run", "--resume"),
        *("--strategy", "one_device"),
    )
    assert done.returncode == 0, done.stderr
    for run in (tmp_path / "run", day / "begun"):
        [again] = json.loads((run / "environment.json").read_text())["resumed"]
        assert again["from_step"] == 3
        np.testing.assert_allclose(losses(run), losses(day / "one_device"), atol=NEAR, rtol=0)
        # It counts the steps since the scale was last changed, those of the other engine as well.
        assert scaling(run, 6) == {"dynamic_scale": 2.0**15, "step_counter": 6}


@pytest.mark.slow
def test_plan_shows_quantized_kernels_by_device(day):
    found = json.loads((day / "plan.json").read_text())
    assert found["problems"] == []
    weights = {each["path"]: each for each in found["layouts"]}
    packed = {path: each for path, each in weights.items() if path.endswith("/packed_kernel")}
    assert len(packed) == 12
    for path, each in packed.items():
        assert each["device_bytes"] * 4 == each["bytes"] == np.prod(each["shape"])
        assert weights[path.replace("packed_kernel", "kernel_scale")]["device_bytes"] > 0


@pytest.mark.slow
def test_tensorflow_opens_what_was_trained(day, session_cache, settings):
    test = next(each for each in settings if each.startswith("data.test=")).partition("=")[2]
    run = day / "in_shards"
    done = kerasllm(session_cache, "evaluate", run, "--data", json.loads(test), "--json")
    assert done.returncode == 0, done.stderr
    measured = json.loads((run / "metrics.json").read_text())["test"]
    assert json.loads(done.stdout)["loss"] == pytest.approx(measured["loss"], abs=0.02)


@pytest.mark.slow
def test_no_device_holds_more_of_a_base_than_its_parts(tmp_path):
    # Else XLA computes everything on a CPU as early as it can, and keeps it.
    flags = f"{XLA_FLAGS} --xla_cpu_enable_concurrency_optimized_scheduler=false"
    done = in_shards(MODULE, "memory", tmp_path, cwd=tmp_path, XLA_FLAGS=flags)
    assert done.returncode == 0, done.stderr[-5000:]
    found = json.loads((tmp_path / "memory.json").read_text())
    for kind, room in found["room"].items():
        # A layer's kernels are not held until the backward pass, gathered or dequantized.
        assert room["step"] < 0.2 * room["kernels"], kind
    loaded = found["loaded"]
    assert loaded["most"] <= 1.05 * loaded["parts"] < 0.1 * loaded["kernels"]


@pytest.mark.slow
def test_two_processes_tune_and_save_an_adapter(day, settings, session_cache, tmp_path):
    done = in_shards(
        *("kerasllm", "launch", "--workers", "2", "--strategy", "sharded", "--"),
        *("finetune", *settings, "--output", tmp_path / "run"),
        cwd=tmp_path,
        KERASLLM_CACHE=str(session_cache),
    )
    assert done.returncode == 0, done.stderr[-5000:]
    np.testing.assert_allclose(losses(tmp_path / "run"), losses(day / "in_shards"), atol=NEAR)
    assert os.path.isfile(tmp_path / "run" / "adapter" / "adapter_model.safetensors")
    assert os.path.isdir(tmp_path / "run" / "model")
