"""Runs a test's module under strategies, each in a process of its own, or one for each worker.

TensorFlow has its devices only once, and one failed fit can poison later ones in its process.
"""

import json
import os
import socket
from pathlib import Path

import numpy as np

from tests import forked

# XLA's compiler for CPUs takes most of the time of these tests: half as much without its last pass.
XLA_FLAGS = "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true"
TWO_WORKERS = "two workers"


def run_under(strategy: str, module: str, folder: Path, timeout: float = 300) -> dict:
    """Returns the arrays that `python -m module STRATEGY FILE` wrote, those of the first worker.

    Args:
        strategy: The name of a strategy, or `two workers`.
        module: The module, such as `tests.distribution.equal_numbers`.
        folder: Where to write.
        timeout: Seconds for all. Defaults to `300`.
    """
    count = 2 if strategy == TWO_WORKERS else 1
    ports = free_ports(count)
    started, files = [], []
    for index in range(count):
        environment = {key: value for key, value in os.environ.items() if key != "TF_CONFIG"}
        environment["XLA_FLAGS"] = XLA_FLAGS
        if count > 1:
            cluster = {"worker": [f"127.0.0.1:{port}" for port in ports]}
            task = {"type": "worker", "index": index}
            environment["TF_CONFIG"] = json.dumps({"cluster": cluster, "task": task})
        files.append(folder / f"{strategy.replace(':', '_')}-{index}.npz")
        name = strategy if count == 1 else "multi_worker"
        started.append(
            forked.start("-m", module, name, files[-1], cwd=forked.ROOT, env=environment)
        )
    try:
        errors = [process.communicate(timeout=timeout)[1] for process in started]
    finally:
        for process in started:
            process.kill()
    for process, error in zip(started, errors, strict=True):
        assert process.returncode == 0, error[-5000:]
    results = [dict(np.load(file)) for file in files]
    # What one worker sees, all do.
    for other in results[1:]:
        for key, value in other.items():
            np.testing.assert_array_equal(value, results[0][key], err_msg=key)
    return results[0]


def free_ports(count: int) -> list[int]:
    """Returns ports of this machine that nobody listens at."""
    held = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [server.getsockname()[1] for server in held]
    for server in held:
        server.close()
    return ports
