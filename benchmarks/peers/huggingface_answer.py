"""Answers questions in batches with transformers on a CPU, and prints one JSON object.

transformers 5 has no pipeline for it: windows and the search for the best answer are those of
huggingface_qa.py, as its users write them. Runs in the environment of `setup.sh`:

    python huggingface_answer.py --model FOLDER --rows rows.json --precision bfloat16
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import huggingface_qa
import torch
import transformers


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", required=True, help="folder in Hugging Face's layout")
    parser.add_argument("--rows", type=Path, required=True, help="JSON: rows and what is expected")
    parser.add_argument("--precision", choices=["bfloat16", "float32"], required=True)
    parser.add_argument("--max-length", type=int, default=384)
    parser.add_argument("--stride", type=int, default=128)
    parser.add_argument("--max-answer-length", type=int, default=50)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--found", type=Path, help="only write there what was found, as JSON")
    print(json.dumps(measure(parser.parse_args())))


def measure(options: argparse.Namespace) -> dict:
    transformers.logging.set_verbosity_error()
    given = json.loads(options.rows.read_text(encoding="utf-8"))
    tokenizer = transformers.AutoTokenizer.from_pretrained(options.model)
    model = transformers.AutoModelForQuestionAnswering.from_pretrained(
        options.model, dtype=getattr(torch, options.precision)
    ).eval()
    seconds, found = [], []
    # The first round, which warms up, is left out.
    for _ in range(options.rounds + 1):
        started = time.perf_counter()
        found = huggingface_qa.best_answers(model, tokenizer, questions(given["rows"]), options)
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


def questions(rows: list[list[str]]) -> list[dict]:
    """Returns questions as huggingface_qa.py reads them; no answer is known."""
    nothing = [{"text": "", "answer_start": 0}]
    return [{"question": a, "context": b, "answers": nothing} for a, b in rows]


if __name__ == "__main__":
    main()
