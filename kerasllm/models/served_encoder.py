"""An encoder with a head that is called many times, with few rows each time."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from kerasllm.data.length_batches import map_by_length
from kerasllm.data.rows import TokensInMemory, model_inputs
from kerasllm.data.sizes import size_holding
from kerasllm.models.accelerated.packed_encoder import PackedEncoder
from kerasllm.models.text_classifier import TextClassifier

# Kernels are made for each shape, and kept: lengths and tokens are multiples of this, and of an
# eighth to a quarter of themselves.
_STEP = 8
# Texts of similar length that are computed in one call: more of them would be padded more.
_ROWS = 16


class ServedEncoder:
    """Computes the outputs of texts without what `predict` costs.

    The forward pass is traced once, for any number and length of texts. It computes the tokens
    without their padding where `predict` does.

    Args:
        model: A model with an encoder.

    Attributes:
        tokens: How many tokens were computed so far, padding and `warm_up` left out.
    """

    def __init__(self, model: TextClassifier):
        self._model = model
        self.tokens = 0
        names = model.input_names
        inputs = {name: tf.TensorSpec([None, None], tf.int32, name=name) for name in names}
        lengths, most = tf.TensorSpec([None], tf.int32), tf.TensorSpec([], tf.int32)
        self._packs = model.packed is not None and model.pad_to is None
        compute = PackedEncoder(model.task) if self._packs else self._padded_logits
        self._forward = tf.function(
            compute, input_signature=[inputs, lengths, most], autograph=False
        )

    def warm_up(self) -> None:
        """Computes rows of each width, so that no request waits for what is done once."""
        widths = {self._width(length) for length in range(1, self._model.max_length + 1)}
        for rows in (1, _ROWS):
            for width in sorted(widths):
                ids = TokensInMemory(np.zeros(width, np.int32), np.array([0, width]))
                self._call(ids, np.zeros(rows, np.int64))

    def logits(self, tokens: TokensInMemory) -> np.ndarray:
        """Returns the outputs of some rows, float32 `[rows, outputs]`, in their order."""
        self.tokens += int(tokens.lengths.sum())
        return map_by_length(tokens.lengths, _ROWS, lambda rows: self._call(tokens, rows))

    def _call(self, tokens: TokensInMemory, rows: np.ndarray) -> np.ndarray:
        """Returns the outputs of rows, the longest last."""
        pad_id, names = self._model.tokenizer.pad_token_id, self._model.input_names
        lengths = tokens.lengths[rows].astype(np.int32)
        inputs = model_inputs(tokens, rows, self._width(int(lengths[-1])), names, pad_id)
        # Rows of padding cost a token each, where only tokens are computed.
        more = size_holding(len(rows), steps=1 if self._packs else 2) - len(rows)
        inputs = {name: _repeated(inputs[name], more) for name in names}
        lengths = np.append(lengths, np.ones(more, np.int32))
        most_tokens = size_holding(int(lengths.sum()), _STEP, steps=4)
        found = self._forward(inputs, tf.constant(lengths), tf.constant(most_tokens))
        return found.numpy()[: len(rows)]

    def _padded_logits(self, inputs, lengths, most_tokens):
        return self._model(inputs, training=False)

    def _width(self, length: int) -> int:
        longest = self._model.max_length
        return self._model.pad_to or min(size_holding(length, _STEP, steps=4), longest)


def _repeated(rows: np.ndarray, more: int) -> np.ndarray:
    """Returns rows, and the first of them again."""
    return np.concatenate([rows, np.repeat(rows[:1], more, axis=0)])
