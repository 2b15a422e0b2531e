"""Generates greedily with transformers on a CPU, and prints one JSON object on stdout.

Runs in the environment of `setup.sh` and imports nothing of kerasllm:

    python huggingface_generate.py --model FOLDER --precision bfloat16 --batch-sizes 1 8
"""

from __future__ import annotations

import argparse
import json
import time

import torch
import transformers


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", required=True, help="folder in Hugging Face's layout")
    parser.add_argument("--precision", choices=["bfloat16", "float32"], required=True)
    parser.add_argument("--prompt", required=True)
    parser.add_argument("--new-tokens", type=int, default=96)
    parser.add_argument("--batch-sizes", type=int, nargs="+", default=[1, 8])
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    transformers.logging.set_verbosity_error()
    tokenizer = transformers.AutoTokenizer.from_pretrained(options.model)
    model = transformers.AutoModelForCausalLM.from_pretrained(
        options.model, dtype=getattr(torch, options.precision)
    ).eval()
    prompt = tokenizer(options.prompt, return_tensors="pt", add_special_tokens=False).input_ids
    results = {}
    for rows in options.batch_sizes:
        ids = prompt.repeat(rows, 1)
        seconds = []
        # The first one, which warms up, is left out.
        for _ in range(options.rounds + 1):
            started = time.perf_counter()
            made = model.generate(
                ids,
                attention_mask=torch.ones_like(ids),
                max_new_tokens=options.new_tokens,
                min_new_tokens=options.new_tokens,
                do_sample=False,
            )
            seconds.append(time.perf_counter() - started)
        results[rows] = {
            "seconds": seconds[1:],
            "first_seconds": seconds[0],
            "tokens": made[0, prompt.shape[1] :].tolist(),
        }
    versions = {"torch": torch.__version__, "transformers": transformers.__version__}
    print(json.dumps({"results": results, "versions": versions}))


if __name__ == "__main__":
    main()
