"""A classifier that is called many times, with few texts each time."""

from __future__ import annotations

import time

import numpy as np
import tensorflow as tf

from kerasllm.data.length_batches import map_by_length
from kerasllm.data.rows import TokensInMemory, model_inputs
from kerasllm.models.classify import probabilities
from kerasllm.models.text_classifier import TextClassifier
from kerasllm.serving.metrics import Metrics

# Lengths are rounded up to a multiple of this, so that kernels see few of them.
_LENGTH_STEP = 8
# Texts of similar length that are computed in one call: more of them would be padded more.
_ROWS = 16


class ServedClassifier:
    """Classifies texts as `tasks.classify.classify` does, without what `predict` costs.

    The forward pass is traced once, for any number and length of texts.

    Args:
        model: A classifier.
        metrics: What is computed is counted there.

    Attributes:
        metrics: As given.
        labels: The names of the classes.
        max_length: The most tokens of a text; a longer one loses its end, as in training.
    """

    def __init__(self, model: TextClassifier, metrics: Metrics):
        self._model = model
        self.metrics = metrics
        self.labels = list(model.labels.names)
        self.max_length = model.max_length
        names = model.input_names
        signature = {name: tf.TensorSpec([None, None], tf.int32, name=name) for name in names}

        def forward(inputs):
            return model(inputs, training=False)

        self._forward = tf.function(forward, input_signature=[signature], autograph=False)

    def warm_up(self) -> None:
        """Computes rows of each width, so that no request waits for what is done once."""
        steps = range(_LENGTH_STEP, self.max_length + _LENGTH_STEP, _LENGTH_STEP)
        for rows in (1, _ROWS):
            for width in sorted({self._width(length) for length in steps}):
                ids = TokensInMemory(np.zeros(width, np.int32), np.array([0, width]))
                self._call(ids, np.zeros(rows, np.int64), width)

    def classify(self, texts: list[str]) -> list[tuple[str, list[float]]]:
        """Returns for each text its label and the probability of each class.

        Args:
            texts: The texts.
        """
        started = time.perf_counter()
        tokens = TokensInMemory(*self._model.tokenizer.encode(texts, self.max_length))

        def compute(rows: np.ndarray) -> np.ndarray:
            return self._call(tokens, rows, self._width(int(tokens.lengths[rows[-1]])))

        logits = map_by_length(tokens.lengths, _ROWS, compute)
        chances = probabilities(logits.reshape(len(texts), len(self.labels)))
        self.metrics.compute_seconds.observe(time.perf_counter() - started)
        self.metrics.batch_rows.observe(len(texts))
        self.metrics.tokens.labels("prompt").inc(int(tokens.lengths.sum()))
        best = chances.argmax(axis=-1)
        return [(self.labels[i], row.tolist()) for i, row in zip(best, chances, strict=True)]

    def _call(self, tokens: TokensInMemory, rows: np.ndarray, width: int) -> np.ndarray:
        pad_id, names = self._model.tokenizer.pad_token_id, self._model.input_names
        inputs = model_inputs(tokens, rows, width, names, pad_id)
        logits = self._forward({name: tf.constant(inputs[name]) for name in names})
        return np.asarray(logits, np.float32)

    def _width(self, length: int) -> int:
        rounded = -(-length // _LENGTH_STEP) * _LENGTH_STEP
        return self._model.pad_to or min(rounded, self.max_length)
