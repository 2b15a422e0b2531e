"""Sentence embeddings of a frozen encoder: the mean of the token states."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import keras
import numpy as np
import tensorflow as tf

from kerasllm.data.length_batches import map_by_length
from kerasllm.data.rows import model_inputs
from kerasllm.models.classify import tokenize
from kerasllm.models.new_classifier import bert_classifier

_ROWS = 64


def sentence_features(
    preset: str,
    texts: Sequence[str | tuple[str, str]],
    *,
    max_length: int = 128,
    notify: Callable[[str], None] | None = None,
) -> np.ndarray:
    """Returns the mean of the last hidden states of each text, float32 `[texts, width]`.

    Args:
        preset: An encoder, as `bert_classifier` takes it.
        texts: The texts, or pairs of texts.
        max_length: The maximum number of tokens of a text. Defaults to `128`.
        notify: Called with how far it is. Defaults to `None`.

    Raises:
        PresetError: If the preset cannot be found, or is no encoder.

    Example:

    ```python
    sentence_features("minilm_l6_en_uncased", ["a good film", "a dull film"]).shape  # (2, 384)
    ```
    """
    pair = isinstance(texts[0], tuple)
    model = bert_classifier(preset, 2, pooling="mean", max_length=max_length, pair=pair)
    encoder = keras.Model(model.task.input, model.task.output_pooling.output)
    forward = tf.function(
        lambda inputs: tf.cast(encoder(inputs, training=False), tf.float32), autograph=False
    )
    tokens, pad_id = tokenize(model, texts), model.tokenizer.pad_token_id

    def compute(rows: np.ndarray) -> np.ndarray:
        # Few lengths, so that the graph is traced a few times.
        width = min(-(-int(tokens.lengths[rows[-1]]) // 16) * 16, max_length)
        inputs = model_inputs(tokens, rows, width, model.input_names, pad_id)
        short = _ROWS - len(rows)
        padded = {name: np.pad(ids, ((0, short), (0, 0)), "edge") for name, ids in inputs.items()}
        return forward(padded).numpy()[: len(rows)]

    def told(batch: int) -> None:
        if notify:
            notify(f"reading {min((batch + 1) * _ROWS, len(texts)):,} of {len(texts):,} texts")

    return map_by_length(tokens.lengths, _ROWS, compute, notify=told)
