"""The same job gives the same numbers however it was started."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest

from kerasllm.run import Run
from tests.conftest import toy_settings
from tests.toy import save_toy_preset, toy_rows, write_csv
from tests.workflows.toy_runs import weights

# With dropout, which is drawn for each slice.
SETTINGS = ("training.epochs=2", "data.buckets=1", "model.dropout=0.1", "data.test=null")

FROM_PYTHON = """
import json, sys
{before}
from kerasllm.recipe import load
from kerasllm.workflows.finetune import finetune
settings, output = json.loads(sys.argv[1])
finetune(load("bert_cls", settings), output=output)
"""
# By then neither threads nor TensorFlow's flags can be set.
USES_TENSORFLOW = "import tensorflow as tf; tf.constant(1) + 1"
# By then XLA has read its flags as well.
USES_XLA = "import tensorflow as tf; tf.function(lambda x: x + 1, jit_compile=True)(1.0)"
SWITCHED_OFF = {
    "unsliced": {"KERASLLM_SLICES": "0"},
    "threads off": {
        "KERASLLM_THREADS": "0",
        "KERASLLM_ALLOCATOR": "0",
        "KERASLLM_XLA_CACHE": "0",
        "KERASLLM_LEAN_IMPORT": "0",
    },
}


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """The folder of runs by how they were started, and what each wrote to stderr."""
    folder = tmp_path_factory.mktemp("same")
    write_csv(folder / "train.csv", toy_rows(240))
    preset = save_toy_preset(folder / "preset", num_layers=1)
    settings = [*toy_settings(folder, preset), *SETTINGS]
    options = [f"--set={setting}" for setting in settings]
    verb = ["finetune", "--recipe", "bert_cls", *options, "--output"]
    command = [sys.executable, "-m", "kerasllm"]

    def python(name, before=""):
        code = FROM_PYTHON.format(before=before)
        return [sys.executable, "-c", code, json.dumps([settings, str(folder / name)])]

    started = {
        "command": [*command, *verb, str(folder / "command")],
        "debug": [*command, "--debug", *verb, str(folder / "debug")],
        "python": python("python"),
        "after TensorFlow": python("after TensorFlow", USES_TENSORFLOW),
        "after XLA": python("after XLA", USES_XLA),
        "threads off": [*command, *verb, str(folder / "threads off")],
        "unsliced": [*command, *verb, str(folder / "unsliced")],
    }
    environment = {
        name: value
        for name, value in os.environ.items()
        if name not in ("XLA_FLAGS", "TF_XLA_FLAGS", "TF_CPP_MIN_LOG_LEVEL")
        and not name.startswith(("TF_NUM_", "KERASLLM_"))
    }
    # XLA fuses a training as short as this one.
    environment["KERASLLM_COMPILE_COSTS"] = "0"
    environment["KERASLLM_CACHE"] = str(folder / "cache")
    said = {}
    for name, arguments in started.items():
        switches = SWITCHED_OFF.get(name, {})
        done = subprocess.run(
            arguments, env={**environment, **switches}, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr[-3000:]
        said[name] = done.stderr
    return folder, said


@pytest.mark.parametrize(
    "name", ["debug", "python", "after TensorFlow", "after XLA", "threads off"]
)
def test_the_weights_are_the_same_to_the_last_bit(runs, name):
    folder, _ = runs
    expected, found = weights(folder / "command"), weights(folder / name)
    for key, value in expected.items():
        np.testing.assert_array_equal(found[key], value, err_msg=key)


def test_a_run_says_how_its_numbers_were_computed_and_what_came_too_late(runs):
    folder, said = runs
    computed = json.loads(Run(folder / "command").environment.read_text())
    assert computed["fused"] is True and computed["xla"] is False
    if (slices := computed["slices"]) == 1:
        pytest.skip("this machine has no core for each of several slices")
    for name in ("command", "debug", "python"):
        assert "slower" not in said[name] and "one after another" not in said[name]
    assert "same results, slower steps" in " ".join(said["after TensorFlow"].split())
    assert f"{slices} slices of a batch are computed one after another" in " ".join(
        said["after XLA"].split()
    )


def test_only_debug_shows_what_tensorflow_logs(runs):
    _, said = runs
    assert "oneDNN" in said["debug"] and "oneDNN" not in said["command"]


def test_a_switch_that_changes_the_numbers_is_recorded(runs):
    folder, _ = runs
    found = json.loads(Run(folder / "unsliced").environment.read_text())
    assert found["slices"] == 1 and found["switched_off"] == ["KERASLLM_SLICES"]
    assert "switched_off" not in json.loads(Run(folder / "command").environment.read_text())
