"""Generates greedily with kerasllm, and prints one JSON object as the suite wants it.

Usage:

    python -m benchmarks.workers.generate --model FOLDER --prompt TEXT --precision bfloat16
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from statistics import median

from kerasllm.runtime.startup import import_tensorflow, prepare_process

# As the commands do, before anything else imports it.
import_tensorflow(lean=True)

import keras
import keras_hub
import tensorflow as tf

from kerasllm.data.tokenizers.from_folder import from_folder
from kerasllm.generation import GenerationSettings, Generator
from kerasllm.generation.threads import cores_for_text
from kerasllm.models.decoders import load_backbone


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=Path, required=True, help="in Hugging Face's layout")
    parser.add_argument("--precision", choices=["bfloat16", "float32"], required=True)
    parser.add_argument("--prompt", required=True)
    parser.add_argument("--new-tokens", type=int, default=96)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--expected", type=Path, help="JSON: the tokens that are right")
    print(json.dumps(measure(parser.parse_args())))


def measure(options: argparse.Namespace) -> dict:
    prepare_process(slices=cores_for_text(options.model, options.precision))
    backbone = load_backbone(options.model, dtype=options.precision)
    generator = Generator(keras_hub.models.Llama3CausalLM(backbone=backbone))
    prompt = from_folder(options.model).encode_whole(options.prompt)
    settings = GenerationSettings(max_new_tokens=options.new_tokens)
    speeds, firsts, made = {}, {}, []
    for rows in (1, 8):
        seconds = []
        # The first round compiles, and is left out.
        for _ in range(options.rounds + 1):
            started = time.perf_counter()
            made = generator.generate([prompt] * rows, settings)
            seconds.append(time.perf_counter() - started)
        speeds[rows] = rows * options.new_tokens / median(seconds[1:])
        firsts[rows] = seconds[0]
    expected = json.loads(options.expected.read_text())
    same = sum(a == b for a, b in zip(made[0].tokens, expected)) / len(expected)
    return {
        "tokens_per_second": speeds[1],
        "tokens_per_second_of_8": speeds[8],
        "first_seconds": firsts[1],
        "first_seconds_of_8": firsts[8],
        "work": {"prompt_tokens": len(prompt), "new_tokens": [len(one.tokens) for one in made]},
        "quality": {"same_tokens": same},
        "versions": {
            "keras": keras.__version__,
            "keras-hub": keras_hub.__version__,
            "tensorflow": tf.__version__,
        },
    }


if __name__ == "__main__":
    main()
