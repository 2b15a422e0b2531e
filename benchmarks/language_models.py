"""Runs the recipes of language models as a user does, and measures what they promise.

    python -m benchmarks.language_models [gpt_lm] [gpt_sft_lora] [--seeds 0 1 2]

gpt_lm: bits per byte on the last tenth of Moby Dick, and the time of the whole command (promised:
at most 2.3 in at most 10 minutes on 2 cores). gpt_sft_lora: the loss on the assistant's tokens of
the test data, before and after one pass (promised: a fall of 15%), and how far the logits of the
merged model are from those of the base with its adapter.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from benchmarks.measure import machine, run_measured

HERE = Path(__file__).parent
KERASLLM = [sys.executable, "-m", "kerasllm"]
PRESET = "smollm2_135m_instruct"
TEXT = "The whale is the largest animal of the sea, and"


def main() -> None:
    options = parse_arguments()
    results = []
    for name in options.recipes:
        for seed in options.seeds:
            with tempfile.TemporaryDirectory() as folder:
                found = {"recipe": name, "seed": seed, **CASES[name](Path(folder), seed)}
            print(json.dumps(found))
            results.append(found)
    result = {
        "benchmark": "language_models",
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": machine(),
        "runs": results,
    }
    path = HERE / "results" / f"language_models-{datetime.now(UTC):%Y-%m-%d-%H%M}.json"
    (options.output or path).write_text(json.dumps(result, indent=2) + "\n")


def gpt_lm(folder: Path, seed: int) -> dict:
    """Trains from scratch, and lets the model write."""
    found, metrics = finetune("gpt_lm", folder / "run", seed)
    write = ["generate", str(folder / "run"), "--prompt", "Call me", "--top-p", "0.9"]
    write += ["--temperature", "0.8", "--seed", "0", "--max-new-tokens", "60", "--json"]
    sample = json.loads(run_measured([*KERASLLM, *write]).stdout)
    return {
        "bits_per_byte": metrics["validation"]["bits_per_byte"],
        **found,
        "sample": sample["prompt"] + sample["text"],
    }


def gpt_sft_lora(folder: Path, seed: int) -> dict:
    """Tunes on conversations, and compares with the model before."""
    found, metrics = finetune("gpt_sft_lora", folder / "run", seed)
    loss = ["evaluate", "--data", "starter:chat", "--json"]
    before = json.loads(run_measured([*KERASLLM, *loss, PRESET]).stdout)["loss"]
    merged = json.loads(run_measured([*KERASLLM, *loss, str(folder / "run")]).stdout)["loss"]
    after = metrics["test"]["loss"]
    return {
        "loss_before": before,
        "loss_after": after,
        "fall": 1 - after / before,
        "loss_of_the_merged_model": merged,
        "merged_logits_off_by": merged_logits_off_by(folder / "run"),
        **found,
    }


def finetune(recipe: str, run: Path, seed: int) -> tuple[dict, dict]:
    """Runs the command; returns what it took, and the run's metrics."""
    command = ["finetune", "--recipe", recipe, "--output", str(run), "--seed", str(seed)]
    measured = run_measured([*KERASLLM, *command])
    metrics = json.loads((run / "metrics.json").read_text())
    took = {
        "command_seconds": round(measured.seconds, 1),
        "train_seconds": metrics["timing"]["train_seconds"],
        "tokens_per_second": metrics["timing"]["tokens_per_second"],
        "cpu_seconds": round(measured.cpu_seconds, 1),
        "peak_memory": measured.peak_memory,
        "cores_of_others": measured.cores_of_others,
    }
    return took, metrics


def merged_logits_off_by(run: Path) -> float:
    """Returns the largest difference of logits, as a share of the largest logit, in float32."""
    from kerasllm.models.adapters import load_adapter
    from kerasllm.models.decoder import load_causal_lm

    adapted = load_causal_lm(PRESET)
    load_adapter(adapted.backbone, run / "adapter")
    merged = load_causal_lm(run / "model")
    ids = {"token_ids": np.array([merged.tokenizer.encode_whole(TEXT)], np.int32)}
    expected, found = (np.asarray(model(ids)) for model in (adapted, merged))
    return float(np.abs(found - expected).max() / np.abs(expected).max())


CASES: dict[str, Callable[[Path, int], dict]] = {"gpt_lm": gpt_lm, "gpt_sft_lora": gpt_sft_lora}


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.language_models")
    parser.add_argument("recipes", nargs="*", help=f"of {', '.join(CASES)} (default: all)")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0], help="default: 0")
    parser.add_argument("--output", type=Path, help="the JSON file (default: in results/)")
    options = parser.parse_args()
    options.recipes = options.recipes or list(CASES)
    if unknown := set(options.recipes) - set(CASES):
        parser.error(f"unknown: {', '.join(sorted(unknown))}")
    return options


if __name__ == "__main__":
    main()
