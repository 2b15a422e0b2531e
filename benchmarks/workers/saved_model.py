"""Classifies texts with a SavedModel, in a process that imports TensorFlow alone.

    python -m benchmarks.workers.saved_model --model FOLDER --texts TEXTS.json

Prints one JSON object as the suite wants it.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import tensorflow as tf


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", required=True)
    parser.add_argument("--texts", type=Path, required=True, help="JSON: texts and their labels")
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=3)
    print(json.dumps(measure(parser.parse_args())))


def measure(options: argparse.Namespace) -> dict:
    given = json.loads(options.texts.read_text(encoding="utf-8"))
    texts = given["texts"]
    classify = tf.saved_model.load(options.model).signatures["serving_default"]
    seconds, labels = [], []
    # The first round, which warms up, is left out.
    for _ in range(options.rounds + 1):
        started = time.perf_counter()
        labels = []
        for start in range(0, len(texts), options.batch_size):
            answer = classify(text=tf.constant(texts[start : start + options.batch_size]))
            labels += [label.decode() for label in answer["label"].numpy()]
        seconds.append(time.perf_counter() - started)
    same = sum(a == b for a, b in zip(labels, given["labels"], strict=True)) / len(texts)
    return {
        "texts_per_second": len(texts) / min(seconds[1:]),
        "work": {"texts": len(labels), "rounds": options.rounds},
        "quality": {"same_labels": same},
        "versions": {"tensorflow": tf.__version__},
    }


if __name__ == "__main__":
    main()
