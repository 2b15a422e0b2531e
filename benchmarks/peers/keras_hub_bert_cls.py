"""Fine-tunes a BERT classifier with KerasHub's own `fit`, and prints one JSON object on stdout.

As KerasHub's guides do it: `BertTextClassifier` with its preprocessor in a tf.data map, every row
padded to the same length. Runs where keras-hub is installed, imports nothing of kerasllm:

    python keras_hub_bert_cls.py --model FOLDER --train train.csv --test test.csv

With `--steps N` only so many steps are made, and the time of the epoch is reckoned from them: all
steps have the same shape, so each takes as long (the last one its share). What `fit` spends before
its first step is done is counted once.
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import json
import math
import os
import sys
import time

os.environ.setdefault("KERAS_BACKEND", "tensorflow")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import keras_hub
import tensorflow as tf


def main() -> None:
    options = parse_arguments()
    with contextlib.redirect_stdout(sys.stderr):
        result = measure(options)
    print(json.dumps(result))


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", required=True, help="folder in the layout of Hugging Face")
    parser.add_argument("--train", required=True, help="csv with the columns text and label")
    parser.add_argument("--test", required=True, help="csv with the columns text and label")
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--max-length", type=int, default=128)
    parser.add_argument("--learning-rate", type=float, default=5e-5)
    parser.add_argument("--schedule", choices=["linear"], default="linear")
    parser.add_argument("--power", type=float, default=1.0, help="not used by linear")
    parser.add_argument("--warmup", type=float, default=0.1, help="a share of the steps")
    parser.add_argument("--weight-decay", type=float, default=0.01)
    parser.add_argument("--clip-norm", type=float, default=1.0)
    parser.add_argument(
        "--precision", choices=["mixed_bfloat16", "bfloat16", "float32"], default="mixed_bfloat16"
    )
    parser.add_argument("--steps", type=int, help="how many to make, 2 or more (default: all)")
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


def measure(options: argparse.Namespace) -> dict:
    keras.utils.set_random_seed(options.seed)
    texts, labels = read_rows(options.train)
    steps = options.epochs * math.ceil(len(texts) / options.batch_size)
    made = min(options.steps or steps, steps)
    preprocessor = keras_hub.models.BertTextClassifierPreprocessor.from_preset(
        options.model, sequence_length=options.max_length
    )
    model = build(options, classes=max(labels) + 1, steps=steps)
    train = tf.data.Dataset.from_tensor_slices((texts, labels)).shuffle(len(texts), options.seed)
    clock = Clock()
    started = time.perf_counter()
    if made == steps:
        batches = prepared(train, preprocessor, options)
        model.fit(batches, epochs=options.epochs, verbose=0, callbacks=[clock])
        seconds = time.perf_counter() - started
        test = tf.data.Dataset.from_tensor_slices(read_rows(options.test))
        found = model.evaluate(prepared(test, preprocessor, options), verbose=0, return_dict=True)
        told = {"quality": {"accuracy": found["accuracy"]}}
    else:
        batches = prepared(train, preprocessor, options).take(made)
        model.fit(batches, verbose=0, callbacks=[clock])
        # The first step builds the graph; the others tell what a step takes.
        step = (clock.ends[-1] - clock.ends[0]) / (made - 1)
        # The last one has fewer rows, and counts as much less.
        others = options.epochs * len(texts) / options.batch_size - 1
        seconds = clock.ends[0] - started + step * others
        told = {"note": f"reckoned from {made} of {steps} steps, of one shape"}
    return {
        "seconds": seconds,
        "work": {"steps": steps},
        "rows": options.epochs * len(texts),
        "steps_made": made,
        **told,
        "versions": {
            "python": sys.version.split()[0],
            "keras": keras.__version__,
            "keras-hub": keras_hub.__version__,
            "tensorflow": tf.__version__,
        },
    }


def read_rows(path: str) -> tuple[list[str], list[int]]:
    with open(path, encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    names = sorted({row["label"] for row in rows})
    return [row["text"] for row in rows], [names.index(row["label"]) for row in rows]


def build(options: argparse.Namespace, classes: int, steps: int) -> keras.Model:
    model = keras_hub.models.BertTextClassifier(
        keras_hub.models.BertBackbone.from_preset(options.model, dtype=options.precision),
        num_classes=classes,
        preprocessor=None,  # it is in the tf.data map
        dropout=0.1,
    )
    optimizer = keras.optimizers.AdamW(
        Linear(options.learning_rate, steps, options.warmup),
        weight_decay=options.weight_decay,
        global_clipnorm=options.clip_norm or None,
    )
    optimizer.exclude_from_weight_decay(var_names=["bias", "gamma", "beta"])
    model.compile(
        optimizer,
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
        # With XLA a step in bfloat16 takes longer on a CPU, and one in float32 as long.
        jit_compile=False,
    )
    return model


def prepared(
    rows: tf.data.Dataset, preprocessor: keras.layers.Layer, options: argparse.Namespace
) -> tf.data.Dataset:
    """Returns batches of what the model reads, made while it computes."""
    batches = rows.batch(options.batch_size)
    return batches.map(preprocessor, tf.data.AUTOTUNE).prefetch(tf.data.AUTOTUNE)


class Linear(keras.optimizers.schedules.LearningRateSchedule):
    """Up from 0 over the first steps, then down to 0 at the last."""

    def __init__(self, peak: float, steps: int, warmup: float):
        self.peak, self.steps = peak, steps
        self.warmup = math.ceil(steps * warmup) if warmup < 1 else int(warmup)

    def __call__(self, step):
        step = tf.cast(step, "float32")
        up = step / max(1, self.warmup)
        down = (self.steps - step) / max(1, self.steps - self.warmup)
        return self.peak * tf.maximum(0.0, tf.minimum(up, down))

    def get_config(self) -> dict:
        return {"peak": self.peak, "steps": self.steps, "warmup": self.warmup}


class Clock(keras.callbacks.Callback):
    """Notes when each step ended."""

    def __init__(self):
        super().__init__()
        self.ends = []

    def on_train_batch_end(self, batch, logs=None):
        self.ends.append(time.perf_counter())


if __name__ == "__main__":
    main()
