"""Trains and scores decoders under one strategy, in every way that must not change the numbers.

    python -m tests.distribution.equal_numbers_causal_lm STRATEGY FILE.npz

Run by test_equal_numbers.py, in a process of its own for each strategy (or worker).
"""

import sys

import numpy as np

from kerasllm.data.batch_plan import EpochPlans
from kerasllm.data.sequences import packed_rows, whole_rows
from kerasllm.distribution import strategy
from kerasllm.models.adapters import add_adapter
from kerasllm.models.likelihood import score
from kerasllm.training.batches import training_batches
from kerasllm.training.optimizers import build_optimizer
from tests.training.tiny import Steps
from tests.training.tiny_decoder import gpt2, llama, random_store

LENGTH, EPOCHS = 24, 2

# What is computed, and how: in pieces of 7 tokens, again in the backward pass, in micro-batches.
CASES = {
    "gpt2, packed": {},
    "gpt2, packed, xla": {"xla": True},
    "gpt2, packed, in parts": {"accumulate": 2, "loss_tokens": 7},
    "gpt2, packed, again": {"rematerialize": True, "xla": True, "loss_tokens": 7},
    "llama with lora": {},
    "llama with lora, in parts": {"accumulate": 2, "loss_tokens": 7, "rematerialize": True},
}


def numbers(scope, case: str, xla=False, accumulate=1, **options) -> dict:
    """Returns everything that must be the same however it is computed."""
    store = random_store(40, 4, 12)
    packs = packed_rows(store, LENGTH)
    with scope.scope():
        if case.startswith("gpt2"):
            model = gpt2(layers=1, **options)
        else:
            model = llama(layers=1, **options)
            model.adapters = add_adapter(model.backbone, rank=4, targets=["all-linear"])
        model.packs = True
        optimizer = build_optimizer(
            "adamw", 1e-2, model.trainable_variables, weight_decay=0.01, clip_norm=0.5
        )
        # What is fused on CPUs is compared in equal_numbers_fused.
        model.compile(optimizer, xla=xla, accumulate=accumulate, fused=False)
    # The last batch is short, and two replicas cannot share 5 rows equally.
    plans = EpochPlans(packs.lengths, 5, 1, seed=0, pad_to=LENGTH)
    steps = Steps()
    history = model.fit(
        training_batches(model, packs, plans, EPOCHS),
        epochs=EPOCHS,
        steps_per_epoch=plans.steps,
        verbose=0,
        callbacks=[steps],
    ).history
    return {
        "losses": steps.all("step_loss"),
        "history": [history["loss"], history["accuracy"]],
        "weights": np.concatenate([v.numpy().ravel() for v in model.trainable_variables]),
        "packed scores": score(model, packs),
        "scores": score(model, whole_rows(store)),
    }


def main(name: str, path: str) -> None:
    scope = strategy(name)
    results = {}
    for case, options in CASES.items():
        # What one device computes alike in all ways, a strategy need not compute in each.
        if name != "one_device" and not options.get("loss_tokens"):
            continue
        for key, value in numbers(scope, case, **options).items():
            results[f"{case}/{case.split(',')[0]} {key}"] = value
    np.savez(path, **results)


if __name__ == "__main__":
    main(*sys.argv[1:])
