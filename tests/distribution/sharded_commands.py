"""Runs commands one after the other in a process, which computes in shards or with TensorFlow.

    python -m tests.distribution.sharded_commands one_device COMMANDS.json DONE.json
    python -m tests.distribution.sharded_commands sharded COMMANDS.json DONE.json

Run by test_sharded_training.py and test_sharded_memory.py: to import JAX, Keras and TensorFlow
takes longer than a toy training. COMMANDS.json has the arguments of each command by its name,
DONE.json gets its exit status, what it printed, and the bytes of all that lies on each device after
the last step of a training in shards. `stopped_at RUN STEP NAME` copies a run as it was when it was
killed.
"""

from __future__ import annotations

import contextlib
import gc
import io
import json
import sys
from pathlib import Path


def ran(arguments: list[str]) -> dict:
    """Runs a command, and returns its exit status and what it printed."""
    from kerasllm.cli.main import main as kerasllm
    from tests.workflows.toy_runs import stopped_at

    if arguments[0] == "stopped_at":
        run, step, name = arguments[1:]
        stopped_at(Path(run), int(step), name)
        return {"status": 0, "out": "", "err": ""}
    out, err, status = io.StringIO(), io.StringIO(), 0
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            kerasllm(arguments)
        except SystemExit as ended:
            status = ended.code or 0
    return {"status": status, "out": out.getvalue(), "err": err.getvalue()}


def watch_devices(held: list[int]) -> None:
    """Puts the bytes on each device into a list whenever a `fit` has ended."""
    import jax

    from kerasllm.training.loops import LoopsModel

    fit = LoopsModel.fit

    def watched(self, *arguments, **options):
        history = fit(self, *arguments, **options)
        gc.collect()
        devices: dict = {each: {} for each in jax.devices()}
        for array in jax.live_arrays():
            for shard in array.addressable_shards:
                # To look at a part makes it an array of its own, in the same memory.
                devices[shard.device][shard.data.unsafe_buffer_pointer()] = shard.data.nbytes
        held[:] = [sum(parts.values()) for parts in devices.values()]
        return history

    LoopsModel.fit = watched


def main(engine: str, commands: str, done: str) -> None:
    from kerasllm.environment import use_jax
    from kerasllm.runtime.startup import import_tensorflow

    if engine == "sharded":
        use_jax()
    import_tensorflow()
    found, held = {}, []
    if engine == "sharded":
        watch_devices(held)
    for name, arguments in json.loads(Path(commands).read_text()).items():
        held.clear()
        found[name] = {**ran(arguments), "held": list(held)}
        Path(done).write_text(json.dumps(found))


if __name__ == "__main__":
    main(*sys.argv[1:])
