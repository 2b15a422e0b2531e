"""Prints, as JSON, what a training in Python ends with: on one device, or mirrored on two."""

import json
import sys
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

import kerasllm
from kerasllm.data.dataset import Dataset
from kerasllm.models.text_classifier import TextClassifier
from kerasllm.training.fit import FineTunedModel
from tests.toy import save_toy_preset, toy_rows


def main(name: str, folder: Path) -> None:
    rows = toy_rows(60, seed=5)
    texts, labels = [text for text, _ in rows], [label for _, label in rows]
    with kerasllm.distribution.strategy(name).scope():
        keras.utils.set_random_seed(0)
        model = TextClassifier.from_preset(
            save_toy_preset(folder / "toy"),
            labels=["negative", "positive"],
            dropout=0.0,
            precision="float32",
            max_length=64,
        )
        metrics = ["accuracy", keras.metrics.AUC(name="auc")]
        model.compile(keras.optimizers.Adam(5e-3), metrics=metrics)
        inputs = keras.Input((6,))
        x = keras.layers.Dense(8, activation="relu")(inputs)
        wrapped = FineTunedModel(
            keras.Model(inputs, {"a": keras.layers.Dense(3)(x), "b": keras.layers.Dense(1)(x)})
        )
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        wrapped.compile(
            keras.optimizers.Adam(1e-2), loss={"a": loss, "b": "mse"}, metrics={"a": ["accuracy"]}
        )
    history = model.fit(
        Dataset.from_lists(texts, labels),
        epochs=4,
        batch_size=16,
        seed=0,
        verbose=0,
        validation_data=(texts[:21], labels[:21]),
    ).history
    batches = tf.data.Dataset.from_tensor_slices(
        (dict(model.preprocessor(texts[:32])), [0, 1] * 16)
    ).batch(16)
    more = model.fit(batches, epochs=2, verbose=0).history
    random = np.random.default_rng(0)
    x, a, b = random.normal(size=(40, 6)), random.integers(0, 3, 40), random.normal(size=40)
    own = wrapped.fit(x, {"a": a, "b": b}, batch_size=8, epochs=2, shuffle=False, verbose=0).history
    found = {
        "history": history | {f"more_{name}": value for name, value in more.items()},
        "own": own,
        "logits": model.predict(texts[:7], verbose=0).tolist(),
        "both": {name: each.tolist() for name, each in wrapped.predict(x, verbose=0).items()},
        "one": model.train_on_batch(texts[:8], labels[:8]),
    }
    print(json.dumps(found))


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
