"""What `plan` says of memory holds: a model that one device is too small for trains on four."""

import json
import os
import re
import subprocess
import sys

import pytest

from tests import forked
from tests.distribution.processes import XLA_FLAGS
from tests.toy import save_toy_preset, toy_rows, write_csv

pytest.importorskip("jax")

pytestmark = pytest.mark.slow

# Below the weights, the gradients and Adam's state, which `test_one_device_is_too_small` counts.
MEMORY = 15_000_000


def save_odd_preset(folder):
    """Writes a BERT whose large weights no axis of four devices divides."""
    import keras
    import keras_hub

    keras.utils.set_random_seed(0)
    words = [f"word{number}" for number in range(996)]
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *words]
    backbone = keras_hub.models.BertBackbone(
        vocabulary_size=len(vocabulary),
        num_layers=2,
        num_heads=2,
        hidden_dim=522,
        intermediate_dim=64,
        max_sequence_length=32,
    )
    backbone.save_to_preset(str(folder))
    keras_hub.models.BertTokenizer(vocabulary=vocabulary).save_to_preset(str(folder))
    return folder


@pytest.fixture(scope="module")
def done(tmp_path_factory, session_cache):
    """What each command printed, on a machine of one device and on one of four."""
    folder = tmp_path_factory.mktemp("memory")
    write_csv(folder / "train.csv", toy_rows(64))
    preset = save_toy_preset(folder / "preset", hidden_dim=256, num_layers=2)
    odd = save_odd_preset(folder / "odd")

    def command(verb: str, preset, strategy: str, *more: str) -> list[str]:
        settings = {
            "data.train": str(folder / "train.csv"),
            "data.test": None,
            "data.max_length": 32,
            "data.buckets": 1,
            "model.preset": str(preset),
            "model.dropout": 0.0,
            "training.precision": "float32",
            "training.max_steps": 4,
            "training.batch_size": 8,
        }
        options = [f"--set={key}={json.dumps(value)}" for key, value in settings.items()]
        return [verb, "--recipe", "bert_cls", *options, "--strategy", strategy, *more]

    memory = ("--memory", str(MEMORY), "--json")
    commands = {
        1: {"plan": command("plan", preset, "sharded:1x1", *memory)},
        4: {
            "plan": command("plan", preset, "sharded:4x1", *memory),
            "train": command("finetune", preset, "sharded:4x1", "--output", str(folder / "run")),
            "odd": command("plan", odd, "sharded:4x1", "--json", "--no-step"),
            "odd, shown": command("plan", odd, "sharded:4x1", "--no-step"),
            "odd, another mesh": command("plan", odd, "sharded:2x2", "--json", "--no-step"),
        },
    }
    found = {}
    for count, wanted in commands.items():
        (folder / "commands.json").write_text(json.dumps(wanted))
        run = subprocess.run(
            [
                *(sys.executable, "-m", "tests.distribution.sharded_commands", "sharded"),
                *(folder / "commands.json", folder / "done.json"),
            ],
            env={
                **os.environ,
                "COLUMNS": "1000",
                "KERASLLM_CACHE": str(session_cache),
                "PYTHONPATH": str(forked.ROOT),
                "XLA_FLAGS": f"{XLA_FLAGS} --xla_force_host_platform_device_count={count}",
            },
            capture_output=True,
            text=True,
            timeout=900,
        )
        assert run.returncode == 0, run.stderr[-5000:]
        found[count] = json.loads((folder / "done.json").read_text())
    return found


def test_one_device_is_too_small(done):
    plan = done[1]["plan"]
    assert plan["status"] == 1
    found = json.loads(plan["out"])
    memory = found["memory"]
    assert memory["weights"] + memory["gradients"] + memory["optimizer"] > MEMORY
    [problem] = found["problems"]
    assert problem.startswith("memory: each device would need") and "has 15.0 MB" in problem


def test_four_devices_are_not(done):
    plan = done[4]["plan"]
    assert plan["status"] == 0, plan["err"]
    found = json.loads(plan["out"])
    assert found["problems"] == [] and found["memory"]["total"] < MEMORY


def test_each_of_four_devices_holds_a_quarter_of_what_trains(done):
    train = done[4]["train"]
    assert train["status"] == 0, train["err"]
    memory = json.loads(done[1]["plan"]["out"])["memory"]
    quarter = (memory["weights"] + memory["optimizer"]) / 4
    assert len(train["held"]) == 4
    for held in train["held"]:
        # Of all arrays that there are, those of the metrics and of the last batch included.
        assert held == pytest.approx(quarter, rel=0.1)


def test_plan_fails_where_a_large_variable_would_be_whole_on_each_device(done):
    plan = done[4]["odd"]
    assert plan["status"] == 1
    found = json.loads(plan["out"])
    problems = [each for each in found["problems"] if each.startswith("layout: ")]
    named = [each["path"] for each in found["layouts"] if each["bytes"] >= 1 << 20]
    assert "token_embedding/embeddings" in named and len(named) > 1
    # Those that differ in the number of their layer alone share a line.
    groups = {re.sub(r"\d+", "#", path): path for path in named}
    for (group, path), problem in zip(groups.items(), problems, strict=True):
        alike = path if group == path else f"{group} (2 alike)"
        assert f"each of 4 devices would hold all of {alike}, " in problem
    assert "all of token_embedding/embeddings, 1001 x 522, 2.1 MB" in problems[0]
    shown = done[4]["odd, shown"]
    assert shown["status"] == 1 and "token_embedding/embeddings" in shown["err"]


def test_plan_does_not_fail_where_an_axis_divides_it(done):
    plan = done[4]["odd, another mesh"]
    assert plan["status"] == 0, plan["out"]
    weights = {each["path"]: each for each in json.loads(plan["out"])["layouts"]}
    table = weights["token_embedding/embeddings"]
    assert table["device_bytes"] * 2 == table["bytes"]
