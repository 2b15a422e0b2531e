"""A tiny classifier and data that it can learn, for the tests of the training."""

import keras
import keras_hub
import numpy as np
import tensorflow as tf

from kerasllm.training.fit import FineTunedModel

LENGTH = 8
CLASSES = 3


def tiny_model(dropout: float = 0.0, precision: str = "float32") -> FineTunedModel:
    """Returns a 2-layer BERT classifier of 3 classes, the same weights each time."""
    keras.utils.set_random_seed(0)
    backbone = keras_hub.models.BertBackbone(
        vocabulary_size=50,
        num_layers=2,
        num_heads=2,
        hidden_dim=16,
        intermediate_dim=32,
        max_sequence_length=LENGTH,
        dropout=dropout,
        dtype=precision,
    )
    task = keras_hub.models.BertTextClassifier(backbone, num_classes=CLASSES, dropout=dropout)
    return FineTunedModel(task)


def small_model(dropout: float = 0.0, precision: str = "float32") -> FineTunedModel:
    """Returns a bag of words with two layers above: traced and compiled in a fraction of the time.

    It has what a step can trip over: sparse gradients, a mask, a norm, random layers.
    """
    keras.utils.set_random_seed(0)
    keras.config.set_dtype_policy(precision)
    names = ("token_ids", "padding_mask", "segment_ids")
    inputs = {name: keras.Input((None,), dtype="int32", name=name) for name in names}
    words = keras.layers.Embedding(50, 16)(inputs["token_ids"])
    kinds = keras.layers.Embedding(2, 16)(inputs["segment_ids"])
    x = keras.layers.Dropout(dropout, seed=1)(keras.layers.Dense(16, "gelu")(words + kinds))
    x = keras.layers.GlobalAveragePooling1D()(x, mask=inputs["padding_mask"])
    x = keras.layers.Dropout(dropout, seed=2)(keras.layers.LayerNormalization()(x))
    task = keras.Model(inputs, keras.layers.Dense(CLASSES)(x))
    keras.config.set_dtype_policy("float32")
    return FineTunedModel(task)


def tiny_batches(rows: int = 24, batch_size: int = 8) -> tf.data.Dataset:
    """Returns batches whose label is told by the second token, with weights."""
    random = np.random.default_rng(0)
    tokens = random.integers(1, 50, (rows, LENGTH)).astype("int32")
    labels = (tokens[:, 1] % CLASSES).astype("int32")
    inputs = {
        "token_ids": tokens,
        "padding_mask": np.ones_like(tokens),
        "segment_ids": np.zeros_like(tokens),
    }
    weights = random.uniform(0.5, 1.5, rows).astype("float32")
    return tf.data.Dataset.from_tensor_slices((inputs, labels, weights)).batch(batch_size)


def weights_of(model: keras.Model) -> list[np.ndarray]:
    """Returns a copy of the trainable weights."""
    return [variable.numpy().copy() for variable in model.trainable_variables]


class Steps(keras.callbacks.Callback):
    """Keeps the logs of each step."""

    def __init__(self):
        super().__init__()
        self._executions = []

    def on_train_batch_end(self, batch, logs=None):
        self._executions.append(self.model.last_execution)

    def all(self, name: str) -> np.ndarray:
        """Returns a value of every step, such as `step_loss`."""
        return np.concatenate([execution[name] for execution in self._executions])
