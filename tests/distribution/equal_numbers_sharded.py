"""Trains and measures models on meshes of virtual devices, or on TensorFlow's one device.

    python -m tests.distribution.equal_numbers_sharded one_device FILE.npz
    python -m tests.distribution.equal_numbers_sharded 1x1,4x1,1x4,2x2 FILE.npz
    python -m tests.distribution.equal_numbers_sharded commands FILE.npz FOLDER

Run by test_sharded.py, in a process of its own for each engine: to import JAX, Keras and TensorFlow
takes longer than a mesh. In FOLDER it runs commands, as a user would.
"""

from __future__ import annotations

import gc
import sys
import tempfile
from pathlib import Path

import numpy as np

EPOCHS = 2
# What is computed on every mesh; the others on the last one alone.
EVERYWHERE = ("encoder",)
# In pieces of 7 tokens, again in the backward pass, in micro-batches, by an average of weights.
CASES = {
    "encoder": {},
    "encoder, in parts": {"accumulate": 2, "ema": 0.9},
    "decoder": {"accumulate": 2, "loss_tokens": 14, "rematerialize": True},
    "adapters": {},
    "adapters, int8": {"quantize": "int8"},
    "adapters, int4": {"quantize": "int4"},
    "encoder-decoder": {"loss_tokens": 14},
    "encoder, mixed_float16": {"precision": "mixed_float16"},
    "adapters, mixed_bfloat16": {"precision": "mixed_bfloat16"},
}


def model_of(case: str, loss_tokens=None, rematerialize=False, precision="float32", quantize=None):
    """Returns the model of a case, the same weights each time."""
    import keras
    import keras_hub

    from kerasllm.models.initial_weights import drawn_by_tensorflow
    from kerasllm.training.fit import FineTunedModel
    from tests.distribution.equal_numbers_seq2seq import bart
    from tests.training import tiny_decoder

    with drawn_by_tensorflow():
        keras.utils.set_random_seed(0)
        if case.startswith("encoder-decoder"):
            from kerasllm.models.seq2seq_lm import Seq2SeqLM

            return Seq2SeqLM(bart(), loss_tokens=loss_tokens)
        if case == "decoder":
            model = tiny_decoder.gpt2(
                layers=1, loss_tokens=loss_tokens, rematerialize=rematerialize
            )
            model.packs = True
            return model
        if case.startswith("adapters"):
            from kerasllm.models.adapters import add_adapter

            model = tiny_decoder.llama(precision, layers=1)
            model.adapters = add_adapter(
                model.backbone,
                rank=4,
                targets=["all-linear"],
                quantize=quantize,
                cast=precision.startswith("mixed"),
            )
            return model
        backbone = keras_hub.models.BertBackbone(
            vocabulary_size=52,
            num_layers=1,
            num_heads=4,
            hidden_dim=64,
            intermediate_dim=256,
            max_sequence_length=8,
            dropout=0.0,
            dtype=precision,
        )
        return FineTunedModel(
            keras_hub.models.BertTextClassifier(
                backbone, num_classes=3, dropout=0.0, dtype=precision
            )
        )


def rows_of(case: str, model, folder: Path):
    """Returns the rows of a case, and what their batches are padded to."""
    from tests.distribution import equal_numbers

    if case.startswith("encoder-decoder"):
        from kerasllm.data.readers.seq2seq_source import open_source
        from kerasllm.data.seq2seq_rows import Seq2SeqRows, open_rows
        from tests.toy import write_csv

        random = np.random.default_rng(0)
        words = "a dog runs in the park and two men talk".split()
        pairs = [
            tuple(" ".join(random.choice(words, random.integers(2, most))) for most in (6, 9))
            for _ in range(12)
        ]
        file = write_csv(folder / "pairs.csv", pairs, ("source", "target"))
        store = open_rows(
            open_source(str(file), "train"),
            model.text_side,
            max_length=24,
            max_target_length=24,
            folder=folder,
        )
        return Seq2SeqRows.of(store, model.text_side), None
    if case.startswith(("decoder", "adapters")):
        from kerasllm.data.sequences import packed_rows, whole_rows
        from tests.training.tiny_decoder import random_store

        store = random_store(40, 4, 12)
        return (packed_rows(store, 24), 24) if case == "decoder" else (whole_rows(store), None)
    return equal_numbers.examples(), None


def numbers(case: str, strategy, accumulate=1, ema=None, **options) -> dict:
    """Returns everything that must be the same wherever it is computed."""
    from kerasllm.data.batch_plan import EpochPlans
    from kerasllm.data.pipeline import training_dataset
    from kerasllm.training.optimizers import build_optimizer
    from tests.training.tiny import Steps

    model = model_of(case, **options)
    name, rate = ("sgd", 0.1) if case.startswith("encoder-decoder") else ("adamw", 1e-2)
    optimizer = build_optimizer(
        name, rate, model.trainable_variables, weight_decay=0.01, clip_norm=0.5, ema=ema
    )
    model.compile(optimizer, accumulate=accumulate, xla=False, fused=False)
    with tempfile.TemporaryDirectory() as folder:
        rows, pad_to = rows_of(case, model, Path(folder))
        # Of 10 rows 2 devices or 4 get unequal parts, and the last batch of an epoch is short.
        plans = EpochPlans(rows.lengths, 10, 1, seed=0, pad_to=pad_to)
        batches = {"inputs": model.input_names, "pad_id": 0, "accumulate": accumulate}
        steps = Steps()
        history = model.fit(
            training_dataset(rows, plans, epochs=EPOCHS, **batches),
            epochs=EPOCHS,
            steps_per_epoch=plans.steps,
            verbose=0,
            callbacks=[steps],
        ).history
        found = {
            "losses": steps.all("step_loss"),
            "norms": steps.all("gradient_norm"),
            "history": [history["loss"], history["accuracy"]],
            "weights": np.concatenate([v.numpy().ravel() for v in model.trainable_variables]),
        }
        if case == "encoder":
            found |= measured(model, rows, batches)
        if case == "adapters":
            from kerasllm.models.likelihood import score

            found["scores"] = score(model, rows)
        if case.startswith("adapters"):
            found["frozen"] = [v.dtype for v in model.non_trainable_variables if len(v.shape) > 1]
        if case in ("decoder", "adapters", "encoder-decoder"):
            found["tokens"] = generated(model, case)
        if strategy is not None and case == "encoder":
            found["held"] = held(model)
    return found


def measured(model, rows, batches) -> dict:
    """Returns what `evaluate` and `predict` give."""
    from kerasllm.data.batch_plan import EpochPlans
    from kerasllm.data.pipeline import prediction_dataset, prediction_rows, training_dataset

    ordered = EpochPlans(rows.lengths, 10, 1)
    stream = training_dataset(rows, ordered, epochs=1, **batches)
    found = model.evaluate(stream, steps=ordered.steps, verbose=0, return_dict=True)
    inputs = {name: batches[name] for name in ("inputs", "pad_id")}
    outputs = model.predict(prediction_dataset(rows, ordered(), **inputs), verbose=0)
    logits = np.full((len(rows), 3), np.nan)
    logits[prediction_rows(ordered())] = outputs
    return {"measured": [found["loss"], found["accuracy"]], "logits": logits}


def generated(model, case: str) -> np.ndarray:
    """Returns what the model writes: greedily, by sampling and by beam search."""
    from kerasllm.generation import GenerationSettings, Generator, Seq2SeqGenerator

    if case == "encoder-decoder":
        generator = Seq2SeqGenerator(model.parts, batch_size=2)
        prompts = model.encode_sources(["a dog runs", "two men talk in the park and", "a"])
    else:
        generator = Generator(model.task, batch_size=2)
        prompts = [[3, 4, 5], [6, 7], [8, 9, 10]]
    written: list[int] = []
    for ways in ({}, {"temperature": 1.0, "top_p": 0.9, "seed": 1}, {"beams": 3}):
        settings = GenerationSettings(max_new_tokens=8, repetition_penalty=1.1, **ways)
        for each in generator.generate(prompts, settings):
            written += [*each.tokens, -1]
    return np.array(written)


def held(model) -> list[float]:
    """Returns the share of weights and of the optimizer's state that each device holds."""
    variables = [*model.trainable_variables, *model.optimizer.variables]
    whole = sum(each.value.nbytes for each in variables)
    devices: dict = {}
    for each in variables:
        for shard in each.value.addressable_shards:
            devices[shard.device] = devices.get(shard.device, 0) + shard.data.nbytes
    return [found / whole for found in devices.values()]


def loaded(preset: str) -> dict:
    """Returns the bytes on the busiest device while a preset is loaded: at most, and in the end."""
    import jax
    import keras

    from kerasllm.models.encoder import build_task

    def busiest() -> int:
        # To look at a part makes it an array of its own, in the same memory.
        held: dict = {}
        for array in jax.live_arrays():
            for shard in array.addressable_shards:
                parts = held.setdefault(shard.device, {})
                parts[shard.data.unsafe_buffer_pointer()] = shard.data.nbytes
        return max((sum(parts.values()) for parts in held.values()), default=0)

    gc.collect()
    before, seen = busiest(), []
    assign = keras.Variable.assign

    def watched(self, value):
        found = assign(self, value)
        seen.append(busiest() - before)
        return found

    keras.Variable.assign = watched
    try:
        task = build_task(preset, 2)
    finally:
        keras.Variable.assign = assign
    # What was let go may wait for its collection.
    gc.collect()
    sizes = [each.value.nbytes for each in task.variables]
    return {
        "most": max(seen),
        "held": busiest() - before,
        "largest": max(sizes),
        "parts": sum(each.value.addressable_shards[0].data.nbytes for each in task.variables),
        "whole": sum(sizes),
        "read": len(seen),
    }


def large(strategy) -> float:
    """Returns a number of a variable that Keras would make by a compiled initializer."""
    import keras

    from kerasllm.models.initial_weights import drawn_by_tensorflow

    shape = (1 << 12, 1 << 12)
    with strategy.scope(), drawn_by_tensorflow():
        made = keras.Variable(keras.initializers.RandomNormal(seed=1), shape=shape)
        given = keras.Variable(lambda shape, dtype=None: made.value, shape=shape)
    parts = {shard.data.shape for shard in given.value.addressable_shards}
    assert parts == {(1 << 11, 1 << 11)}, parts
    return float(given.value[7, 7])


def resumed(folder: Path) -> dict:
    """Returns the weights of a training, and of one that was stopped in it and resumed."""
    from kerasllm.data.batch_plan import EpochPlans
    from kerasllm.data.pipeline import training_dataset
    from kerasllm.training.batches import PlannedBatches
    from kerasllm.training.checkpointing import Checkpoints, position
    from kerasllm.training.checkpoints import CheckpointStore
    from kerasllm.training.optimizers import build_optimizer

    found = {}
    for name in ("whole", "resumed"):
        model = model_of("encoder")
        model.compile(build_optimizer("adamw", 1e-2, model.trainable_variables))
        rows, _ = rows_of("encoder", model, folder)
        plans = EpochPlans(rows.lengths, 10, 1, seed=0)
        store = CheckpointStore(folder, keep=9)
        checkpoints = Checkpoints(store, every=2 if name == "whole" else None)
        begin = {}
        if name == "resumed":
            checkpoint = store.read(2)
            checkpoints.restore(model, checkpoint)
            begin = position(checkpoint, plans.steps)

        def from_step(step, rows=rows, plans=plans, model=model):
            return training_dataset(
                rows, plans, epochs=2, inputs=model.input_names, pad_id=0, first_step=step
            )

        model.fit(
            PlannedBatches(plans.steps, from_step),
            epochs=2,
            callbacks=[checkpoints],
            verbose=0,
            **begin,
        )
        store.wait()
        found[name] = np.concatenate([v.numpy().ravel() for v in model.variables])
    return found


def overflown() -> dict:
    """Returns what steps did whose gradients leave float16, and one that came after them."""
    import keras

    from kerasllm.data.batch_plan import EpochPlans
    from kerasllm.data.pipeline import training_dataset
    from kerasllm.training.optimizers import build_optimizer
    from tests.distribution import equal_numbers
    from tests.training.tiny import Steps

    model, rows = model_of("encoder", precision="mixed_float16"), equal_numbers.examples()
    plans = EpochPlans(rows.lengths, 10, 1, seed=0)
    optimizer = build_optimizer("adamw", 1e-2, model.trainable_variables, clip_norm=0.5)
    model.compile(keras.optimizers.LossScaleOptimizer(optimizer, initial_scale=2.0**60))

    def weights():
        return np.concatenate([each.numpy().ravel() for each in model.trainable_variables])

    found = {"before": weights()}
    for name, scale in (("too large", None), ("sound", 2.0**10)):
        steps = Steps()
        if scale:
            model.optimizer.dynamic_scale.assign(scale)
        batches = training_dataset(rows, plans, epochs=1, inputs=model.input_names, pad_id=0)
        model.fit(batches, steps_per_epoch=plans.steps, verbose=0, callbacks=[steps])
        found |= {f"{name}/{key}": steps.all(key) for key in ("applied", "gradient_norm")}
        found[f"{name}/scale"] = model.optimizer.dynamic_scale.numpy()
        found[f"{name}/iterations"] = model.optimizer.iterations.numpy()
        found[f"{name}/weights"] = weights()
    return found


def commands(folder: Path) -> None:
    """Trains, plans and resumes in shards, with the settings of `settings.json`."""
    import contextlib
    import io
    import json

    from kerasllm.cli.main import main as kerasllm

    def run(verb: str, *options: str) -> str:
        written = io.StringIO()
        with contextlib.redirect_stdout(written), contextlib.suppress(SystemExit):
            kerasllm([verb, *settings, "--strategy", "sharded:2x2", *options])
        return written.getvalue()

    settings = json.loads((folder / "settings.json").read_text())
    run("finetune", "--output", str(folder / "in_shards"))
    if (folder / "begun").is_dir():
        run("finetune", "--output", str(folder / "begun"), "--resume")
    (folder / "plan.json").write_text(run("plan", "--json"))
    (folder / "wrong.json").write_text(run("plan", "--json", "--memory", "100kB", "--no-step"))


def main(meshes: str, path: str, folder: str | None = None) -> None:
    results = {}
    if meshes == "one_device":
        for case, options in CASES.items():
            for key, value in numbers(case, None, **options).items():
                results[f"{case}/{key}"] = value
        np.savez(path, **results)
        return
    from kerasllm.environment import use_jax
    from kerasllm.runtime.startup import import_tensorflow

    use_jax()
    import_tensorflow()
    import jax
    import keras

    from kerasllm.distribution import sharded

    jax.config.update("jax_num_cpu_devices", 4)
    if folder:
        commands(Path(folder))
        sharded.ShardedStrategy({"data": 4, "model": 1})
        preset = (Path(folder) / "preset.txt").read_text()
        np.savez(path, **loaded(preset))
        return
    every = keras.distribution.list_devices
    names = meshes.split(",")
    for mesh in names:
        data, model = map(int, mesh.split("x"))
        keras.distribution.list_devices = lambda count=data * model: every()[:count]
        strategy = sharded.ShardedStrategy({"data": data, "model": model})
        jax.clear_caches()
        for case, options in CASES.items():
            if case in EVERYWHERE or mesh == names[-1]:
                for key, value in numbers(case, strategy, **options).items():
                    results[f"{mesh}: {case}/{key}"] = value
    keras.distribution.list_devices = every
    results["large"] = large(strategy)
    np.savez(path, **results)
    with tempfile.TemporaryDirectory() as kept:
        for key, value in resumed(Path(kept)).items():
            results[f"resume/{key}"] = value
    for key, value in overflown().items():
        results[f"overflow/{key}"] = value
    np.savez(path, **results)


if __name__ == "__main__":
    main(*sys.argv[1:])
