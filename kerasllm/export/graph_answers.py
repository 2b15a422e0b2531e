"""Answers inside a TensorFlow graph: questions and contexts in, spans out.

It computes what `kerasllm.evaluation.answer_decoding` does, by the same rules.
"""

from __future__ import annotations

from collections.abc import Callable

import tensorflow as tf

from kerasllm.export.graph_windows import GraphPairs

_NEVER = -1e30


def answers_in_graph(
    max_answer_length: int, threshold: float | None
) -> Callable[[GraphPairs], dict[str, tf.Tensor]]:
    """Returns what makes answers of questions in a graph; see `Head.of_texts`.

    Args:
        max_answer_length: The maximum number of tokens of an answer.
        threshold: From which no-answer score on there is no answer; `None`: there is always one,
            where the context has a token.

    Returns:
        A function to `answer`, string `[pairs]`, `start` and `end`, int32, in characters, -1 of no
        answer, `score`, float32, and, with a threshold, `no_answer`.
    """

    def decode(given: GraphPairs) -> dict[str, tf.Tensor]:
        windows, pairs = given.windows, tf.size(given.first)
        null, best, first, last = _best_spans(given, max_answer_length)
        least = tf.math.unsorted_segment_min(null, windows.rows, pairs)
        most = tf.math.unsorted_segment_max(best, windows.rows, pairs)
        # Of windows with the same span, or as good ones, the first.
        number = tf.range(tf.size(best))
        is_best = tf.equal(best, tf.gather(most, windows.rows))
        chosen = tf.math.unsorted_segment_min(
            tf.where(is_best, number, tf.int32.max), windows.rows, pairs
        )
        there = most > _NEVER / 2
        no_answer = least - tf.where(there, most, 0.0)
        answered = there if threshold is None else there & (no_answer <= threshold)
        start, end = (
            _character(each, tf.gather(token, chosen) + tf.gather(windows.starts, chosen), answered)
            for each, token in ((given.starts, first), (given.ends, last))
        )
        length = tf.where(answered, end - start, 0)
        text = tf.strings.substr(
            given.second, tf.where(answered, start, 0), length, unit="UTF8_CHAR"
        )
        outputs = {
            "answer": text,
            "start": start,
            "end": end,
            "score": tf.exp(tf.where(answered, most, least)),
        }
        return outputs if threshold is None else {**outputs, "no_answer": no_answer}

    return decode


def _best_spans(given: GraphPairs, longest: int) -> tuple[tf.Tensor, ...]:
    """Returns what there is of each window: the logarithms of the probabilities of no answer and
    of the best span, `_NEVER` where there is none, and its first and its last token, int64."""
    counts = given.of_second.row_lengths()
    of_second = given.of_second.to_tensor(shape=[None, None, 2])
    # A place at least, for there is nothing to choose from otherwise.
    more = tf.cast(tf.shape(of_second)[1] < 1, tf.int32)
    of_second = tf.pad(of_second, [[0, 0], [0, more], [0, 0]])
    width = tf.shape(of_second)[1]
    possible = tf.sequence_mask(counts, width)[..., None]
    logits = tf.concat([given.of_first[:, None], tf.where(possible, of_second, _NEVER)], axis=1)
    chances = tf.nn.log_softmax(logits, axis=1)
    chances = tf.concat([chances[:, :1], tf.where(possible, chances[:, 1:], _NEVER)], axis=1)
    null = tf.reduce_sum(chances[:, 0], -1)
    starts, ends = chances[:, 1:, 0], chances[:, 1:, 1]
    ends = tf.pad(ends, [[0, 0], [0, longest - 1]], constant_values=_NEVER)
    # [window, first token, tokens - 1]
    sums = starts[:, :, None] + tf.signal.frame(ends, longest, 1, axis=1)
    flat = tf.reshape(sums, [-1, width * longest])
    place = tf.argmax(flat, -1)
    best = tf.maximum(tf.reduce_max(flat, -1), _NEVER)
    first = place // longest
    return null, best, first, first + place % longest


def _character(characters: tf.RaggedTensor, token: tf.Tensor, answered: tf.Tensor) -> tf.Tensor:
    """Returns a character of a token of each row, -1 of rows without an answer."""
    values = tf.concat([characters.values, [0]], 0)
    place = characters.row_starts() + token
    place = tf.where(answered, place, tf.size(characters.values, tf.int64))
    return tf.where(answered, tf.gather(values, place), -1)
