"""Finds entities in texts with a transformers pipeline on a CPU, and prints one JSON object.

Runs in the environment of `setup.sh` and imports nothing of kerasllm:

    python huggingface_tag_texts.py --model FOLDER --rows rows.json --precision bfloat16
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
    parser.add_argument("--rows", type=Path, required=True, help="JSON: rows and what is expected")
    parser.add_argument("--precision", choices=["bfloat16", "float32"], required=True)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--found", type=Path, help="only write there what was found, as JSON")
    print(json.dumps(measure(parser.parse_args())))


def measure(options: argparse.Namespace) -> dict:
    transformers.logging.set_verbosity_error()
    given = json.loads(options.rows.read_text(encoding="utf-8"))
    tag = transformers.pipeline(
        "token-classification",
        options.model,
        dtype=getattr(torch, options.precision),
        batch_size=options.batch_size,
        # A word has the tag of its first subword, as it was trained.
        aggregation_strategy="first",
    )
    seconds, found = [], []
    # The first round, which warms up, is left out.
    for _ in range(options.rounds + 1):
        started = time.perf_counter()
        found = [
            [[span["start"], span["end"], span["entity_group"]] for span in spans]
            for spans in tag(given["rows"])
        ]
        seconds.append(time.perf_counter() - started)
    if options.found:
        options.found.write_text(json.dumps(found), encoding="utf-8")
        return {}
    same = sum(a == b for a, b in zip(found, given["expected"], strict=True)) / len(found)
    return {
        "rows_per_second": len(found) / min(seconds[1:]),
        "work": {"rows": len(found), "rounds": options.rounds},
        "quality": {"same": same},
        "versions": {"torch": torch.__version__, "transformers": transformers.__version__},
    }


if __name__ == "__main__":
    main()
