"""Masked words inside a TensorFlow graph: texts in, the most probable words and the texts out.

It computes what `kerasllm.models.fill_texts` does, of texts in overlapping windows.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import tensorflow as tf

from kerasllm.export.graph_windows import GraphTexts


def words_in_graph(
    mask_token: str, words: Sequence[str], special: np.ndarray, n_best: int
) -> Callable[[GraphTexts], dict[str, tf.Tensor]]:
    """Returns a function that predicts the masked words of texts in a graph; see `Head.of_texts`.

    Args:
        mask_token: How a masked word is written.
        words: What each token of the vocabulary stands for.
        special: bool `[tokens]`, which tokens are no words.
        n_best: How many words there are for each place.

    Returns:
        A function to `filled`, string `[texts]`; and `words`, string, and `probabilities`, float32,
        each `[texts, places, n_best]`, empty and 0 where a text has fewer places.
    """
    never = np.where(special, -1.0, 0.0).astype(np.float32)

    def fill(given: GraphTexts) -> dict[str, tf.Tensor]:
        rows = tf.cast(given.starts.value_rowids(), tf.int64)
        starts = tf.cast(given.starts.values, tf.int32)
        sizes = tf.cast(given.ends.values, tf.int32) - starts
        texts = tf.gather(given.texts, rows)
        written = tf.strings.substr(texts, starts, sizes, unit="UTF8_CHAR")
        hidden = tf.where(tf.equal(written, mask_token))[:, 0]
        logits = tf.gather(given.logits.values, hidden)
        chances, numbers = tf.math.top_k(tf.nn.softmax(logits)[:, : len(words)] + never, n_best)
        found = tf.gather(tf.constant(list(words)), numbers)
        count = tf.size(given.texts, tf.int64)
        of_text = tf.gather(rows, hidden)
        filled = _filled(given.texts, mask_token, found[:, 0], of_text, count)

        def dense(values, empty):
            ragged = tf.RaggedTensor.from_value_rowids(values, of_text, nrows=count)
            return ragged.to_tensor(empty, shape=[None, None, n_best])

        return {
            "filled": filled,
            "words": dense(found, ""),
            "probabilities": dense(chances, 0.0),
        }

    return fill


def _filled(texts, mask_token, best, of_text, count) -> tf.Tensor:
    """Returns the texts with the most probable word in each place."""
    parts = tf.strings.split(texts, mask_token)
    words = tf.RaggedTensor.from_value_rowids(best, of_text, nrows=count)
    # A text has a part more than it has places; the last is followed by nothing.
    lengths = tf.cast(parts.row_lengths(), tf.int64)
    ends = words.row_starts() + tf.cast(words.row_lengths(), tf.int64)
    place = tf.range(tf.size(parts.values, tf.int64)) - tf.gather(
        tf.cumsum(lengths, exclusive=True), tf.cast(parts.value_rowids(), tf.int64)
    )
    at = tf.gather(words.row_starts(), tf.cast(parts.value_rowids(), tf.int64)) + place
    there = at < tf.gather(ends, tf.cast(parts.value_rowids(), tf.int64))
    after = tf.gather(tf.concat([best, [""]], 0), tf.where(there, at, tf.size(best, tf.int64)))
    joined = tf.strings.join([parts.values, after])
    return tf.strings.reduce_join(parts.with_values(joined), axis=-1)
