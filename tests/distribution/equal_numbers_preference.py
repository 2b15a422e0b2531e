"""Tunes a decoder by preferences under one strategy, in ways that must not change the numbers.

    python -m tests.distribution.equal_numbers_preference STRATEGY FILE.npz

Run by test_equal_numbers_preference.py, in a process of its own for each strategy.
"""

import sys

import numpy as np

from kerasllm.data.batch_plan import EpochPlans
from kerasllm.distribution import strategy
from kerasllm.models.likelihood import log_probabilities
from kerasllm.models.preference_lm import PreferenceLM
from kerasllm.training.batches import training_batches
from kerasllm.training.optimizers import build_optimizer
from kerasllm.training.preference_loss import REWARDS, PreferenceLoss
from tests.training.tiny import Steps
from tests.training.tiny_decoder import gpt2, random_pairs

EPOCHS = 3

CASES = {
    "gpt2": {},
    "gpt2, in parts": {"accumulate": 2, "loss_tokens": 7, "rematerialize": True},
}


def numbers(scope, accumulate=1, **options) -> dict:
    """Returns everything that must be the same however it is computed."""
    pairs = random_pairs(14, 6, 15)
    with scope.scope():
        model = PreferenceLM(gpt2(layers=1, **options))
        pairs.reference = log_probabilities(model, pairs, buckets=1)
        # Where the gradients of both answers cancel, rounding is left, which Adam would scale up.
        optimizer = build_optimizer("sgd", 0.1, model.trainable_variables, clip_norm=0.5)
        model.compile(optimizer, PreferenceLoss(beta=0.5), accumulate=accumulate)
    # The last batch is short, and two replicas cannot share 5 pairs equally.
    plans = EpochPlans(pairs.lengths, 5, 1, seed=0)
    steps = Steps()
    history = model.fit(
        training_batches(model, pairs, plans, EPOCHS),
        epochs=EPOCHS,
        steps_per_epoch=plans.steps,
        verbose=0,
        callbacks=[steps],
    ).history
    # Rounding decides which answer of a pair has gained more while neither has.
    history["accuracy"][0] = 0.5
    return {
        "losses": steps.all("step_loss"),
        "history": [history[name] for name in ("loss", *REWARDS)],
        "weights": np.concatenate([v.numpy().ravel() for v in model.trainable_variables]),
        "reference scores": pairs.reference,
        "scores": log_probabilities(model, pairs, buckets=1),
    }


def main(name: str, path: str) -> None:
    scope = strategy(name)
    results = {}
    # Replicas cut all there is to cut at once: the numbers of one device tell what is plain.
    cases = CASES if scope.num_replicas_in_sync == 1 else ["gpt2, in parts"]
    for case in cases:
        for key, value in numbers(scope, **CASES[case]).items():
            results[f"{case}/{case.split(',')[0]} {key}"] = value
    np.savez(path, **results)


if __name__ == "__main__":
    main(*sys.argv[1:])
