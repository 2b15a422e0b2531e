"""Several processes that train in shards: how they meet, stop, and resume from their parts."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time

import pytest

from kerasllm.distribution.tf_config import Cluster
from kerasllm.errors import CommandError, JobError
from kerasllm.run import Run
from tests import forked
from tests.conftest import toy_settings
from tests.distribution.processes import XLA_FLAGS, free_ports
from tests.toy import save_toy_preset, toy_rows, write_csv
from tests.workflows.test_chaos import finish, steps_done, wait_until, workers_of
from tests.workflows.toy_runs import assert_same, stopped_at

jax = pytest.importorskip("jax")

TWO_HOSTS = '{"cluster": {"worker": ["a:1", "b:2"]}, "task": {"type": "worker", "index": 1}}'


@pytest.fixture
def joined(monkeypatch):
    """What JAX was given to meet the others, on a machine that no variable says anything of."""
    calls = []
    for name in ("TF_CONFIG", "TPU_PROCESS_ADDRESSES", "TPU_WORKER_HOSTNAMES"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(jax.distributed, "initialize", lambda *given, **_: calls.append(given))
    monkeypatch.setattr(jax, "process_count", lambda: 4)
    monkeypatch.setattr(jax, "process_index", lambda: 3)
    return calls


@pytest.mark.parametrize(
    ("variables", "calls", "cluster"),
    [
        ({}, [], None),
        # JAX may number the hosts of a TPU otherwise.
        ({"TF_CONFIG": TWO_HOSTS}, [("a:1", 2, 1)], Cluster(4, 3)),
        # Of a TPU pod JAX finds the hosts by itself.
        ({"TPU_WORKER_HOSTNAMES": "t-0.svc,t-1.svc"}, [()], Cluster(4, 3)),
        ({"TPU_PROCESS_ADDRESSES": "t-0:8476,t-1:8476"}, [()], Cluster(4, 3)),
        # One host of a TPU, as on Colab.
        ({"TPU_WORKER_HOSTNAMES": "localhost"}, [], None),
        ({"TPU_WORKER_HOSTNAMES": ""}, [], None),
        # Who sets TF_CONFIG knows better.
        ({"TF_CONFIG": TWO_HOSTS, "TPU_WORKER_HOSTNAMES": "x,y"}, [("a:1", 2, 1)], Cluster(4, 3)),
    ],
)
def test_a_process_meets_those_that_its_environment_names(
    joined, monkeypatch, variables, calls, cluster
):
    from kerasllm.distribution import sharded

    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert sharded._join() == cluster and joined == calls


@pytest.mark.parametrize("ids", [None, "2,3"])
def test_a_task_of_slurm_has_all_devices_of_its_machine(monkeypatch, ids):
    from jax._src import distributed

    from kerasllm.distribution import sharded

    class Met(Exception):
        """JAX has chosen the devices, and would meet the others next."""

    variables = {
        "JOB_ID": "7",
        "STEP_NODELIST": "a,b",
        "NTASKS": "2",
        "PROCID": "1",
        "LOCALID": "0",
    }
    for name, value in variables.items():
        monkeypatch.setenv(f"SLURM_{name}", value)
    if ids:
        monkeypatch.setenv("JAX_LOCAL_DEVICE_IDS", ids)
    monkeypatch.setenv("TF_CONFIG", TWO_HOSTS)
    chosen = {}

    def update(name, value):
        chosen[name] = value

    def meet(*_, **__):
        raise Met

    # A state of its own, which no other test sees.
    monkeypatch.setattr(jax.distributed, "initialize", distributed.State().initialize)
    monkeypatch.setattr(distributed.config, "update", update)
    monkeypatch.setattr(distributed._jax, "get_distributed_runtime_client", meet)
    with pytest.raises(Met):
        sharded._join()
    assert chosen.get("jax_cuda_visible_devices") == ids


def test_a_host_that_does_not_meet_the_others_says_so(joined, monkeypatch):
    from kerasllm.distribution import sharded

    def fail(*_, **__):
        raise RuntimeError("DEADLINE_EXCEEDED: Barrier timed out\nmore")

    monkeypatch.setattr(jax.distributed, "initialize", fail)
    monkeypatch.setenv("TPU_WORKER_HOSTNAMES", "t-0.svc,t-1.svc")
    with pytest.raises(JobError, match="could not join the others: DEADLINE_EXCEEDED") as error:
        sharded._join()
    assert "TPU_WORKER_HOSTNAMES" in error.value.where


def test_processes_that_would_write_into_folders_of_their_own_are_refused():
    from kerasllm.workflows.finetune import _refuse_own_folders

    _refuse_own_folders("runs/two", None)
    with pytest.raises(CommandError, match="do not know which run"):
        _refuse_own_folders(None, None)
    with pytest.raises(CommandError, match="to an object store"):
        _refuse_own_folders("s3://bucket/run", object())


@pytest.mark.parametrize(
    ("message", "lost"),
    [
        ("UNKNOWN: Gloo AllGather failed: Read error: Connection reset by peer", True),
        ("INTERNAL: NCCL operation ncclGroupEnd() failed: remote process exited", True),
        ("UNAVAILABLE: Task 1 heartbeat timeout", True),
        ("RESOURCE_EXHAUSTED: Out of memory allocating 8 bytes", False),
    ],
)
def test_a_lost_process_is_told_from_other_errors(message, lost):
    from kerasllm.distribution import sharded

    assert sharded.is_lost_peer(jax.errors.JaxRuntimeError(message)) is lost
    assert not sharded.is_lost_peer(RuntimeError(message))


def of_two_devices(cache) -> dict[str, str]:
    """The environment of a process with two virtual devices."""
    variables = {
        **os.environ,
        "KERASLLM_CACHE": str(cache),
        "NO_COLOR": "1",
        "PYTHONPATH": str(forked.ROOT),
        "XLA_FLAGS": f"{XLA_FLAGS} --xla_force_host_platform_device_count=2",
    }
    variables.pop("TF_CONFIG", None)
    return variables


@pytest.fixture(scope="module")
def jobs(tmp_path_factory, session_cache):
    """Starts two processes of two devices each: `jobs(output, *settings)` has just begun.

    With `place`, a TF_CONFIG, it starts one of them alone.
    """
    folder = tmp_path_factory.mktemp("processes")
    write_csv(folder / "train.csv", toy_rows(240))
    write_csv(folder / "test.csv", toy_rows(60, seed=1))
    preset = save_toy_preset(folder / "preset", num_layers=1)
    begun = []

    def start(output, *settings: str, place: str | None = None) -> subprocess.Popen:
        changed = (
            # Slow enough to be met on the way: 27 steps an epoch.
            *("data.buckets=1", "training.batch_size=8", "training.epochs=4"),
            *("training.log_every=3", "training.checkpoint_every=5", "model.dropout=0.1"),
            *settings,
        )
        launch = ["launch", "--strategy", "sharded:2x2", "--workers", "2", "--", "finetune"]
        command = launch if place is None else ["finetune", "--strategy", "sharded:2x2"]
        command += ["--recipe", "bert_cls", "--resume", "--output", str(output)]
        command += [f"--set={each}" for each in (*toy_settings(folder, preset), *changed)]
        variables = of_two_devices(session_cache)
        if place:
            variables["TF_CONFIG"] = place
        with open(output.with_suffix(".log"), "ab") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "kerasllm", *command], stdout=log, stderr=log, env=variables
            )
        begun.append(process)
        return process

    yield start
    for process in begun:
        process.kill()


@pytest.fixture(scope="module")
def whole(jobs, tmp_path_factory):
    """A finished run that nothing stopped, with its checkpoints."""
    output = tmp_path_factory.mktemp("whole") / "whole"
    finish(jobs(output, "training.keep_checkpoints=99"), output)
    return output


@pytest.mark.slow
def test_two_processes_end_as_if_nothing_had_stopped_them(jobs, whole, tmp_path):
    output = tmp_path / "stopped"
    for victim in (1, 0):
        process, at = jobs(output), steps_done(output)
        wait_until(lambda: steps_done(output) > at + 12, process)
        os.kill(workers_of(process)[victim], signal.SIGKILL)
        killed = time.monotonic()
        said = finish(process, output, status=128 + signal.SIGKILL)
        # The other one waits for it in the middle of a step, and is stopped.
        assert time.monotonic() - killed < 60
        assert f"worker {victim} of 2 was killed by SIGKILL" in said
    for whom in ("launch", "one process"):
        process, at = jobs(output), steps_done(output)
        wait_until(lambda: steps_done(output) > at + 6, process)
        asked = process.pid if whom == "launch" else workers_of(process)[1]
        os.kill(asked, signal.SIGTERM)
        said = finish(process, output, status=128 + signal.SIGTERM)
        stops = re.findall(r"\[worker (\d)\] Stopped: .* after step (\d+) of", said)[-2:]
        assert sorted(worker for worker, _ in stops) == ["0", "1"], said
        assert len({step for _, step in stops}) == 1
        assert (Run(output).checkpoints / f"step-{stops[0][1]}").is_dir()
    finish(jobs(output), output)
    assert_same(output, whole)


@pytest.mark.slow
@pytest.mark.parametrize("victim", [0, 1])
def test_a_process_that_lost_another_ends_and_says_so(jobs, tmp_path, victim):
    cluster = {"worker": [f"127.0.0.1:{port}" for port in free_ports(2)]}
    output = tmp_path / "lost"
    processes = []
    for index in range(2):
        place = {"cluster": cluster, "task": {"type": "worker", "index": index}}
        processes.append(jobs(output, "training.epochs=100000", place=json.dumps(place)))
    wait_until(lambda: steps_done(output) > 5, processes[0])
    processes[victim].kill()
    said = finish(processes[1 - victim], output, status=1)
    assert "Error: Another worker has stopped, and training cannot continue without it" in said
    assert "restart all with --resume" in said


@pytest.mark.slow
def test_two_processes_evaluate_and_the_first_one_tells(whole, session_cache):
    use = ["--strategy", "sharded:2x2", str(whole)]
    done = forked.run(
        *("-m", "kerasllm", "launch", "--workers", "2", "--", "evaluate", *use, "--json"),
        env=of_two_devices(session_cache),
    )
    assert done.returncode == 0, done.stderr
    [told] = [line for line in done.stdout.splitlines() if "accuracy" in line]
    who, _, metrics = told.partition(" ")
    assert who == "[worker" and "[worker 1]" not in done.stdout
    measured = json.loads(metrics.partition("] ")[2])
    expected = json.loads((whole / "metrics.json").read_text())["test"]
    assert measured["loss"] == pytest.approx(expected["loss"], abs=1e-5)


@pytest.mark.slow
def test_checkpoints_with_a_damaged_part_are_skipped(jobs, whole, tmp_path):
    output = tmp_path / "damaged"
    shutil.copytree(stopped_at(whole, 20, "damaged"), output)
    parts = {
        step: Run(output).checkpoints / f"step-{step}" / "arrays-1.safetensors"
        for step in (10, 15, 20)
    }
    parts[20].unlink()
    content = parts[15].read_bytes()
    parts[15].write_bytes(content[: len(content) // 2])
    content = bytearray(parts[10].read_bytes())
    content[-1] ^= 1
    parts[10].write_bytes(content)
    said = finish(jobs(output), output)
    shown = " ".join(re.sub(r"^\[worker \d\] ", "", line) for line in said.splitlines())
    for step, why in (
        (20, "is missing"),
        (15, f"has {len(content) // 2} bytes, not {len(content)}"),
        (10, "does not match its checksum"),
    ):
        assert f"step-{step} is damaged: arrays-1.safetensors {why}. It is skipped" in shown
    assert "resuming after step 5 of 108" in shown
    assert_same(output, whole)
