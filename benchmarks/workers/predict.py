"""Classifies a file of texts with kerasllm, and prints one JSON object as the suite wants it.

Usage:

    python -m benchmarks.workers.predict RUN --texts texts.json --input texts.txt
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path

from kerasllm.runtime.startup import import_tensorflow

# As the commands do, before anything else imports it.
import_tensorflow(lean=True)

import tensorflow as tf

from benchmarks.inputs import KERASLLM
from benchmarks.measure import run_measured
from kerasllm.models.classify import tokenize
from kerasllm.workflows.trained import open_run


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run")
    parser.add_argument("--texts", type=Path, required=True, help="JSON: texts and their labels")
    parser.add_argument("--input", type=Path, required=True, help="the same, a text a line")
    parser.add_argument("--rounds", type=int, default=1)
    print(json.dumps(measure(parser.parse_args())))


def measure(options: argparse.Namespace) -> dict:
    given = json.loads(options.texts.read_text(encoding="utf-8"))
    texts = given["texts"]
    opened = open_run(options.run)
    model = opened.open()
    seconds, labels = [], []
    # The first round, which traces, is left out.
    for _ in range(options.rounds + 1):
        started = time.perf_counter()
        predicted = opened.task.predict(model, texts, buckets=opened.buckets)
        labels = [found["label"] for found in predicted]
        seconds.append(time.perf_counter() - started)
    lengths = tokenize(model, texts).lengths.astype("int64")
    same = sum(a == b for a, b in zip(labels, given["labels"], strict=True)) / len(texts)
    return {
        "texts_per_second": len(texts) / min(seconds[1:]),
        "command_seconds": command_seconds(options),
        "tokens": int(lengths.sum()),
        "squared_lengths": int((lengths**2).sum()),
        "work": {"texts": len(labels), "rounds": options.rounds},
        "quality": {"same_labels": same},
        "versions": {"tensorflow": tf.__version__},
    }


def command_seconds(options: argparse.Namespace) -> float:
    """Returns how long the whole command takes: start, loading, reading and writing included."""
    with tempfile.TemporaryDirectory() as folder:
        output = str(Path(folder) / "labels.csv")
        command = ["predict", options.run, "--input", str(options.input), "--output", output]
        return run_measured([*KERASLLM, *command]).seconds


if __name__ == "__main__":
    main()
