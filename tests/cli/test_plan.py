"""`kerasllm plan` shows what would run, makes a step, and says what would fail."""

import json
import os
from types import SimpleNamespace

import click
import pytest

from kerasllm.cli.plan import parse_size
from kerasllm.workflows import plan_sharded, plan_summary
from tests import forked
from tests.conftest import toy_settings
from tests.toy import toy_rows, write_csv


@pytest.fixture
def plan(toy_data, toy_preset, session_cache):
    """Runs the command in a process of its own, which has the devices that it asks for."""

    def run(*arguments):
        settings = [part for text in toy_settings(toy_data, toy_preset) for part in ("--set", text)]
        command = ["-m", "kerasllm", "plan", "--recipe", "bert_cls"]
        environment = {**os.environ, "KERASLLM_CACHE": str(session_cache)}
        return forked.run(*command, *settings, *arguments, cwd=toy_data, env=environment)

    return run


def test_it_says_what_would_run_here(plan, toy_data):
    result = plan("--json", "--set", "training.accumulate=2")
    found = json.loads(result.stdout)
    assert result.returncode == 0 and found["problems"] == []
    assert (found["strategy"], found["replicas"]) == ("one_device", 1)
    assert (found["global_batch"], found["replica_batch"], found["micro_batch"]) == (32, 32, 16)
    assert found["steps"] == 6 * found["steps_per_epoch"] == 42
    assert found["trainable_parameters"] == found["parameters"]
    memory = found["memory"]
    assert memory["weights"] == 4 * found["parameters"]
    assert memory["gradients"] == 4 * found["parameters"]
    assert memory["total"] < memory["available"]
    assert found["disk"]["checkpoint"] > 3 * memory["gradients"]
    assert 0.5 < found["step"]["loss"] < 1
    assert not (toy_data / "runs").exists()
    for shown in ("Memory", "Trial step", "estimated", "No run was written"):
        assert shown in result.stderr


def test_the_plan_does_not_contradict_itself(plan):
    result = plan("--json", "--no-step")
    found, shown = json.loads(result.stdout), result.stderr
    assert ("XLA fuses element-wise work" in shown) == found["fused"]
    assert ("fused by XLA" in shown) == found["fused"]
    assert ("nothing (XLA is off)" in shown) == (not found["fused"] and not found["xla"])
    assert found["memory"]["activations"] != 0 and "0 bytes" not in shown


@pytest.mark.parametrize(
    ("fused", "xla", "words"),
    [
        (True, False, "element-wise work only, fused by XLA"),
        (False, False, "nothing (XLA is off)"),
        (False, True, "2 shapes per replica, by XLA"),
    ],
)
def test_it_says_what_is_compiled(fused, xla, words):
    assert plan_summary._compiled({"fused": fused, "xla": xla, "lengths": [8, 16]}) == words


def test_bytes_that_are_not_known_are_no_zero():
    memory = dict.fromkeys(("weights", "gradients", "optimizer", "total", "available"), 10**6)
    table = plan_summary._memory_table({**memory, "activations": None})
    cells = [list(column.cells) for column in table.columns]
    place = cells[0].index("activations")
    assert cells[1][place] == "-" and "gradients" in cells[2][place]


@pytest.mark.parametrize(("room", "activations", "total"), [(7, None, 30), (14, 4, 34)])
def test_what_a_shard_needs_beside_its_variables(room, activations, total):
    parts = {name: [SimpleNamespace(device_bytes=10)] for name in ("weights", "gradients", "slots")}
    needs = plan_sharded.memory_of(parts, room, SimpleNamespace(memory=None))
    assert (needs["activations"], needs["total"]) == (activations, total)


@pytest.mark.slow
def test_a_job_for_a_tpu_is_checked_without_one(plan):
    result = plan("--strategy", "tpu", "--replicas", "16", "--memory", "16GB", "--json")
    found = json.loads(result.stdout)
    assert result.returncode == 0 and found["lint"] == []
    assert (found["strategy"], found["replicas"], found["replica_batch"]) == ("tpu", 16, 2)
    assert len(found["lengths"]) == 1 and found["xla"]
    assert found["memory"]["available"] == 16 * 10**9
    assert "cannot check" in result.stderr and "TPU lint" in result.stderr


def test_warnings_about_the_data_stand_at_the_end(plan, toy_data):
    rows = [
        (text, label.title() if n < 9 else label) for n, (text, label) in enumerate(toy_rows(240))
    ]
    write_csv(toy_data / "train.csv", rows)
    result = plan("--no-step", "--json")
    found = json.loads(result.stdout)["warnings"]
    assert result.returncode == 0 and any("labels that look alike" in one for one in found)
    assert "WARNING  labels that look alike" in result.stderr
    assert f"there {'is' if len(found) == 1 else 'are'} {len(found)} warning" in result.stderr
    assert "No problems were found" not in result.stderr


def test_what_would_fail_is_a_problem_and_exit_1(plan):
    arguments = "--strategy tpu --replicas 2 --memory 100KB --no-step --json".split()
    result = plan(*arguments, "--set", "training.precision=mixed_float16")
    problems = " ".join(json.loads(result.stdout)["problems"])
    assert result.returncode == 1
    assert "100.0 kB" in problems and "float16" in problems
    assert "PROBLEM" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["--strategy", "multi_worker"], "--replicas"),
        (["--strategy", "virtual:2", "--replicas", "3"], "--replicas"),
        (["--memory", "much"], "much"),
        (["--strategy", "mirored"], "mirrored"),
    ],
)
def test_what_makes_no_sense_is_refused(plan, arguments, named):
    result = plan(*arguments)
    assert result.returncode == 2
    assert named in result.stderr and "Traceback" not in result.stderr


def test_sizes():
    assert parse_size("16GB") == 16 * 10**9
    assert parse_size("16 GiB") == 16 * 2**30
    assert parse_size("1.5k") == 1500
    assert parse_size("123") == 123
    for bad in ("GB", "-1GB", "0", "16XB"):
        with pytest.raises(click.BadParameter):
            parse_size(bad)
