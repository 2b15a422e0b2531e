"""An encoder with a head that is called many times, with few rows each time."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from kerasllm.data.length_batches import map_by_length
from kerasllm.data.rows import TokensInMemory, model_inputs
from kerasllm.models.text_classifier import TextClassifier

# Lengths are rounded up to a multiple of this, so that kernels see few of them.
_LENGTH_STEP = 8
# Texts of like length that are computed in one call: more of them would be padded more.
_ROWS = 16


class ServedEncoder:
    """Computes the outputs of texts without what `predict` costs.

    The forward pass is traced once, for any number and length of texts.

    Args:
        model: A model with an encoder.

    Attributes:
        tokens: How many tokens were computed so far, padding and `warm_up` left out.
    """

    def __init__(self, model: TextClassifier):
        self._model = model
        self.tokens = 0
        names = model.input_names
        signature = {name: tf.TensorSpec([None, None], tf.int32, name=name) for name in names}

        def forward(inputs):
            return model(inputs, training=False)

        self._forward = tf.function(forward, input_signature=[signature], autograph=False)

    def warm_up(self) -> None:
        """Computes rows of each width, so that no request waits for what is done once."""
        longest = self._model.max_length
        steps = range(_LENGTH_STEP, longest + _LENGTH_STEP, _LENGTH_STEP)
        for rows in (1, _ROWS):
            for width in sorted({self._width(length) for length in steps}):
                ids = TokensInMemory(np.zeros(width, np.int32), np.array([0, width]))
                self._call(ids, np.zeros(rows, np.int64), width)

    def logits(self, tokens: TokensInMemory) -> np.ndarray:
        """Returns the outputs of some rows, float32 `[rows, outputs]`, in their order."""
        def compute(rows: np.ndarray) -> np.ndarray:
            return self._call(tokens, rows, self._width(int(tokens.lengths[rows[-1]])))

        self.tokens += int(tokens.lengths.sum())
        return map_by_length(tokens.lengths, _ROWS, compute)

    def _call(self, tokens: TokensInMemory, rows: np.ndarray, width: int) -> np.ndarray:
        pad_id, names = self._model.tokenizer.pad_token_id, self._model.input_names
        inputs = model_inputs(tokens, rows, width, names, pad_id)
        return self._forward({name: tf.constant(inputs[name]) for name in names}).numpy()

    def _width(self, length: int) -> int:
        rounded = -(-length // _LENGTH_STEP) * _LENGTH_STEP
        return self._model.pad_to or min(rounded, self._model.max_length)
