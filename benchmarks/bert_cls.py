"""Measures `kerasllm finetune --recipe bert_cls` and Hugging Face's Trainer, in turn.

    python -m benchmarks.bert_cls [--repeats 3] [--seeds 0 1 2]

Both train the same encoder on the same rows with the recipe's settings, each in a process of its
own, one after the other, A B A B, so that a slow minute of the machine falls on both. Without a
validation split both train on all rows. `benchmarks/peers/setup.sh` makes the peer's environment.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from statistics import mean, median

from rich.console import Console
from rich.table import Table

from benchmarks.measure import Measured, machine, run_measured
from kerasllm import recipe as recipes
from kerasllm.data.starters import find_starter
from kerasllm.models.presets import resolve

HERE = Path(__file__).parent
SIDES = ("kerasllm", "huggingface")
# Cores kept busy by others. Threads that wait for each other lose far more time than others take.
QUIET = 0.1

# What a --set may change: what the peer does too, and what only says how kerasllm does its part.
SHARED_KEYS = {
    "data.max_length",
    "training.epochs",
    "training.batch_size",
    "training.learning_rate",
    "training.schedule",
    "training.warmup",
    "training.weight_decay",
    "training.clip_norm",
}
OWN_KEYS = {"data.buckets", "training.precision", "training.xla", "training.log_every"}


def main() -> None:
    options = parse_arguments()
    overrides = ["data.validation_split=0", *options.set]
    recipe = recipes.load("bert_cls", overrides)
    console = Console(stderr=True)
    runs = []
    for i in range(options.repeats):
        seed = options.seeds[i % len(options.seeds)]
        for side in SIDES:
            console.print(f"{i + 1}/{options.repeats} {side}, seed {seed} ...", end=" ")
            if side == "kerasllm":
                run = run_kerasllm(overrides, seed)
            else:
                run = run_peer(recipe, seed, options.peers, options.peer_precision)
            console.print(f"{run['train_seconds']:.1f} s, accuracy {run['accuracy']:.4f}")
            runs.append({"side": side, "seed": seed, **run})
    refuse_different_work(runs)

    result = {
        "benchmark": "bert_cls",
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": machine(),
        "recipe": recipe.model_dump(mode="json"),
        "summary": {side: summary([r for r in runs if r["side"] == side]) for side in SIDES},
        "runs": runs,
    }
    path = options.output or HERE / "results" / f"bert_cls-{datetime.now(UTC):%Y-%m-%d-%H%M}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(result, indent=2) + "\n")
    Console().print(table(result))
    console.print(f"Written to {path}")


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.bert_cls")
    parser.add_argument("--repeats", type=int, default=3, help="pairs of runs (default: 3)")
    parser.add_argument(
        "--seeds", type=int, nargs="+", default=[0, 1, 2], help="taken in turn (default: 0 1 2)"
    )
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="a key of the recipe"
    )
    parser.add_argument(
        "--peers", type=Path, default=HERE / "peers" / ".venv", help="what setup.sh made"
    )
    parser.add_argument(
        "--peer-precision",
        choices=["bfloat16", "float32"],
        default="bfloat16",
        help="float32 is the peer's best where the processor has no bfloat16 (default: bfloat16)",
    )
    parser.add_argument("--output", type=Path, help="the JSON file (default: in results/)")
    options = parser.parse_args()
    for override in options.set:
        if override.split("=")[0] not in SHARED_KEYS | OWN_KEYS:
            known = ", ".join(sorted(SHARED_KEYS | OWN_KEYS))
            parser.error(f"--set {override}: the peer would not do the same. Known: {known}")
    if not (options.peers / "bin" / "python").exists():
        parser.error(f"{options.peers} is missing; make it: sh benchmarks/peers/setup.sh")
    return options


def run_kerasllm(overrides: list[str], seed: int) -> dict:
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder) / "run"
        command = [sys.executable, "-m", "kerasllm", "finetune", "--recipe", "bert_cls"]
        for override in overrides:
            command += ["--set", override]
        measured = run_measured([*command, "--seed", str(seed), "--output", str(run)])
        metrics = json.loads((run / "metrics.json").read_text())
        environment = json.loads((run / "environment.json").read_text())
    timing = metrics["timing"]
    return {
        "accuracy": metrics["test"]["accuracy"],
        "train_seconds": timing["train_seconds"],
        "steps": timing["steps"],
        "real_tokens": timing["real_tokens"],
        "computed_tokens": timing["processed_tokens"],
        **from_outside(measured),
        "versions": environment["versions"],
    }


def run_peer(recipe: recipes.Recipe, seed: int, peers: Path, precision: str) -> dict:
    training = recipe.training
    settings = {
        "model": resolve(recipe.model.preset),
        "train": find_starter(recipe.data.train, "train")[1],
        "test": find_starter(recipe.data.test, "test")[1],
        "epochs": training.epochs,
        "batch-size": training.batch_size,
        "max-length": recipe.data.max_length,
        "learning-rate": training.learning_rate,
        "schedule": training.schedule,
        "power": training.power,
        "warmup": training.warmup,
        "weight-decay": training.weight_decay,
        "clip-norm": training.clip_norm or 0,
        "precision": precision,
        "seed": seed,
    }
    command = [str(peers / "bin" / "python"), str(HERE / "peers" / "huggingface_bert_cls.py")]
    for name, value in settings.items():
        command += [f"--{name}", str(value)]
    measured = run_measured(command)
    result = json.loads(measured.stdout)
    keys = ("accuracy", "train_seconds", "steps", "real_tokens", "computed_tokens")
    return {
        **{key: result[key] for key in keys},
        **from_outside(measured),
        "versions": result["versions"],
    }


def from_outside(measured: Measured) -> dict:
    return {
        "whole_seconds": measured.seconds,
        "cpu_seconds": measured.cpu_seconds,
        "peak_memory": measured.peak_memory,
        "cores_of_others": measured.cores_of_others,
    }


def refuse_different_work(runs: list[dict]) -> None:
    """The ratio would mean nothing if one side trained on other tokens or made other steps."""
    for key in ("steps", "real_tokens"):
        values = {side: {run[key] for run in runs if run["side"] == side} for side in SIDES}
        if len(set().union(*values.values())) > 1:
            raise SystemExit(f"The two sides did not do the same work: {key} {values}")


def summary(runs: list[dict]) -> dict:
    seconds = [run["train_seconds"] for run in runs]
    others = [run["cores_of_others"] for run in runs if run["cores_of_others"] is not None]
    return {
        "train_seconds": median(seconds),
        "train_seconds_from_to": [min(seconds), max(seconds)],
        "whole_seconds": median(run["whole_seconds"] for run in runs),
        "cpu_seconds": median(run["cpu_seconds"] for run in runs),
        "real_tokens_per_second": median(run["real_tokens"] / run["train_seconds"] for run in runs),
        "padding_share": mean(1 - run["real_tokens"] / run["computed_tokens"] for run in runs),
        "accuracy": mean(run["accuracy"] for run in runs),
        "peak_memory": max(run["peak_memory"] for run in runs),
        "cores_of_others": max(others, default=None),
    }


def table(result: dict) -> Table:
    """The comparison, one row for each number, and what it was measured with below."""
    ours, peer = (result["summary"][side] for side in SIDES)
    where, runs = result["machine"], result["runs"]
    shown = Table(title=f"bert_cls, {len(runs) // 2} runs each", title_justify="left")
    shown.add_column("")
    for column in (*SIDES, "ratio"):
        shown.add_column(column, justify="right")

    def row(name: str, key: str, form: str, scale: float = 1, ratio: bool = False) -> None:
        values = [format(side[key] * scale, form) for side in (ours, peer)]
        shown.add_row(name, *values, f"{ours[key] / peer[key]:.2f}" if ratio else "")

    row("training, seconds (median)", "train_seconds", ".1f", ratio=True)
    spread = [
        "{:.1f} to {:.1f}".format(*side["train_seconds_from_to"]) for side in (ours, peer)
    ]
    shown.add_row("  from, to", *spread, "")
    row("whole process, seconds (median)", "whole_seconds", ".1f", ratio=True)
    row("processor seconds (median)", "cpu_seconds", ".1f", ratio=True)
    row("real tokens a second (median)", "real_tokens_per_second", ",.0f", ratio=True)
    row("padding", "padding_share", ".1%")
    row("test accuracy (mean)", "accuracy", ".4f")
    row("peak memory, GiB", "peak_memory", ".2f", scale=2**-30, ratio=True)
    if ours["cores_of_others"] is not None:
        row("cores that others kept busy (most)", "cores_of_others", ".2f")
    versions = [
        ", ".join(f"{name} {version}" for name, version in run["versions"].items())
        for run in runs[:2]
    ]
    notes = [f"{where['cpu']}, {where['cores']} cores", *versions]
    if max(side["cores_of_others"] or 0 for side in (ours, peer)) > QUIET:
        notes.append("The machine was busy with other work: measure again before you believe this.")
    shown.caption = "\n".join(notes)
    shown.caption_justify = "left"
    return shown


if __name__ == "__main__":
    main()
