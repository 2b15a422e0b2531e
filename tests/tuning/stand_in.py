"""Stands in for `kerasllm finetune` where a search is tested: the same files, without TensorFlow.

What it measures follows from the recipe alone: best at a learning rate of 1e-4 and 3 epochs.
"""

import fcntl
import json
import math
import os
import signal
import sys
import time
from pathlib import Path

import yaml

STEPS = 4


def main() -> None:
    verb, *rest = sys.argv[1:]
    options = dict(zip(rest[::2], rest[1::2]))
    assert verb == "finetune" and rest[-1] == "--resume"
    recipe = yaml.safe_load(Path(options["--recipe"]).read_text())
    training, run = recipe["training"], Path(options["--output"])
    if recipe["data"].get("text") == "missing":
        print("Error: There is no column 'missing'\n  where: data.text", file=sys.stderr)
        sys.exit(2)
    if recipe["data"]["test"] == "leaked.csv" and recipe["data"]["leaks"] == "refuse":
        print("Error: 3 test rows are in train too", file=sys.stderr)
        sys.exit(2)
    (run / "checkpoints").mkdir(parents=True, exist_ok=True)
    lock = open(run / ".lock", "w")
    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    (run / "recipe.yaml").write_text(Path(options["--recipe"]).read_text())
    stopped = []
    signal.signal(signal.SIGTERM, lambda *_: stopped.append(1))
    checkpoint, log = run / "checkpoints" / "step", run / "metrics.jsonl"
    done, kept = json.loads(checkpoint.read_text()) if checkpoint.is_file() else (0, 0)
    lines = log.read_text().splitlines(keepends=True)[:kept] if log.is_file() else []
    log.write_text("".join(lines))
    if training["batch_size"] // training["accumulate"] > 40:
        print("Error: Memory ran out\n  do:    lower training.batch_size", file=sys.stderr)
        sys.exit(1)
    rate, last = float(training["learning_rate"]), int(training["epochs"]) * STEPS
    if rate > 9e-4:
        print("Error: The loss is not a number\n  where: step 3", file=sys.stderr)
        sys.exit(1)
    value = 0.9 - 0.1 * abs(math.log10(rate / 1e-4)) - 0.02 * abs(int(training["epochs"]) - 3)
    value += 0.001 * int(training["seed"])
    for step in range(done + 1, last + 1):
        time.sleep(float(os.environ.get("STAND_IN_SECONDS", 0)) / STEPS)
        rows = [{"step": step, "epoch": step / STEPS, "loss": 1 / step}]
        if step % STEPS == 0:
            metrics = {"loss": 1 - value * step / last, "accuracy": value * step / last}
            if recipe["task"] == "seq2seq":
                # Texts are written once, at the end.
                rows.append({"step": step, "validation": {"loss": metrics["loss"]}})
                metrics = {**metrics, "bleu": 100 * value}
            else:
                rows.append({"step": step, "validation": metrics})
        kept += len(rows)
        with open(log, "a") as file:
            file.writelines(json.dumps(row) + "\n" for row in rows)
        checkpoint.write_text(json.dumps([step, kept]))
        if stopped:
            print("Stopped: SIGTERM", file=sys.stderr)
            sys.exit(143)
    found = {"train": {}, "validation": metrics, "test": {}}
    if recipe["data"]["test"]:
        found["test"] = {name: each - 0.01 for name, each in metrics.items()}
    if recipe["data"]["test"] == "unlike.csv":
        found["test"] = {"loss": 0.5}
    (run / "metrics.json").write_text(json.dumps(found))


main()
