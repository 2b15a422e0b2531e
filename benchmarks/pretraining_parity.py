"""Pretrains a new BERT with kerasllm and with transformers: does the loss fall alike?

    sh benchmarks/peers/setup.sh
    python -m benchmarks.pretraining_parity [--steps 200] [--peers benchmarks/peers/.venv]

Both begin with the same weights and read the same batches with the same masks; AdamW, weight decay,
warm-up, schedule and clipping are those of the recipe mlm_scratch. Dropout is off, as its draws
differ, and all is computed in float32. The text is the two bundled ones, 2.1 MB.

The validation loss, on masks that are the same for both, may differ by 2% at most.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from benchmarks.measure import machine

HERE = Path(__file__).parent
_MOST = 0.02
_SETTINGS = {
    "data.train": '["starter:moby_dick", "starter:movie_reviews"]',
    "data.validation_split": 0.02,
    "data.max_length": 64,
    "model.layers": 2,
    "model.width": 128,
    "model.heads": 2,
    "training.batch_size": 16,
    "data.buckets": 1,
    "model.dropout": 0,
    "training.precision": "float32",
    "training.xla": "false",
    "training.epochs": 100,
}


def main() -> None:
    options = parse_arguments()
    every = max(options.steps // 5, 1)
    settings = {**_SETTINGS, "training.max_steps": options.steps, "training.evaluate_every": every}
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        lines = [f"{key}={value}" for key, value in settings.items()]
        ours = run_ours(lines, folder, options.steps, every)
        script = HERE / "peers" / "huggingface_mlm.py"
        command = [str(options.peers / "bin" / "python"), str(script), str(folder)]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    peer = json.loads(done.stdout.splitlines()[-1])
    theirs = {int(step): loss for step, loss in peer["validation"].items()}
    print(f"{'step':>6} {'kerasllm':>9} {'transformers':>13} {'difference':>11}")
    differences = {}
    for step, loss in ours.items():
        differences[step] = loss / theirs[step] - 1
        print(f"{step:>6} {loss:>9.4f} {theirs[step]:>13.4f} {differences[step]:>+11.3%}")
    result = {
        "benchmark": "pretraining_parity",
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": machine(),
        "settings": settings,
        "versions": peer["versions"],
        "kerasllm": ours,
        "transformers": theirs,
        "largest_difference": max(map(abs, differences.values())),
    }
    path = HERE / "results" / f"pretraining_parity-{datetime.now(UTC):%Y-%m-%d-%H%M}.json"
    (options.output or path).write_text(json.dumps(result, indent=2) + "\n")
    sys.exit(result["largest_difference"] > _MOST)


def run_ours(settings: list[str], folder: Path, steps: int, every: int) -> dict[int, float]:
    """Trains with kerasllm, writes what the peer needs, and returns validation losses by step."""
    from kerasllm import recipe as recipes
    from kerasllm.export.formats import Options, load_format
    from kerasllm.export.source import Source
    from kerasllm.models.masked_scores import evaluate
    from kerasllm.tasks.task import task_of
    from kerasllm.workflows.finetune import finetune
    from kerasllm.workflows.job import prepare, schedule_of
    from kerasllm.workflows.report import Report

    recipe = recipes.load("mlm_scratch", settings)
    job = prepare(recipe, Report.silent())
    length = recipe.data.max_length
    (folder / "model").mkdir()
    source = Source(task_of(recipe), job.model, "new", length, [])
    load_format("transformers").write(source, folder / "model", Options())
    inputs, pad_id = job.model.input_names, job.model.tokenizer.pad_token_id

    def arrays(batches: list) -> dict[str, np.ndarray]:
        names = ("token_ids", "padding_mask", "mask_positions")
        found = {name: [x[name] for x, _, _ in batches] for name in names}
        found |= {"targets": [y for _, y, _ in batches], "weights": [w for *_, w in batches]}
        return {name: np.concatenate(each) for name, each in found.items()}

    seed, rows = recipe.training.seed, job.plan.batch_size
    batches = []
    for step in range(steps):
        epoch, place = divmod(step, job.plan.steps)
        numbers = job.plan(epoch).rows(place)
        own = np.resize(numbers, rows)
        x, y, weights = job.data.train.batch(own, length, inputs, pad_id, step=step, seed=seed)
        batches.append((x, y, weights * (np.arange(rows) < len(numbers))[:, None]))
    np.savez(folder / "train.npz", **arrays(batches))
    validation = job.data.validation
    x, y, weights = validation.fixed_batch(np.arange(len(validation)), length, inputs, pad_id)
    np.savez(folder / "validation.npz", **arrays([(x, y["tokens"], weights["tokens"])]))
    schedule = schedule_of(recipe.training, steps)
    optimizer = job.model.optimizer
    facts = {
        "rows": rows,
        "every": every,
        "learning_rates": [float(schedule(step)) for step in range(steps)],
        "weight_decay": recipe.training.weight_decay,
        "clip_norm": recipe.training.clip_norm,
        "betas": [optimizer.beta_1, optimizer.beta_2],
        "epsilon": optimizer.epsilon,
    }
    (folder / "facts.json").write_text(json.dumps(facts))
    losses = {0: evaluate(job.model, validation)[0]["loss"]}
    run = finetune(recipe, output=folder / "run", report=Report.silent())
    lines = map(json.loads, (run.path / "metrics.jsonl").read_text().splitlines())
    return losses | {one["step"]: one["validation"]["loss"] for one in lines if "validation" in one}


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--peers", type=Path, default=HERE / "peers" / ".venv")
    parser.add_argument("--output", type=Path, help="JSON file  [default: in benchmarks/results]")
    return parser.parse_args()


if __name__ == "__main__":
    main()
