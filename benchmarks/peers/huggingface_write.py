"""Writes targets by beam search with transformers on a CPU, and prints one JSON object.

Runs in the environment of `setup.sh`:

    python huggingface_write.py --model FOLDER --sources sources.json --precision float32
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
    parser.add_argument("--sources", type=Path, required=True, help="JSON: a list of texts")
    parser.add_argument("--precision", choices=["bfloat16", "float32"], required=True)
    parser.add_argument("--beams", type=int, default=4)
    parser.add_argument("--max-new-tokens", type=int, default=64)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--written", type=Path, help="write there what was written, as JSON")
    print(json.dumps(measure(parser.parse_args())))


def measure(options: argparse.Namespace) -> dict:
    transformers.logging.set_verbosity_error()
    sources = json.loads(options.sources.read_text(encoding="utf-8"))
    tokenizer = transformers.AutoTokenizer.from_pretrained(options.model)
    model = transformers.AutoModelForSeq2SeqLM.from_pretrained(
        options.model, dtype=getattr(torch, options.precision)
    ).eval()
    seconds, written = [], []
    # The first round, which warms up, is left out.
    for _ in range(options.rounds + 1):
        started = time.perf_counter()
        written = write(model, tokenizer, sources, options)
        seconds.append(time.perf_counter() - started)
    if options.written:
        options.written.write_text(json.dumps(written, ensure_ascii=False), encoding="utf-8")
    return {
        "texts_per_second": len(sources) / min(seconds[1:]),
        "first_round_seconds": seconds[0],
        "versions": {"torch": torch.__version__, "transformers": transformers.__version__},
    }


@torch.inference_mode()
def write(model, tokenizer, sources: list[str], options: argparse.Namespace) -> list[str]:
    """Returns a target for each source; those of like length are written for together."""
    rows = [tokenizer(text)["input_ids"] for text in sources]
    order = sorted(range(len(rows)), key=lambda number: len(rows[number]))
    found = [""] * len(rows)
    for first in range(0, len(order), options.batch_size):
        some = order[first : first + options.batch_size]
        inputs = tokenizer.pad({"input_ids": [rows[n] for n in some]}, return_tensors="pt")
        made = model.generate(
            **inputs, num_beams=options.beams, max_new_tokens=options.max_new_tokens
        )
        for number, text in zip(some, tokenizer.batch_decode(made, skip_special_tokens=True)):
            found[number] = text.strip()
    return found


if __name__ == "__main__":
    main()
