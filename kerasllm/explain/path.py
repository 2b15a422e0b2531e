"""The output of a text on the path between a baseline and its words."""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf

from kerasllm.data.token_offsets import SPECIAL
from kerasllm.explain.embedded_model import EmbeddedModel
from kerasllm.models.explained.output import ExplainedOutput, graph_inputs

# Tokens that are computed together: more take more memory, and on CPUs no less time.
_TOKENS_AT_ONCE = 2048


class Path:
    """The straight line from the baseline of a text to the text, in the space of token vectors.

    In the baseline every token of a text is replaced by one token, that of padding or of a mask;
    special tokens stay.

    Args:
        model: Computes the output of vectors.
        output: What is explained.
        baseline_id: The token that replaces others.
        words: The word of each token, int `[tokens]`, -1 of one that is of no word.

    Attributes:
        count: How many words there are.
        text: The vectors of the text, `[tokens, width]`.
        baseline: Those of the baseline.
        value: The output of the text.
        baseline_value: That of the baseline.
    """

    def __init__(
        self, model: EmbeddedModel, output: ExplainedOutput, baseline_id: int, words: np.ndarray
    ):
        self._model, self._output = model, output
        tokens = output.tokens
        replaced = tokens.owners != SPECIAL
        baseline = np.where(replaced, np.int32(baseline_id), tokens.ids)
        vectors = model.vectors(np.stack([tokens.ids, baseline]))
        self.text, self.baseline = vectors[0], vectors[1]
        self._words = words
        ends = self.values(tf.stack([self.text, self.baseline]))
        self.value, self.baseline_value = ends.tolist()
        self.count = int(words.max()) + 1

    @property
    def moved(self) -> float:
        """How far the output of the text is from that of the baseline."""
        return self.value - self.baseline_value

    def values(self, vectors: tf.Tensor) -> np.ndarray:
        """Returns the output of some rows of vectors, float64 `[rows]`."""
        found = [self._value(some).numpy() for some in self._batches(vectors)]
        return np.concatenate(found).astype(np.float64)

    def derivatives(self, shares: np.ndarray) -> np.ndarray:
        """Returns how fast the output rises at points of the line, by token.

        Args:
            shares: Where the points are, from 0, the baseline, to 1, the text.

        Returns:
            float64 `[points, tokens]`: the gradient with respect to the vector of each token, times
            the way that this vector goes.
        """
        difference = self.text - self.baseline
        found = []
        for start in range(0, len(shares), self._rows_at_once):
            part = shares[start : start + self._rows_at_once].astype(np.float32)
            vectors = self.baseline + part[:, None, None] * difference
            with tf.GradientTape(watch_accessed_variables=False) as tape:
                tape.watch(vectors)
                values = self._value(vectors)
            found.append(tape.gradient(values, vectors).numpy())
        way = difference.numpy().astype(np.float64)
        return np.einsum("ntw,tw->nt", np.concatenate(found), way)

    def with_words(self, kept: np.ndarray) -> np.ndarray:
        """Returns the output where some words are kept and the others taken away.

        Args:
            kept: bool `[rows, words]`.

        Returns:
            float64 `[rows]`. Tokens of no word are kept in every row.
        """
        of_token = np.append(kept, np.ones((len(kept), 1), bool), axis=1)[:, self._words]
        found = []
        for start in range(0, len(kept), self._rows_at_once):
            part = of_token[start : start + self._rows_at_once, :, None]
            found.append(self.values(tf.where(part, self.text, self.baseline)))
        return np.concatenate(found)

    @property
    def _rows_at_once(self) -> int:
        return max(_TOKENS_AT_ONCE // len(self._words), 1)

    def _batches(self, vectors: tf.Tensor):
        for start in range(0, len(vectors), self._rows_at_once):
            yield vectors[start : start + self._rows_at_once]

    def _value(self, vectors: tf.Tensor) -> Any:
        inputs = graph_inputs(self._output.graph, self._output.tokens, len(vectors))
        return tf.cast(self._output.value(self._model(vectors, inputs)), tf.float32)
