"""Measures what a strategy of one replica costs: a step under virtual:1 against one_device.

    python -m benchmarks.strategies [--blocks 30] [--steps 5] [--precision auto]

A process for each trains MiniLM on batches of 32 x 32 tokens. They take turns of a few steps, so
that a slow moment of the machine falls on both; the one whose turn it is not waits and uses
nothing.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from statistics import median

from rich.console import Console
from rich.table import Table

from benchmarks.measure import machine

HERE = Path(__file__).parent
SIDES = ("one_device", "virtual:1")
# The limit: what a step may cost more.
LIMIT = 0.05
ROWS, LENGTH = 32, 32


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.strategies")
    parser.add_argument("--blocks", type=int, default=30, help="turns of each (default: 30)")
    parser.add_argument("--steps", type=int, default=5, help="steps of a turn (default: 5)")
    parser.add_argument("--precision", default="auto", help="as in a recipe (default: auto)")
    parser.add_argument("--output", type=Path, help="the JSON file (default: in results/)")
    parser.add_argument("--role", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.role:
        train(options.role, options.precision, options.steps)
        return
    result = {
        "benchmark": "strategies",
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": machine(),
        **compare(options, Console(stderr=True)),
    }
    path = options.output or HERE / "results" / f"strategies-{datetime.now(UTC):%Y-%m-%d-%H%M}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(result, indent=2) + "\n")
    Console().print(table(result))
    Console(stderr=True).print(f"Written to {path}")


def compare(options: argparse.Namespace, console: Console) -> dict:
    """Lets both train in turn; returns the seconds of each turn."""
    sides = {
        side: subprocess.Popen(
            [sys.executable, "-m", "benchmarks.strategies", "--role", side]
            + ["--steps", str(options.steps), "--precision", options.precision],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for side in SIDES
    }
    turns = {side: [] for side in SIDES}
    precision = None
    try:
        # The first two turns build graphs and warm up.
        for block in range(-2, options.blocks):
            for side in SIDES if block % 2 else reversed(SIDES):
                process = sides[side]
                process.stdin.write("go\n")
                process.stdin.flush()
                line = process.stdout.readline()
                if not line:
                    raise SystemExit(f"{side} has ended: see above")
                turn = json.loads(line)
                precision = turn.pop("precision")
                if block >= 0:
                    turns[side].append(turn)
            if block >= 0:
                console.print(f"{block + 1}/{options.blocks}", end="\r")
    finally:
        for process in sides.values():
            process.kill()
            process.wait()
    ratios = {
        number: [other[number] / one[number] for one, other in zip(*turns.values(), strict=True)]
        for number in ("seconds", "cpu_seconds")
    }
    return {
        "steps_of_a_turn": options.steps,
        "precision": precision,
        "turns": turns,
        "median_ratio": {number: median(values) for number, values in ratios.items()},
    }


def train(side: str, precision: str, steps: int) -> None:
    """Trains without end; prints what each turn took."""
    import keras
    import numpy as np

    from kerasllm.data.batch_plan import EpochPlans
    from kerasllm.data.examples import Examples
    from kerasllm.data.pipeline import training_dataset
    from kerasllm.data.rows import TokensInMemory
    from kerasllm.distribution import strategy
    from kerasllm.models import bert_classifier
    from kerasllm.training.optimizers import build_optimizer
    from kerasllm.training.precision import resolve_precision

    scope = strategy(side)
    precision = resolve_precision(precision)
    with scope.scope():
        keras.utils.set_random_seed(0)
        model = bert_classifier("minilm_l6_en_uncased", num_classes=2, precision=precision)
        optimizer = build_optimizer(
            "adamw", 1e-5, model.trainable_variables, weight_decay=0.01, clip_norm=1.0
        )
        model.compile(optimizer)
    count = ROWS * 64
    tokens = np.random.default_rng(0).integers(1000, 20_000, count * LENGTH).astype("int32")
    rows = np.arange(count)
    data = Examples(
        TokensInMemory(tokens, np.arange(count + 1) * LENGTH),
        rows,
        (rows % 2).astype("int32"),
    )
    plans = EpochPlans(data.lengths, ROWS, 1, seed=0)

    class Turns(keras.callbacks.Callback):
        def on_train_batch_begin(self, batch, logs=None):
            if batch % steps == 0:
                if not sys.stdin.readline():
                    sys.exit()
                self.started, self.cpu = time.perf_counter(), time.process_time()

        def on_train_batch_end(self, batch, logs=None):
            if batch % steps == steps - 1:
                turn = {
                    "seconds": (time.perf_counter() - self.started) / steps,
                    "cpu_seconds": (time.process_time() - self.cpu) / steps,
                    "precision": precision,
                }
                print(json.dumps(turn), flush=True)

    epochs = 1_000_000 // plans.steps
    stream = training_dataset(
        data,
        plans,
        epochs=epochs,
        inputs=model.input_names,
        pad_id=0,
        strategy=scope,
    )
    model.fit(stream, steps_per_epoch=epochs * plans.steps, verbose=0, callbacks=[Turns()])


def table(result: dict) -> Table:
    """The comparison, and what it was measured with."""
    shown = Table(
        title=f"A training step of {ROWS} x {LENGTH} tokens, {result['precision']}",
        title_justify="left",
        caption=f"medians of {len(result['turns'][SIDES[0]])} turns; "
        f"{result['machine']['cpu']}, {result['machine']['cores']} cores",
        caption_justify="left",
    )
    for column in ("", *SIDES, "ratio", "at most"):
        shown.add_column(column)
    for name, number in (("milliseconds", "seconds"), ("processor ms", "cpu_seconds")):
        times = [1000 * median(turn[number] for turn in result["turns"][side]) for side in SIDES]
        ratio = result["median_ratio"][number]
        shown.add_row(name, *(f"{t:.1f}" for t in times), f"{ratio:.3f}", f"{1 + LIMIT:.2f}")
    return shown


if __name__ == "__main__":
    os.environ.setdefault("KERAS_BACKEND", "tensorflow")
    main()
