"""LoRA training of a decoder against `peft` and Hugging Face's Trainer.

Both train the same adapter (rank 8, query and value) of the same base on the same rows of random
tokens. The first two steps, in which graphs are traced, are not counted. float32, which was half as
fast on both sides where there is bfloat16, is measured where there is none.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from benchmarks.inputs import (
    attention_operations,
    decoder_weights,
    language_model,
    make_language_model,
    read_config,
)
from benchmarks.measure import has_bfloat16
from benchmarks.suite import OURS, PEERS, Case, SuiteOptions, Target, Way

PEER = "peft"
WARMUP_STEPS = 2
STEPS = 10
BATCH_SIZE = 8
LENGTH = 128


class Lora(Case):
    name = "lora"
    description = "trains a LoRA adapter of SmolLM2-135M, 8 x 128 tokens a step"
    figure = "tokens_per_second"
    unit = "tokens/s"
    more_is_better = True
    targets = (
        Target("tokens_per_second", PEER, 1.4),
        Target("whole_seconds", PEER, 1.2, more_is_better=False),
    )

    def prepare(self, folder: Path, options: SuiteOptions) -> None:
        make_language_model(options)
        self._config = read_config(language_model(options))
        steps, self._length = (2, 32) if options.quick else (STEPS, LENGTH)
        shape = (BATCH_SIZE * (WARMUP_STEPS + steps), self._length)
        ids = np.random.default_rng(0).integers(0, self._config["vocab_size"], shape)
        np.save(folder / "rows.npy", ids.astype("int32"))

    def ways(self, folder: Path, options: SuiteOptions) -> list[Way]:
        shared = ["--model", str(language_model(options)), "--token-ids", str(folder / "rows.npy")]
        shared += ["--batch-size", str(BATCH_SIZE), "--warmup-steps", str(WARMUP_STEPS)]
        ours = [sys.executable, "-m", "benchmarks.workers.lora", *shared, "--precision"]
        theirs = [options.peer_python, str(PEERS / "huggingface_lora.py"), *shared, "--precision"]
        if not has_bfloat16():
            return [
                Way(OURS, "float32", [*ours, "float32"]),
                Way(PEER, "float32", [*theirs, "float32"]),
            ]
        return [
            *(Way(OURS, name, [*ours, name]) for name in ("mixed_bfloat16", "bfloat16")),
            # bfloat16 holds the base in it, mixed casts one of float32 in each step.
            *(Way(PEER, name, [*theirs, name]) for name in ("bfloat16", "mixed")),
        ]

    def floor(self, results, ceilings):
        tokens = results.work["tokens"]
        # Forward, and backward towards the inputs: the base's weights have no gradients.
        operations = 4 * decoder_weights(self._config) * tokens
        # Half of attention: a token sees those before it.
        operations += 3 / 2 * attention_operations(self._config, tokens * self._length)
        seconds = operations / ceilings["bfloat16"]
        speed = results.best(OURS, self.figure, self.more_is_better).median(self.figure)
        return {
            "seconds": seconds,
            "share": seconds * speed / tokens,
            "how": f"{operations / 1e12:.1f} trillion operations of the frozen base for "
            f"{tokens:,} tokens, at the measured rate of bfloat16",
        }


CASE = Lora()
