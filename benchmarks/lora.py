"""Measures LoRA training of a decoder, with kerasllm and with `peft` and Hugging Face's Trainer.

    python -m benchmarks.lora --model FOLDER [--repeats 3] [--precisions bfloat16 float32]

Both train the same adapter of the same base on the same rows of random tokens, each in a process of
its own, in turn, so that a slow minute of the machine falls on both. The first steps, in which
graphs are traced, are not counted. `benchmarks/peers/setup.sh` makes the peer's environment.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from statistics import median

import numpy as np

from benchmarks.measure import machine, run_measured

HERE = Path(__file__).parent
WARMUP_STEPS = 2
# Each side's ways to compute: the first of a precision is the best that is known.
WAYS = {
    "bfloat16": {"kerasllm": ["mixed_bfloat16", "bfloat16"], "peft": ["bfloat16", "mixed"]},
    "float32": {"kerasllm": ["float32"], "peft": ["float32"]},
}


def main() -> None:
    options = parse_arguments()
    if options.worker:
        print(json.dumps(train(options)))
        return
    runs = []
    with tempfile.TemporaryDirectory() as folder:
        rows = Path(folder) / "rows.npy"
        shape = (options.batch_size * (options.steps + WARMUP_STEPS), options.length)
        vocabulary = json.loads((options.model / "config.json").read_text())["vocab_size"]
        np.save(rows, np.random.default_rng(0).integers(0, vocabulary, shape).astype("int32"))
        for repeat in range(options.repeats):
            for precision in options.precisions:
                for side, way in turns(precision, options.every_way):
                    run = {
                        "side": side,
                        "precision": precision,
                        **measure(side, way, rows, options),
                    }
                    print(
                        f"{repeat + 1}/{options.repeats} {side} {way}: "
                        f"{run['tokens_per_second']:.0f} tokens/s, others kept "
                        f"{run['cores_of_others'] or 0:.2f} cores busy",
                        file=sys.stderr,
                    )
                    runs.append(run)
    summary = {}
    for run in runs:
        key = f"{run['precision']} {run['side']} {run['way']}"
        summary.setdefault(key, []).append(run["tokens_per_second"])
    result = {
        "benchmark": "lora",
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": machine(),
        "tokens_per_second": {key: median(values) for key, values in summary.items()},
        "runs": runs,
    }
    path = options.output or HERE / "results" / f"lora-{datetime.now(UTC):%Y-%m-%d-%H%M}.json"
    path.write_text(json.dumps(result, indent=2) + "\n")
    for key, value in result["tokens_per_second"].items():
        print(f"{key:<36} {value:7.0f} tokens/s")


def turns(precision: str, every_way: bool) -> list[tuple[str, str]]:
    """Returns which side computes how, in what order."""
    pairs = [(side, way) for side, ways in WAYS[precision].items() for way in ways]
    best = {(side, ways[0]) for side, ways in WAYS[precision].items()}
    return [pair for pair in pairs if every_way or pair in best]


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.lora")
    parser.add_argument("--model", type=Path, required=True, help="folder in Hugging Face's layout")
    parser.add_argument("--repeats", type=int, default=3, help="rounds of runs (default: 3)")
    parser.add_argument("--precisions", nargs="+", choices=WAYS, default=list(WAYS))
    parser.add_argument("--every-way", action="store_true", help="not only each side's best")
    parser.add_argument("--steps", type=int, default=10, help="measured ones (default: 10)")
    parser.add_argument("--batch-size", type=int, default=8, help="rows of a step (default: 8)")
    parser.add_argument("--length", type=int, default=128, help="tokens of a row (default: 128)")
    parser.add_argument("--quantize", choices=["int8", "int4"], help="of kerasllm's base")
    parser.add_argument("--peers", type=Path, default=HERE / "peers" / ".venv")
    parser.add_argument("--output", type=Path, help="the JSON file (default: in results/)")
    parser.add_argument("--worker", metavar="WAY", help=argparse.SUPPRESS)
    parser.add_argument("--rows", type=Path, help=argparse.SUPPRESS)
    return parser.parse_args()


def measure(side: str, way: str, rows: Path, options: argparse.Namespace) -> dict:
    if side == "kerasllm":
        command = [sys.executable, "-m", "benchmarks.lora", "--worker", way, "--rows", str(rows)]
        command += ["--quantize", options.quantize] if options.quantize else []
    else:
        command = [str(options.peers / "bin" / "python"), str(HERE / "peers/huggingface_lora.py")]
        command += ["--precision", way, "--token-ids", str(rows)]
    command += ["--model", str(options.model), "--batch-size", str(options.batch_size)]
    measured = run_measured(command)
    return {
        "way": way,
        **json.loads(measured.stdout.splitlines()[-1]),
        "cpu_seconds": measured.cpu_seconds,
        "peak_memory": measured.peak_memory,
        "cores_of_others": measured.cores_of_others,
    }


def train(options: argparse.Namespace) -> dict:
    """Trains with kerasllm, in a process of its own."""
    import keras  # here, for the processes that only wait need none of it
    import tensorflow as tf

    from kerasllm.models.adapters import add_adapter
    from kerasllm.models.gpt import load_causal_lm
    from kerasllm.training.optimizers import build_optimizer

    model = load_causal_lm(options.model, precision=options.worker)
    add_adapter(model.backbone, quantize=options.quantize, cast=options.worker.startswith("mixed"))
    optimizer = build_optimizer("adamw", 1e-4, model.trainable_variables, clip_norm=1.0)
    model.compile(optimizer)
    ids = np.load(options.rows)
    # The last token has no next one, and counts for nothing, as in transformers.
    counted = np.ones(ids.shape, "float32")
    counted[:, -1] = 0
    data = tf.data.Dataset.from_tensor_slices(
        ({"token_ids": ids}, np.roll(ids, -1, axis=1), counted)
    ).batch(options.batch_size)
    model.fit(data.take(WARMUP_STEPS), verbose=0)
    started = time.perf_counter()
    history = model.fit(data.skip(WARMUP_STEPS), verbose=0)
    seconds = time.perf_counter() - started
    tokens = ids.size - WARMUP_STEPS * options.batch_size * ids.shape[1]
    return {
        "tokens": tokens,
        "train_seconds": seconds,
        "tokens_per_second": tokens / seconds,
        "loss": history.history["loss"][-1],
        "trained_parameters": sum(int(np.prod(v.shape)) for v in model.trainable_variables),
        "versions": {"keras": keras.__version__, "tensorflow": tf.__version__},
    }


if __name__ == "__main__":
    main()
