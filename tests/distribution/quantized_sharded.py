"""Tunes adapters in shards on four virtual devices, as a user would, and measures their memory.

    python -m tests.distribution.quantized_sharded commands FOLDER
    python -m tests.distribution.quantized_sharded memory FOLDER

Run by test_quantized_sharded.py, in a process of its own.
"""

from __future__ import annotations

import contextlib
import io
import json
import shutil
import sys
from pathlib import Path

# Bytes of a layer's kernels in float32: of attention, and of the feed-forward part.
KERNELS = 4 * (4 * 256**2 + 3 * 256 * 1024)


def begun_until(step: int, run: Path, folder: Path) -> None:
    """Makes a run of a finished one that was stopped after a step with a checkpoint."""
    assert (run / "checkpoints" / f"step-{step}").is_dir()
    shutil.copytree(run, folder)
    (folder / "metrics.json").unlink()
    for each in (folder / "checkpoints").iterdir():
        if each.name != f"step-{step}":
            shutil.rmtree(each)


def commands(folder: Path) -> None:
    """Trains in shards, resumes that and TensorFlow's run `begun`, and plans it all."""
    from kerasllm.cli.main import main as kerasllm

    settings = json.loads((folder / "settings.json").read_text())

    def run(verb: str, *options: str) -> str:
        written = io.StringIO()
        with contextlib.redirect_stdout(written), contextlib.suppress(SystemExit):
            kerasllm([verb, *settings, "--strategy", "sharded:2x2", *options])
        return written.getvalue()

    run("finetune", "--output", str(folder / "in_shards"))
    begun_until(3, folder / "in_shards", folder / "again")
    for name in ("again", "begun"):
        run("finetune", "--output", str(folder / name), "--resume")
    (folder / "plan.json").write_text(run("plan", "--json"))


def memory(folder: Path) -> None:
    """Measures bytes on a device while a base is loaded, and of a step beside the variables."""
    found = {str(kind): room_of_a_layer(kind) for kind in (None, "int8", "int4")}
    (folder / "memory.json").write_text(json.dumps({"room": found, "loaded": loaded()}))


def room_of_a_layer(quantize: str | None) -> dict:
    """Returns the bytes of a step for each layer, and those of its kernels in float32."""
    import numpy as np

    rooms, batch = [], np.ones((4, 8), "int32")
    for layers in (1, 3):
        model = decoder(layers, quantize)
        model.compile("adamw")
        inputs = {"token_ids": batch, "padding_mask": batch.astype(bool)}
        rooms.append(model.make_train_function().room((inputs, batch, batch.astype("float32"))))
    return {"step": (rooms[1] - rooms[0]) / 2, "kernels": KERNELS}


def decoder(layers: int, quantize: str | None):
    """Returns a Llama with a small adapter."""
    import keras_hub

    from kerasllm.models.adapters import add_adapter
    from kerasllm.models.causal_lm import CausalLM
    from tests.training.tiny_decoder import NoTokenizer

    backbone = keras_hub.models.Llama3Backbone(
        vocabulary_size=61,
        num_layers=layers,
        num_query_heads=4,
        num_key_value_heads=4,
        hidden_dim=256,
        intermediate_dim=1024,
    )
    model = CausalLM(keras_hub.models.Llama3CausalLM(backbone), NoTokenizer())
    model.adapters = add_adapter(backbone, rank=2, targets=["q_proj"], quantize=quantize)
    return model


def loaded() -> dict:
    """Returns the bytes on devices that are not the host's: at most while loading, and after."""
    import jax
    import keras

    from kerasllm.training.host_values import built_on_host

    host = jax.local_devices(backend="cpu")[0]

    def busiest() -> int:
        held: dict = {}
        for array in jax.live_arrays():
            for shard in array.addressable_shards:
                if shard.device != host:
                    parts = held.setdefault(shard.device, {})
                    parts[shard.data.unsafe_buffer_pointer()] = shard.data.nbytes
        return max((sum(parts.values()) for parts in held.values()), default=0)

    before, seen = busiest(), []
    assign = keras.Variable._direct_assign

    def watched(self, value):
        assign(self, value)
        seen.append(busiest() - before)

    keras.Variable._direct_assign = watched
    try:
        model = built_on_host(lambda: decoder(2, "int4"))
    finally:
        keras.Variable._direct_assign = assign
    variables = {id(each): each for each in model.variables}.values()
    parts = [each.value.addressable_shards[0].data.nbytes for each in variables]
    return {
        "most": max(seen),
        "parts": sum(parts),
        "kernels": 2 * 4 * (4 * 256**2 + 3 * 256 * 1024),
    }


def main(what: str, folder: str) -> None:
    from kerasllm.environment import use_jax
    from kerasllm.runtime.startup import import_tensorflow

    use_jax()
    import_tensorflow()
    import jax

    from kerasllm.distribution import sharded

    jax.config.update("jax_num_cpu_devices", 4)
    if what == "commands":
        commands(Path(folder))
        return
    sharded.ShardedStrategy({"data": 4, "model": 1})
    memory(Path(folder))


if __name__ == "__main__":
    main(*sys.argv[1:])
