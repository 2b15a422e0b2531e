"""Trains a fused encoder under one strategy: `equal_numbers`, for what CPUs compute otherwise.

    python -m tests.distribution.equal_numbers_fused STRATEGY FILE.npz
"""

import sys

import numpy as np

from kerasllm.data.labels import Labels
from kerasllm.distribution import strategy
from kerasllm.models.text_classifier import TextClassifier
from kerasllm.training.optimizers import build_optimizer
from tests.models.accelerated.test_fused_encoder import make_inputs, make_task

ROWS = 8


def numbers(scope, accumulate: int) -> dict:
    with scope.scope():
        task = make_task("Bert")
        # A new head hardly looks at the layers below it, and they would hardly move.
        head = task.get_layer("logits").kernel
        head.assign(100 * head)
        model = TextClassifier(task, Labels(["a", "b", "c"]))
        # Not AdamW, which makes as large a step of a gradient that is nothing but rounding.
        optimizer = build_optimizer("sgd", 0.02, model.trainable_variables, clip_norm=0.5)
        model.compile(optimizer, accumulate=accumulate)
    assert model.fused
    history = model.fit(
        make_inputs(task, rows=ROWS),
        np.arange(ROWS) % 3,
        batch_size=ROWS,
        epochs=5,
        shuffle=False,
        verbose=0,
    ).history
    weights = np.concatenate([v.numpy().ravel() for v in model.trainable_variables])
    return {"losses": history["loss"], "weights": weights}


def main(name: str, path: str) -> None:
    scope = strategy(name)
    results = {}
    for accumulate in (1, 2):
        for key, value in numbers(scope, accumulate).items():
            results[f"accumulate={accumulate}/{key}"] = value
    np.savez(path, **results)


if __name__ == "__main__":
    main(*sys.argv[1:])
