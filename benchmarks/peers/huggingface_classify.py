"""Classifies texts with a transformers pipeline on a CPU, and prints one JSON object on stdout.

Runs in the environment of `setup.sh` and imports nothing of kerasllm:

    python huggingface_classify.py --model FOLDER --texts TEXTS.json --precision bfloat16
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import torch
import transformers


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", required=True, help="folder in Hugging Face's layout")
    parser.add_argument("--texts", required=True, help="JSON: a list of texts")
    parser.add_argument("--precision", choices=["bfloat16", "float32"], required=True)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    transformers.logging.set_verbosity_error()
    texts = json.loads(Path(options.texts).read_text(encoding="utf-8"))
    classify = transformers.pipeline(
        "text-classification",
        options.model,
        dtype=getattr(torch, options.precision),
        batch_size=options.batch_size,
    )
    seconds, cpu_seconds, found = [], [], []
    # The first one, which warms up, is left out.
    for _ in range(options.rounds + 1):
        started, used = time.perf_counter(), time.process_time()
        found = classify(texts, truncation=True)
        seconds.append(time.perf_counter() - started)
        cpu_seconds.append(time.process_time() - used)
    versions = {"torch": torch.__version__, "transformers": transformers.__version__}
    answer = {
        "seconds": seconds[1:],
        "cpu_seconds": cpu_seconds[1:],
        "labels": [one["label"] for one in found],
        "versions": versions,
    }
    print(json.dumps(answer))


if __name__ == "__main__":
    main()
