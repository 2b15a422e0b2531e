"""Trains a LoRA adapter with kerasllm, and prints one JSON object as the suite wants it.

Usage:

    python -m benchmarks.workers.lora --model FOLDER --token-ids rows.npy --precision bfloat16
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

from kerasllm.runtime.startup import import_tensorflow

# As the commands do, before anything else imports it.
import_tensorflow(lean=True)

import keras
import numpy as np
import tensorflow as tf

from kerasllm.models.adapters import add_adapter
from kerasllm.models.decoder import load_causal_lm
from kerasllm.training.optimizers import build_optimizer


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=Path, required=True, help="in Hugging Face's layout")
    parser.add_argument("--token-ids", required=True, help="int32 [rows, length], as .npy")
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--warmup-steps", type=int, default=2, help="not measured")
    parser.add_argument(
        "--precision", choices=["mixed_bfloat16", "bfloat16", "float32"], default="mixed_bfloat16"
    )
    print(json.dumps(train(parser.parse_args())))


def train(options: argparse.Namespace) -> dict:
    model = load_causal_lm(options.model, precision=options.precision)
    add_adapter(model.backbone, cast=options.precision.startswith("mixed"))
    optimizer = build_optimizer("adamw", 1e-4, model.trainable_variables, clip_norm=1.0)
    model.compile(optimizer)
    ids = np.load(options.token_ids)
    # The last token has no next one, and counts for nothing, as in transformers.
    counted = np.ones(ids.shape, "float32")
    counted[:, -1] = 0
    data = tf.data.Dataset.from_tensor_slices(
        ({"token_ids": ids}, np.roll(ids, -1, axis=1), counted)
    ).batch(options.batch_size)
    losses = model.fit(data.take(options.warmup_steps), verbose=0).history["loss"]
    started = time.perf_counter()
    losses += model.fit(data.skip(options.warmup_steps), verbose=0).history["loss"]
    seconds = time.perf_counter() - started
    steps = len(ids) // options.batch_size
    measured = steps - options.warmup_steps
    tokens = measured * options.batch_size * ids.shape[1]
    trained = sum(int(np.prod(variable.shape)) for variable in model.trainable_variables)
    loss = (losses[0] * options.warmup_steps + losses[1] * measured) / steps
    return {
        "tokens_per_second": tokens / seconds,
        "seconds": seconds,
        "work": {"steps": measured, "tokens": tokens, "trained_parameters": trained},
        "quality": {"loss": float(loss)},
        "versions": {"keras": keras.__version__, "tensorflow": tf.__version__},
    }


if __name__ == "__main__":
    main()
