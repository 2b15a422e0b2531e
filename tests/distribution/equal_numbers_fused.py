"""Trains a fused encoder and a decoder under one strategy: `equal_numbers`, on CPUs.

Usage:

    python -m tests.distribution.equal_numbers_fused STRATEGY FILE.npz
"""

import sys
from types import SimpleNamespace

import keras_hub
import numpy as np
import tensorflow as tf

from kerasllm.data.labels import Labels
from kerasllm.distribution import strategy
from kerasllm.models.causal_lm import CausalLM
from kerasllm.models.text_classifier import TextClassifier
from kerasllm.training.optimizers import build_optimizer
from tests.models.accelerated.test_fused_decoder import make_backbone
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


def decoder_numbers(scope, accumulate: int) -> dict:
    with scope.scope():
        task = keras_hub.models.GPT2CausalLM(backbone=make_backbone("GPT2"), preprocessor=None)
        model = CausalLM(task, SimpleNamespace(vocabulary_size=30), loss_tokens=20)
        model.packs = True
        optimizer = build_optimizer("sgd", 0.02, model.trainable_variables, clip_norm=0.5)
        model.compile(optimizer, accumulate=accumulate)
    assert model.fused
    ids = np.random.default_rng(0).integers(0, 30, (ROWS, 10)).astype("int32")
    x = {"token_ids": ids[:, :-1], "segment_ids": np.array([[1] * 4 + [2] * 5] * ROWS, "int32")}
    batch = (x, ids[:, 1:], np.ones((ROWS, 9), "float32"))
    data = scope.experimental_distribute_dataset(tf.data.Dataset.from_tensors(batch).repeat(5))
    history = model.fit(data, epochs=1, steps_per_epoch=5, verbose=0).history
    weights = np.concatenate([v.numpy().ravel() for v in model.trainable_variables])
    return {"decoder losses": history["loss"], "decoder weights": weights}


def main(name: str, path: str) -> None:
    scope = strategy(name)
    results = {}
    for accumulate in (1, 2):
        found = numbers(scope, accumulate) | decoder_numbers(scope, accumulate)
        for key, value in found.items():
            results[f"accumulate={accumulate}/{key}"] = value
    np.savez(path, **results)


if __name__ == "__main__":
    main(*sys.argv[1:])
