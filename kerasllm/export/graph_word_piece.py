"""WordPiece inside a TensorFlow graph, with the reference's ids for every text."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Mapping

import numpy as np
import tensorflow as tf

from kerasllm.data.tokenizers import WordPiece
from kerasllm.export.character_runs import SPACE, CharacterRuns
from kerasllm.export.graph_tokenizer import CharacterMap, GraphTokenizer, StandIns

_PRIVATE_USE = range(0xE000, 0xF900)
# Room for any character in a key.
_CHARACTERS = 1 << 21
_AT_START, _INSIDE = 0, 1
# In place of an id, of a word that has no more pieces.
_LOST = -2


class GraphWordPiece(GraphTokenizer):
    """WordPiece with BERT's normalization, out of TensorFlow's own ops.

    tensorflow-text's ops are faster, but fold case and normalize by other tables than the
    reference, and its package imports Keras. Here the reference itself is asked, about every
    character, when this is made.

    One thing is not as in the reference: it sorts combining marks that stand in another order
    than the canonical one, which matters only for those few that it does not remove.

    Args:
        tokenizer: The tokenizer.

    Example:

    ```python
    GraphWordPiece(model.tokenizer).rows(tf.constant(["a good film"]), max_length=128)
    ```
    """

    def __init__(self, tokenizer: WordPiece):
        super().__init__(tokenizer)
        reference = tokenizer.reference
        content = json.loads(reference.to_str())
        model = content["model"]
        normalize = reference.normalizer.normalize_str
        split = reference.pre_tokenizer.pre_tokenize_str
        runs = CharacterRuns.of(lambda text: [word for word, _ in split(normalize(text))])
        special = {token["content"]: token["id"] for token in content["added_tokens"]}
        free = [chr(code) for code in _PRIVATE_USE if not runs.pattern(code)]
        self._stand_ins = StandIns(list(special), free)
        characters = self._stand_ins.characters
        self._map = CharacterMap(
            runs.changed({ord(one): (SPACE, ord(one), SPACE) for one in characters.values()})
        )
        self._longest_word = model["max_input_chars_per_word"]
        self._unknown_id = model["vocab"][model["unk_token"]]
        self._pieces = _Pieces(
            {**model["vocab"], **{characters[token]: id for token, id in special.items()}},
            model["continuing_subword_prefix"],
        )

    def tokens(self, texts: tf.Tensor) -> tf.RaggedTensor:
        """See `GraphTokenizer.tokens`."""
        characters = tf.strings.unicode_decode(self._stand_ins.put_in(texts), "UTF-8")
        codes, origin = self._map(characters.values)
        rows = tf.gather(characters.value_rowids(), origin)
        space = codes == SPACE
        apart = space[:-1] | (rows[1:] != rows[:-1])
        first = ~space & tf.concat([[True], apart], 0)[: tf.size(codes)]
        numbers = tf.boolean_mask(tf.cumsum(tf.cast(first, tf.int64)) - 1, ~space)
        words = tf.RaggedTensor.from_value_rowids(tf.boolean_mask(codes, ~space), numbers)
        pieces = self._pieces.cut(words)
        known = tf.reduce_any(pieces >= 0, -1) & (words.row_lengths() <= self._longest_word)
        pieces = tf.where(known[:, None], pieces, -1)
        unknown = tf.where(known, -1, self._unknown_id)
        ids = _without_gaps(tf.concat([unknown[:, None], pieces], 1))
        word_rows = tf.boolean_mask(rows, first)
        return tf.RaggedTensor.from_value_rowids(
            ids.values, tf.gather(word_rows, ids.value_rowids()), nrows=characters.nrows()
        )


class _Pieces:
    """Cuts words into the longest pieces that there are, from their starts on.

    The pieces are two tries, of what may start a word and of what may continue it. The children
    of a node are numbered consecutively, so that the sorted list of all edges is the trie.

    Args:
        vocabulary: The ids of tokens.
        prefix: The prefix of tokens that continue a word.
    """

    def __init__(self, vocabulary: Mapping[str, int], prefix: str):
        tries: list[dict] = [{}, {}]
        for token, id in vocabulary.items():
            _insert(tries[_AT_START], token, id)
            if token.startswith(prefix):
                _insert(tries[_INSIDE], token.removeprefix(prefix), id)
        edges, ids, waiting = [], [-1, -1], deque(enumerate(tries))
        while waiting:
            number, node = waiting.popleft()
            for character in sorted(key for key in node if key):
                child = node[character]
                edges.append(number * _CHARACTERS + ord(character))
                waiting.append((len(ids), child))
                ids.append(child.get("", -1))
        self._edges, self._ids = np.array(edges, np.int64), np.array(ids, np.int32)

    def cut(self, words: tf.RaggedTensor) -> tf.RaggedTensor:
        """Returns the ids of words.

        Args:
            words: Characters, int32 `[words, (characters)]`.

        Returns:
            int32 `[words, steps]`, -1 between ids; nothing else for a word that cannot be cut.
        """
        # After the last word follows a character that no piece has.
        codes = tf.concat([words.values, [0]], 0)
        ends = tf.cast(words.row_limits(), tf.int32)
        count = tf.size(ends)
        nothing = tf.fill([count], -1)
        state = (
            tf.constant(0),
            tf.cast(words.row_starts(), tf.int32),
            tf.fill([count], _AT_START),
            nothing,
            nothing,
            tf.TensorArray(tf.int32, 0, dynamic_size=True, element_shape=[None]),
        )

        def condition(step, place, node, found, found_end, cut):
            # One step at least, for there is nothing to put together otherwise.
            return (step == 0) | tf.reduce_any(node >= 0)

        def walk(step, place, node, found, found_end, cut):
            edge = tf.cast(node, tf.int64) * _CHARACTERS
            edge += tf.cast(tf.gather(codes, tf.minimum(place, tf.size(codes) - 1)), tf.int64)
            number = tf.searchsorted(self._edges, edge)
            there = tf.gather(self._edges, tf.minimum(number, len(self._edges) - 1)) == edge
            there &= place < ends
            child = number + 2
            id = tf.where(there, tf.gather(self._ids, tf.where(there, child, 0)), -1)
            # Where the trie ends, the longest piece that was seen is cut off, if there is one.
            cuts = ~there & (node >= 0) & (found >= 0)
            lost = ~there & (node >= 0) & (found < 0)
            cut = cut.write(step, tf.where(cuts, found, tf.where(lost, _LOST, -1)))
            ended = lost | (cuts & (found_end == ends)) | (node < 0)
            place = tf.where(there, place + 1, tf.maximum(found_end, 0))
            node = tf.where(ended, -1, tf.where(there, child, _INSIDE))
            found_end = tf.where(id >= 0, place, found_end)
            found = tf.where(there, tf.where(id >= 0, id, found), -1)
            return step + 1, place, node, found, found_end, cut

        cut = tf.transpose(tf.while_loop(condition, walk, state)[-1].stack())
        lost = tf.reduce_any(cut == _LOST, -1, keepdims=True)
        return tf.where(lost, -1, cut)


def _without_gaps(ids: tf.Tensor) -> tf.RaggedTensor:
    return tf.ragged.boolean_mask(ids, ids >= 0)


def _insert(trie: dict, token: str, id: int) -> None:
    if token:
        for character in token:
            trie = trie.setdefault(character, {})
        trie[""] = id
