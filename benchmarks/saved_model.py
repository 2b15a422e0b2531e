"""Measures the SavedModel of a classifier and a transformers pipeline of the same weights, in turn.

    python -m benchmarks.saved_model RUN [--repeats 3] [--rows 512]

Both classify the same texts in batches of 32, as a server would: strings in, labels out, in the
order in which they come. The SavedModel runs in a process with TensorFlow alone. Both come in
float32 and in bfloat16, of which the faster counts; each side in processes of its own, A B A B, so
that a slow minute of the machine falls on both. `benchmarks/peers/setup.sh` makes the peer's
environment. The labels of the two must agree.
"""

from __future__ import annotations

import argparse
import csv
import json
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from statistics import median

from rich.console import Console
from rich.table import Table

from benchmarks.measure import machine, run_measured

HERE = Path(__file__).parent
BATCH_SIZE = 32
PRECISIONS = ("float32", "bfloat16")


def main() -> None:
    options = parse_arguments()
    if options.measure:
        print(json.dumps(measure(options)))
        return
    from kerasllm.data.starters import find_starter
    from kerasllm.workflows.export import export

    console = Console(stderr=True)
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        export(options.run, "transformers", output=folder / "transformers")
        for precision in PRECISIONS:
            export(options.run, output=folder / precision, precisions=(precision,))
        data = find_starter("starter:movie_reviews", "test")[1]
        with open(data, encoding="utf-8", newline="") as file:
            texts = [row["text"] for row in csv.DictReader(file)][: options.rows]
        (folder / "texts.json").write_text(json.dumps(texts), encoding="utf-8")
        shared = ["--texts", str(folder / "texts.json"), "--threads", str(options.threads)]
        shared += ["--rounds", str(options.rounds)]
        ours = [sys.executable, "-m", "benchmarks.saved_model"]
        peer = [str(options.peers / "bin" / "python"), str(HERE / "peers/huggingface_classify.py")]
        peer += ["--model", str(folder / "transformers"), *shared, "--precision"]
        sides = {
            f"kerasllm {precision}": [*ours, str(folder / precision), "--measure", *shared]
            for precision in PRECISIONS
        }
        sides |= {f"transformers {precision}": [*peer, precision] for precision in PRECISIONS}
        runs = {side: [] for side in sides}
        for number in range(options.repeats):
            for side, command in sides.items():
                measured = run_measured(command)
                found = json.loads(measured.stdout)
                runs[side].append({**found, "cores_of_others": measured.cores_of_others})
                console.print(
                    f"{number + 1}/{options.repeats} {side}: {min(found['seconds']):.2f} s"
                )
    report(console, runs, len(texts), options)


def measure(options: argparse.Namespace) -> dict:
    """Classifies with the SavedModel, in this process."""
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(options.threads)
    texts = json.loads(Path(options.texts).read_text(encoding="utf-8"))
    classify = tf.saved_model.load(options.run).signatures["serving_default"]
    seconds, cpu_seconds, labels = [], [], []
    # The first one, which warms up, is left out.
    for _ in range(options.rounds + 1):
        started, used = time.perf_counter(), time.process_time()
        labels = []
        for start in range(0, len(texts), BATCH_SIZE):
            answer = classify(text=tf.constant(texts[start : start + BATCH_SIZE]))
            labels += [label.decode() for label in answer["label"].numpy()]
        seconds.append(time.perf_counter() - started)
        cpu_seconds.append(time.process_time() - used)
    versions = {"tensorflow": tf.__version__}
    return {
        "seconds": seconds[1:],
        "cpu_seconds": cpu_seconds[1:],
        "labels": labels,
        "versions": versions,
    }


def report(console: Console, runs: dict, rows: int, options: argparse.Namespace) -> None:
    """Prints the table and writes the results."""
    table = Table("side", "texts a second", "texts a second of a core", "labels as in float32")
    labels = runs["kerasllm float32"][0]["labels"]
    speeds = {}
    for side, found in runs.items():
        # Of every process the best round, of these the median.
        speeds[side] = {
            name: rows / median(min(run[name]) for run in found)
            for name in ("seconds", "cpu_seconds")
        }
        agree = sum(a == b for a, b in zip(labels, found[0]["labels"])) / rows
        table.add_row(
            side,
            f"{speeds[side]['seconds']:.0f}",
            f"{speeds[side]['cpu_seconds']:.0f}",
            f"{agree:.2%}",
        )
    console.print(table)
    for name, what in (("seconds", "time"), ("cpu_seconds", "processor time")):
        ours, theirs = (
            max(speed[name] for side, speed in speeds.items() if side.startswith(maker))
            for maker in ("kerasllm", "transformers")
        )
        console.print(f"by {what}: {ours / theirs:.2f} times, each in its faster precision")
    for found in runs.values():
        for run in found:
            del run["labels"]
    result = {"rows": rows, "threads": options.threads, "machine": machine(), "runs": runs}
    stamp = datetime.now(UTC).strftime("%Y-%m-%d-%H%M")
    path = HERE / "results" / f"saved_model-{stamp}.json"
    path.write_text(json.dumps({**result, "speeds": speeds}, indent=2) + "\n", encoding="utf-8")
    console.print(f"written to benchmarks/results/{path.name}")


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", help="a run of bert_cls on movie_reviews")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=3, help="passes over the texts a process")
    parser.add_argument("--rows", type=int, default=512)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--peers", type=Path, default=HERE / "peers" / ".venv")
    parser.add_argument("--measure", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--texts", help=argparse.SUPPRESS)
    return parser.parse_args()


if __name__ == "__main__":
    main()
