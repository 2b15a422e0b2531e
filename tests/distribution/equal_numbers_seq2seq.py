"""Trains and scores encoder-decoders under one strategy, in ways that must not change the numbers.

    python -m tests.distribution.equal_numbers_seq2seq STRATEGY FILE.npz

Run by test_equal_numbers.py, in a process of its own for each strategy.
"""

import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import keras
import numpy as np

from kerasllm.data.batch_plan import EpochPlans
from kerasllm.data.readers.seq2seq_source import open_source
from kerasllm.data.seq2seq_rows import Seq2SeqRows, open_rows
from kerasllm.distribution import strategy
from kerasllm.models.encoder_decoder import EncoderDecoder, open_encoder_decoder
from kerasllm.models.seq2seq_likelihood import score
from kerasllm.models.seq2seq_lm import Seq2SeqLM
from kerasllm.training.batches import training_batches
from kerasllm.training.losses import SmoothedSparseCategoricalCrossentropy
from kerasllm.training.optimizers import build_optimizer
from tests.toy import write_csv
from tests.training.tiny import Steps

REFERENCE = Path(__file__).parents[1] / "reference" / "encoder_decoders"
EPOCHS = 2
# What is computed, and how: in micro-batches, with the logits of 7 tokens at a time.
CASES = {
    "bart": {},
    "bart, in parts": {"accumulate": 2, "loss_tokens": 7},
}


def bart() -> EncoderDecoder:
    """Returns a BART of one layer each, the same weights each time."""
    keras.utils.set_random_seed(0)
    model = open_encoder_decoder(REFERENCE / "bart")
    arguments = model.backbone.get_config() | {"num_layers": 1}
    return replace(model, backbone=type(model.backbone).from_config(arguments))


def numbers(scope, store, accumulate=1, loss_tokens=None) -> dict:
    """Returns everything that must be the same however it is computed."""
    with scope.scope():
        model = Seq2SeqLM(bart(), loss_tokens=loss_tokens)
        # The bias of keys has no gradient but for rounding, which AdamW would make steps of.
        optimizer = build_optimizer(
            "sgd", 0.1, model.trainable_variables, weight_decay=0.01, clip_norm=0.5
        )
        loss = SmoothedSparseCategoricalCrossentropy(0.1)
        model.compile(optimizer, loss, xla=False, accumulate=accumulate)
    rows = Seq2SeqRows.of(store(model), model.text_side)
    # Replicas get targets of different lengths, and cannot share 5 rows equally.
    plans = EpochPlans(rows.lengths, 5, 1, seed=0)
    steps = Steps()
    history = model.fit(
        training_batches(model, rows, plans, EPOCHS),
        epochs=EPOCHS,
        steps_per_epoch=plans.steps,
        verbose=0,
        callbacks=[steps],
    ).history
    return {
        "losses": steps.all("step_loss"),
        "history": [history["loss"], history["accuracy"]],
        "weights": np.concatenate([v.numpy().ravel() for v in model.trainable_variables]),
        "scores": score(model, rows),
    }


def main(name: str, path: str) -> None:
    scope = strategy(name)
    random = np.random.default_rng(0)
    words = "a dog runs in the park and two men talk".split()

    def text(most: int) -> str:
        return " ".join(random.choice(words, random.integers(1, most)))

    with tempfile.TemporaryDirectory() as folder:
        pairs = [(text(6), text(9)) for _ in range(12)]
        file = write_csv(Path(folder) / "pairs.csv", pairs, ("source", "target"))

        def store(model):
            return open_rows(
                open_source(str(file), "train"),
                model.text_side,
                max_length=24,
                max_target_length=24,
                folder=Path(folder),
            )

        results = {}
        for case, options in CASES.items():
            # What one device computes alike in all ways, a strategy need not compute in each.
            if name != "one_device" and not options:
                continue
            for key, value in numbers(scope, store, **options).items():
                results[f"{case}/{case.split(',')[0]} {key}"] = value
    np.savez(path, **results)


if __name__ == "__main__":
    main(*sys.argv[1:])
