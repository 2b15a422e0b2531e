"""Strategies by name. Each case has a process of its own: TensorFlow has its devices only once."""

import json
import os
import socket

import pytest

from tests import forked

PRELUDE = """
import tensorflow as tf
from kerasllm.distribution import describe, is_chief, strategy, worker_count, worker_index
from kerasllm.errors import CommandError, JobError

def refused(*arguments, **options):
    try:
        return strategy(*arguments, **options)
    except (CommandError, JobError) as error:
        return str(error)
"""


def start(code, tf_config=None, **variables):
    environment = {key: value for key, value in os.environ.items() if key != "TF_CONFIG"}
    environment.pop("TPU_NAME", None)
    if tf_config:
        environment["TF_CONFIG"] = json.dumps(tf_config)
    return forked.start("-c", PRELUDE + code, env=environment | variables)


def finish(process):
    """Returns what a process printed, line by line, once it has ended well."""
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err[-3000:]
    return out.splitlines()


def free_ports(count):
    held = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [server.getsockname()[1] for server in held]
    for server in held:
        server.close()
    return ports


def cluster_of(**counts):
    ports = iter(free_ports(sum(counts.values())))
    return {job: [f"127.0.0.1:{next(ports)}" for _ in range(n)] for job, n in counts.items()}


def test_on_a_machine_without_accelerators_every_name_works_or_says_why_not():
    lines = finish(
        start("""
one = strategy("one_device")
assert one is tf.distribute.get_strategy() and not tf.distribute.has_strategy()
assert strategy() is one  # auto
print(describe(one), is_chief(one), worker_count(one))
two = strategy("virtual:2")
print(describe(two), is_chief(two), worker_count(two))

@tf.function
def total():
    def replica():
        context = tf.distribute.get_replica_context()
        return context.all_reduce("sum", context.replica_id_in_sync_group + 1)
    return two.experimental_local_results(two.run(replica))

print([int(value) for value in total()])
print(describe(strategy("virtual:1")))  # what there is will do
print(describe(strategy("mirrored")))
for arguments in ("virtual:3", "tpu", "multi_worker"):
    print(refused(arguments).partition(chr(10))[0])
for name in ("mirrored", "virtual:2", "one_device"):
    print(refused(name, communication="nccl").partition(chr(10))[0])
with two.scope():
    print(refused("one_device").partition(chr(10))[0])
""")
    )
    assert lines == [
        "one_device: CPU:0 True 1",
        "mirrored: 2 replicas on CPU:0, CPU:1 True 1",
        "[3, 3]",
        "mirrored: 1 replica on CPU:0",
        "mirrored: 1 replica on CPU:0",
        "strategy 'virtual:3' came too late: TensorFlow is already initialized, with 2 CPU devices",
        "no TPU was found on this machine",
        "strategy 'multi_worker' needs TF_CONFIG, which is not set",
        "communication 'nccl' is for GPUs, and TensorFlow sees none",
        "communication 'nccl' is for GPUs, and virtual devices are CPUs",
        "communication 'nccl' is for GPUs, and TensorFlow sees none",
        "strategy('one_device') was called inside the scope of another strategy",
    ]


def test_two_workers_add_up_in_a_ring_and_one_is_the_chief():
    cluster = cluster_of(chief=1, worker=1)
    code = """
import os, signal
signal.signal(signal.SIGTERM, lambda *_: print("asked to stop"))
two = strategy({name!r}, communication="ring")
os.kill(os.getpid(), signal.SIGTERM)  # TensorFlow does not keep it for itself
print(describe(two))
print(is_chief(two), worker_index(two), worker_count(two))

@tf.function
def total():
    def replica():
        context = tf.distribute.get_replica_context()
        return context.all_reduce("sum", context.replica_id_in_sync_group + 1)
    return two.run(replica)

print(int(total()))
"""
    workers = [
        start(code.format(name=name), {"cluster": cluster, "task": {"type": role, "index": 0}})
        for role, name in (("chief", "auto"), ("worker", "multi_worker"))
    ]
    chief, worker = [finish(process) for process in workers]
    assert chief == [
        "asked to stop",
        "multi_worker: worker 0 of 2: 2 replicas, here on CPU:0",
        "True 0 2",
        "3",
    ]
    assert worker == [
        "asked to stop",
        "multi_worker: worker 1 of 2: 2 replicas, here on CPU:0",
        "False 1 2",
        "3",
    ]


def test_multi_worker_is_refused_where_it_comes_too_late_or_its_port_is_taken():
    with socket.create_server(("0.0.0.0", 0)) as server:
        taken = f"127.0.0.1:{server.getsockname()[1]}"
        config = {"cluster": {"worker": [taken]}, "task": {"type": "worker", "index": 0}}
        # A cluster of one worker trains alone, and TF_CONFIG does not name its devices.
        code = """
print(describe(strategy()))
print(describe(strategy("mirrored")))
print(refused("multi_worker").partition(chr(10))[0])
"""
        late = start(code, config)
        deaf = start("print(refused('multi_worker'))", config)
        assert finish(late) == [
            "one_device: CPU:0",
            "mirrored: 1 replica on CPU:0",
            "strategy 'multi_worker' came too late: TensorFlow is already initialized",
        ]
        assert finish(deaf)[0].startswith("this worker could not join the others: ")


@pytest.mark.parametrize("name", ["no-such-tpu", "grpc://127.0.0.1:1"])
def test_a_tpu_that_does_not_answer_is_refused_without_a_wait(monkeypatch, name):
    import time

    from kerasllm.distribution import strategy
    from kerasllm.errors import CommandError

    monkeypatch.setenv("GCE_METADATA_HOST", "127.0.0.1:1")
    for given in (f"tpu:{name}", "tpu", "auto"):
        monkeypatch.setenv("TPU_NAME", name)
        monkeypatch.delenv("TF_CONFIG", raising=False)
        began = time.monotonic()
        with pytest.raises(CommandError, match=name):
            strategy(given)
        assert time.monotonic() - began < 10
