"""Trains the GPT-2 of the recipe gpt_lm with kerasllm, and prints one JSON object for the suite.

    python -m benchmarks.workers.gpt_lm --rows rows.npy --settings settings.json --write
    python -m benchmarks.workers.gpt_lm --rows rows.npy --settings settings.json --precision auto

With `--write` it makes both files, from the text of the recipe.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from pathlib import Path
from types import SimpleNamespace

from kerasllm.runtime.startup import import_tensorflow

# As the commands do, before anything else imports it.
import_tensorflow(lean=True)

import keras
import numpy as np
import tensorflow as tf

from kerasllm import recipe as recipes
from kerasllm.models.decoder import gpt_causal_lm
from kerasllm.tasks.task import task_of
from kerasllm.training.optimizers import build_optimizer
from kerasllm.training.precision import resolve_precision, resolve_xla

# The loss of so many steps at the end is told.
LAST_STEPS = 20
WARMUP_STEPS = 5


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=Path, required=True, help="int32 [rows, length + 1], .npy")
    parser.add_argument("--settings", type=Path, required=True, help="JSON: sizes and optimizer")
    parser.add_argument("--steps", type=int, default=200, help="with --write: measured ones")
    parser.add_argument("--write", action="store_true")
    parser.add_argument("--precision", choices=["auto", "mixed_bfloat16", "float32"])
    options = parser.parse_args()
    print(json.dumps(write(options) if options.write else train(options)))


def write(options: argparse.Namespace) -> dict:
    """Writes rows of the recipe's training text, in random order, and the recipe's settings."""
    recipe = recipes.load("gpt_lm")
    with tempfile.TemporaryDirectory() as folder:
        os.environ["KERASLLM_CACHE"] = folder
        data = task_of(recipe).load(recipe)
        full = np.flatnonzero(data.train.lengths == recipe.data.max_length)
        count = (options.steps + WARMUP_STEPS) * recipe.training.batch_size
        chosen = np.resize(np.random.default_rng(0).permutation(full), count)
        x, y, _ = data.train.batch(chosen, recipe.data.max_length, ["token_ids"], 0)
    np.save(options.rows, np.concatenate([x["token_ids"], y[:, -1:]], axis=1))
    settings = {
        "vocabulary_size": data.tokenizer.vocabulary_size,
        "length": recipe.data.max_length,
        **{name: getattr(recipe.model, name) for name in ("width", "layers", "heads", "dropout")},
        "batch_size": recipe.training.batch_size,
        "weight_decay": recipe.training.weight_decay,
        "clip_norm": recipe.training.clip_norm,
        # Half of the recipe's, for there is no warm-up of it here.
        "learning_rate": recipe.training.learning_rate / 2,
        "warmup_steps": WARMUP_STEPS,
        "last_steps": min(LAST_STEPS, options.steps),
    }
    options.settings.write_text(json.dumps(settings), encoding="utf-8")
    return settings


def train(options: argparse.Namespace) -> dict:
    settings = json.loads(options.settings.read_text(encoding="utf-8"))
    rows = np.load(options.rows)
    keras.utils.set_random_seed(0)
    model = gpt_causal_lm(
        # To train, a model needs to know no more of its tokenizer.
        tokenizer=SimpleNamespace(vocabulary_size=settings["vocabulary_size"]),
        **{name: settings[name] for name in ("width", "layers", "heads", "dropout")},
        max_length=settings["length"],
        precision=resolve_precision(options.precision),
    )
    rate = settings["learning_rate"]
    regular = {name: settings[name] for name in ("weight_decay", "clip_norm")}
    optimizer = build_optimizer("adamw", rate, model.trainable_variables, **regular)
    model.compile(optimizer, xla=resolve_xla("auto"))
    x, y = {"token_ids": rows[:, :-1]}, rows[:, 1:]
    data = tf.data.Dataset.from_tensor_slices((x, y, np.ones(y.shape, "float32")))
    data = data.batch(settings["batch_size"], drop_remainder=True)
    warm, last = settings["warmup_steps"], settings["last_steps"]
    steps = len(rows) // settings["batch_size"] - warm
    model.fit(data.take(warm), verbose=0)
    started = time.perf_counter()
    if steps > last:
        model.fit(data.skip(warm).take(steps - last), verbose=0)
    losses = model.fit(data.skip(warm + steps - last), verbose=0).history["loss"]
    seconds = time.perf_counter() - started
    tokens = steps * settings["batch_size"] * settings["length"]
    return {
        "tokens_per_second": tokens / seconds,
        "seconds": seconds,
        "work": {
            "steps": steps,
            "tokens": tokens,
            "trained_parameters": sum(int(np.prod(v.shape)) for v in model.trainable_variables),
        },
        "quality": {"loss": float(losses[-1])},
        "versions": {"keras": keras.__version__, "tensorflow": tf.__version__},
    }


if __name__ == "__main__":
    main()
