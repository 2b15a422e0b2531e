"""Classifies texts with a transformers pipeline on a CPU, and prints one JSON object on stdout.

Runs in the environment of `setup.sh` and imports nothing of kerasllm:

    python huggingface_classify.py --model FOLDER --texts TEXTS.json --precision bfloat16
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch
import transformers


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", required=True, help="folder in Hugging Face's layout")
    parser.add_argument("--texts", type=Path, required=True, help="JSON: texts and their labels")
    parser.add_argument("--precision", choices=["bfloat16", "float32"], required=True)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--labels", type=Path, help="only write the labels there, as JSON")
    print(json.dumps(measure(parser.parse_args())))


def measure(options: argparse.Namespace) -> dict:
    transformers.logging.set_verbosity_error()
    given = json.loads(options.texts.read_text(encoding="utf-8"))
    texts = given["texts"]
    classify = transformers.pipeline(
        "text-classification",
        options.model,
        dtype=getattr(torch, options.precision),
        batch_size=options.batch_size,
    )
    seconds, found = [], []
    # The first round, which warms up, is left out.
    for _ in range(options.rounds + 1):
        started = time.perf_counter()
        found = classify(texts, truncation=True)
        seconds.append(time.perf_counter() - started)
    labels = [one["label"] for one in found]
    if options.labels:
        options.labels.write_text(json.dumps(labels), encoding="utf-8")
        return {}
    same = sum(a == b for a, b in zip(labels, given["labels"], strict=True)) / len(texts)
    lengths = [len(ids) for ids in classify.tokenizer(texts, truncation=True)["input_ids"]]
    return {
        "texts_per_second": len(texts) / min(seconds[1:]),
        "command_seconds": command_seconds(),
        "tokens": sum(lengths),
        "squared_lengths": sum(length**2 for length in lengths),
        "work": {"texts": len(labels), "rounds": options.rounds},
        "quality": {"same_labels": same},
        "versions": {"torch": torch.__version__, "transformers": transformers.__version__},
    }


def command_seconds() -> float:
    """Returns how long a process takes that does this once: start, loading and writing included."""
    with tempfile.TemporaryDirectory() as folder:
        once = ["--rounds", "0", "--labels", str(Path(folder) / "labels.json")]
        started = time.perf_counter()
        subprocess.run([sys.executable, *sys.argv, *once], check=True)
        return time.perf_counter() - started


if __name__ == "__main__":
    main()
