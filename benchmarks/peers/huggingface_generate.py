"""Generates greedily with transformers on a CPU, and prints one JSON object on stdout.

Runs in the environment of `setup.sh` and imports nothing of kerasllm:

    python huggingface_generate.py --model FOLDER --prompt TEXT --precision bfloat16
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from statistics import median

import torch
import transformers


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", required=True, help="folder in Hugging Face's layout")
    parser.add_argument("--precision", choices=["bfloat16", "float32"], required=True)
    parser.add_argument("--prompt", required=True)
    parser.add_argument("--new-tokens", type=int, default=96)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--expected", type=Path, help="JSON: the tokens that are right")
    parser.add_argument("--tokens-only", action="store_true", help="print what is generated")
    options = parser.parse_args()
    transformers.logging.set_verbosity_error()
    tokenizer = transformers.AutoTokenizer.from_pretrained(options.model)
    model = transformers.AutoModelForCausalLM.from_pretrained(
        options.model, dtype=getattr(torch, options.precision)
    ).eval()
    prompt = tokenizer(options.prompt, return_tensors="pt", add_special_tokens=False).input_ids
    if options.tokens_only:
        print(json.dumps(generate(model, prompt, options.new_tokens)[0]))
    else:
        print(json.dumps(measure(model, prompt, options)))


def generate(model, prompt: torch.Tensor, new_tokens: int) -> list[list[int]]:
    """Returns the new tokens of each row."""
    made = model.generate(
        prompt,
        attention_mask=torch.ones_like(prompt),
        max_new_tokens=new_tokens,
        min_new_tokens=new_tokens,
        do_sample=False,
    )
    return made[:, prompt.shape[1] :].tolist()


def measure(model, prompt: torch.Tensor, options: argparse.Namespace) -> dict:
    speeds, firsts, made = {}, {}, []
    for rows in (1, 8):
        seconds = []
        # The first round, which warms up, is left out.
        for _ in range(options.rounds + 1):
            started = time.perf_counter()
            made = generate(model, prompt.repeat(rows, 1), options.new_tokens)
            seconds.append(time.perf_counter() - started)
        speeds[rows] = rows * options.new_tokens / median(seconds[1:])
        firsts[rows] = seconds[0]
    expected = json.loads(options.expected.read_text())
    same = sum(a == b for a, b in zip(made[0], expected)) / len(expected)
    return {
        "tokens_per_second": speeds[1],
        "tokens_per_second_of_8": speeds[8],
        "first_seconds": firsts[1],
        "first_seconds_of_8": firsts[8],
        "work": {"prompt_tokens": prompt.shape[1], "new_tokens": [len(row) for row in made]},
        "quality": {"same_tokens": same},
        "versions": {"torch": torch.__version__, "transformers": transformers.__version__},
    }


if __name__ == "__main__":
    main()
