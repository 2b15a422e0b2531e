"""Trains the toys of every task that trains in shards, for a few steps under a strategy.

    python -m tests.distribution.sharded_tasks FOLDER sharded:2x2 [TASK ...]

Run by test_sharded.py, in a process of its own. Writes FOLDER/found.json: of each toy the losses of
its steps, the metrics of its run, and what the run that one device made measures and predicts under
the strategy; or what it failed with.
"""

from __future__ import annotations

import json
import sys
import traceback
from pathlib import Path

from tests.tasks.toy_task import Toy

STEPS = 6
# Beside the toys as they are: (task, toy, what is set besides).
MORE = {
    "spans below adapters": (
        "masked_lm",
        "continued",
        {"data.masking": "spans", "model.lora": {"rank": 2}},
    ),
    "next sentences in micro-batches": (
        "masked_lm",
        "from scratch",
        {"model.sentence_task": "next", "training.accumulate": 2, "training.evaluate_every": 2},
    ),
    "whole, by ipo": (
        "preference",
        "pairs",
        {
            "model.lora": None,
            "training.loss": "ipo",
            "training.learning_rate": 0.001,
            "training.evaluate_every": 2,
            "data.validation_split": 0.3,
        },
    ),
    "hinge, in pieces": (
        "preference",
        "pairs",
        {
            "training.loss": "hinge",
            "training.loss_tokens": 16,
            "training.accumulate": 2,
            "training.rematerialize": True,
        },
    ),
}


def trained(strategy: str, toy: Toy, folder: Path, more: dict) -> dict:
    """Trains a toy with some more settings; returns what its run holds."""
    from kerasllm import recipe as recipes
    from kerasllm.workflows.finetune import finetune
    from kerasllm.workflows.report import Report

    changed = {
        "training.strategy": strategy,
        "training.max_steps": STEPS,
        "training.log_every": 1,
        "training.precision": "float32",
        "data.buckets": 1,
        "model.dropout": 0.0,
    }
    settings = [f"{key}={json.dumps(value)}" for key, value in {**changed, **more}.items()]
    recipe = recipes.load(toy.recipe, [*toy.overrides, *settings])
    run = finetune(recipe, name=toy.recipe, output=folder / "run", report=Report.silent())
    rows = [json.loads(line) for line in run.metrics_log.read_text().splitlines()]
    return {
        "losses": [row["loss"] for row in rows if "loss" in row],
        "validated": [row["validation"]["loss"] for row in rows if "validation" in row],
        "test": run.read_metrics()["test"],
    }


def used(run: Path, toy: Toy, strategy: str | None) -> dict:
    """Returns what `evaluate` and `predict` give with the model of a run under a strategy."""
    from kerasllm.workflows.evaluate import evaluate
    from kerasllm.workflows.predict import predict
    from kerasllm.workflows.report import Report
    from kerasllm.workflows.trained import open_run

    opened, found = open_run(run).under(strategy), {}
    if toy.measures_test or toy.data:
        found["evaluated"] = evaluate(opened, toy.data, report=Report.silent())
    if toy.inputs:
        found["predicted"] = list(predict(opened, toy.inputs))
    return found


def main(folder: str, strategy: str, *names: str) -> None:
    from kerasllm.environment import use_jax
    from kerasllm.runtime.startup import import_tensorflow

    in_shards = strategy.startswith("sharded")
    if in_shards:
        use_jax()
    import_tensorflow()

    from kerasllm.tasks import task as tasks
    from tests.tasks.toy_task import variants
    from tests.toy import save_toy_preset
    from tests.toy_language_model import save_toy_decoder

    if in_shards:
        import jax

        jax.config.update("jax_num_cpu_devices", 4)
    place, found = Path(folder), {}
    # Every strategy begins with the weights that the first one drew.
    drawn = place.parent / "presets.json"
    if not drawn.exists():
        made = {
            "encoder": str(save_toy_preset(place.parent / "encoder", num_layers=1)),
            "decoder": str(save_toy_decoder(place.parent / "decoder")),
        }
        drawn.write_text(json.dumps(made))
    presets = {kind: Path(path) for kind, path in json.loads(drawn.read_text()).items()}
    for name in names or tasks.names():
        kind = tasks.find(name)
        if not kind.sharded:
            continue
        toys = {toy: (make, {}) for toy, make in variants(name).items()}
        for variant, (task, toy, more) in MORE.items():
            if task == name:
                toys[variant] = (toys[toy][0], more)
        for variant, (make, more) in toys.items():
            key = f"{name}, {variant}"
            preset = presets.get(kind.preset_kind)
            try:
                (place / key).mkdir(parents=True)
                made = make(place / key, preset)
                found[key] = trained(strategy, made, place / key, more)
                run = place.parent / "one_device" / key / "run"
                found[key] |= used(run, made, strategy if in_shards else None)
            except Exception:
                found[key] = {"failed": traceback.format_exc()}
            (place / "found.json").write_text(json.dumps(found))


if __name__ == "__main__":
    main(*sys.argv[1:])
