"""Tags of words and their spans inside a TensorFlow graph: strings in, spans out.

It computes what `kerasllm.models.tag_texts` does, by the same rules.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import tensorflow as tf

from kerasllm.data.tag_schemes import TagSet
from kerasllm.data.words import Joins
from kerasllm.export.graph_windows import GraphTexts
from kerasllm.export.graph_words import first_tokens, words_in

_NEVER = -1e30
_BEGIN, _INSIDE, _END, _SINGLE, _OUT = range(5)
_WITHOUT_TOKEN = -20.0


def spans_in_graph(tags: TagSet, joins: Joins) -> Callable[[GraphTexts], dict[str, tf.Tensor]]:
    """Returns what makes spans of texts in a graph; see `Head.of_texts`.

    Args:
        tags: The tags of a model.
        joins: How texts are cut into words.

    Returns:
        A function to `starts` and `ends`, int32 `[texts, spans]`, in characters, -1 where a text
        has fewer spans; `texts` and `labels`, strings, and `probabilities`, float32.
    """

    def decode(given: GraphTexts) -> dict[str, tf.Tensor]:
        characters = tf.strings.unicode_decode(given.texts, "UTF-8")
        words = words_in(characters, joins)
        base = tf.cast(characters.row_starts(), tf.int64)
        starts, ends = (
            tf.cast(each.values, tf.int64) + tf.gather(base, tf.cast(each.value_rowids(), tf.int64))
            for each in (given.starts, given.ends)
        )
        tokens, there = first_tokens(words, starts, ends)
        without = np.full(len(tags), _WITHOUT_TOKEN, np.float32)
        without[0] = 0.0
        logits = tf.concat([given.logits.values, without[None]], 0)
        last = tf.shape(logits)[0] - 1
        chances = tf.nn.log_softmax(tf.gather(logits, tf.where(there, tokens, last)))
        found = _decoded(chances, words.rows, characters.nrows(), tags)
        own = tf.exp(tf.gather(chances, found, batch_dims=1))
        return _spans(given.texts, words, base, found, own, tags)

    return decode


def _decoded(chances, rows, texts, tags: TagSet) -> tf.Tensor:
    """Returns the most likely valid tag of each word, int32 `[words]`."""
    if tags.follows.all() and tags.first.all() and tags.last.all():
        return tf.argmax(chances, -1, tf.int32)
    ragged = tf.RaggedTensor.from_value_rowids(chances, rows, nrows=texts)
    lengths = tf.cast(ragged.row_lengths(), tf.int32)
    # A place at least, for there is nothing to put together otherwise.
    longest = tf.maximum(tf.reduce_max(tf.concat([lengths, [0]], 0)), 1)
    padded = ragged.to_tensor(shape=[None, None, len(tags)])
    padded = tf.pad(padded, [[0, 0], [0, longest - tf.shape(padded)[1]], [0, 0]])
    by_place = tf.transpose(padded, [1, 0, 2])
    moves = tf.constant(np.where(tags.follows, 0.0, _NEVER).astype(np.float32))
    first = tf.constant(np.where(tags.first, 0.0, _NEVER).astype(np.float32))
    last = tf.constant(np.where(tags.last, 0.0, _NEVER).astype(np.float32))
    unchanged = tf.range(len(tags))[None]
    before = tf.TensorArray(tf.int32, longest, element_shape=[None, len(tags)])
    before = before.write(0, tf.zeros_like(by_place[0], tf.int32))

    def step(place, best, before):
        ways = best[:, :, None] + moves
        goes_on = (place < lengths)[:, None]
        new = tf.reduce_max(ways, 1) + by_place[place]
        chosen = tf.where(goes_on, tf.argmax(ways, 1, tf.int32), unchanged)
        return place + 1, tf.where(goes_on, new, best), before.write(place, chosen)

    _, best, before = tf.while_loop(
        lambda place, *_: place < longest, step, (1, by_place[0] + first, before)
    )
    before = before.stack()
    tag = tf.argmax(best + last, -1, tf.int32)
    found = tf.TensorArray(tf.int32, longest, element_shape=[None]).write(longest - 1, tag)

    def back(place, tag, found):
        tag = tf.gather(before[place], tag, batch_dims=1)
        return place - 1, tag, found.write(place - 1, tag)

    _, _, found = tf.while_loop(
        lambda place, *_: place > 0, back, (longest - 1, tag, found), parallel_iterations=1
    )
    return tf.boolean_mask(tf.transpose(found.stack()), tf.sequence_mask(lengths, longest))


def _spans(texts, words, base, found, own, tags: TagSet) -> dict[str, tf.Tensor]:
    letters = tf.gather(tags.letters.astype(np.int32), found)
    types = tf.gather(tags.type_numbers, found)
    count = tf.size(found)
    starts_text = tf.concat([[True], words.rows[1:] != words.rows[:-1]], 0)[:count]
    before, type_before = (
        tf.where(starts_text, first, tf.concat([[first], values[:-1]], 0)[:count])
        for values, first in ((letters, _OUT), (types, -1))
    )
    opens = (letters == _BEGIN) | (letters == _SINGLE)
    closed = (before == _OUT) | (before == _END) | (before == _SINGLE) | (types != type_before)
    begins = (letters != _OUT) & (opens | closed)
    first = tf.where(begins)[:, 0]
    breaks = tf.concat(
        [tf.where(begins | (letters == _OUT) | starts_text)[:, 0], [tf.cast(count, tf.int64)]], 0
    )
    after = tf.gather(breaks, tf.searchsorted(breaks, first, side="right"))
    rows = tf.gather(words.rows, first)
    start = tf.gather(words.starts, first) - tf.gather(base, rows)
    end = tf.gather(words.ends, after - 1) - tf.gather(base, rows)
    total = tf.concat([[0.0], tf.cumsum(own)], 0)
    chances = (tf.gather(total, after) - tf.gather(total, first)) / tf.cast(
        after - first, tf.float32
    )
    inner = tf.strings.substr(
        tf.gather(texts, rows),
        tf.cast(start, tf.int32),
        tf.cast(end - start, tf.int32),
        unit="UTF8_CHAR",
    )
    labels = tf.gather(tf.constant(list(tags.types)), tf.gather(types, first))

    def padded(values, default):
        ragged = tf.RaggedTensor.from_value_rowids(values, rows, nrows=tf.size(texts, tf.int64))
        return ragged.to_tensor(default)

    return {
        "starts": padded(tf.cast(start, tf.int32), -1),
        "ends": padded(tf.cast(end, tf.int32), -1),
        "texts": padded(inner, ""),
        "labels": padded(labels, ""),
        "probabilities": padded(chances, 0.0),
    }
