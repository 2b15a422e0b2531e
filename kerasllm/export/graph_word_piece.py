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
# Instead of an id, of a word that has no more pieces.
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
        vocabulary = {**model["vocab"], **{characters[token]: id for token, id in special.items()}}
        prefix = model["continuing_subword_prefix"]
        self._pieces = _Pieces(vocabulary, prefix)
        self._lengths = np.ones(max(vocabulary.values()) + 1, np.int32)
        for token, id in vocabulary.items():
            self._lengths[id] = len(token.removeprefix(prefix))

    has_spans = True

    def tokens(self, texts: tf.Tensor) -> tf.RaggedTensor:
        """See `GraphTokenizer.tokens`."""
        return self._cut(texts)[0]

    def tokens_with_spans(self, texts: tf.Tensor):
        """See `GraphTokenizer.tokens_with_spans`."""
        ids, characters, origin, known_words = self._cut(texts)
        # Tokens fill their words, one after the other.
        lengths = tf.where(
            known_words.values < 0, tf.gather(self._lengths, ids.values), known_words.values
        )
        ends = tf.cumsum(lengths)
        codes = tf.concat([origin, [0]], 0)
        first, last = tf.gather(codes, ends - lengths), tf.gather(codes, tf.maximum(ends - 1, 0))
        # A stand-in is as long as the token that it stands for.
        extra = tf.zeros_like(characters.values)
        for token, character in self._stand_ins.characters.items():
            more = tf.cast(characters.values == ord(character), tf.int32) * (len(token) - 1)
            extra += more
        before = tf.cumsum(extra, exclusive=True)
        place = tf.range(tf.size(extra)) + before
        after = place + extra + 1
        nothing = tf.concat([place, [0]], 0)
        row_start = tf.gather(nothing, tf.cast(characters.row_starts(), tf.int32))
        base = tf.gather(row_start, ids.value_rowids())
        starts = tf.gather(nothing, first) - base
        stops = tf.gather(tf.concat([after, [0]], 0), last) - base
        return ids, ids.with_values(starts), ids.with_values(stops)

    def _cut(self, texts: tf.Tensor):
        """Returns the ids of texts, and what their tokens are made of.

        Returns:
            The ids, int32 `[rows, (tokens)]`; the characters, `[rows, (characters)]`; the character
            that each code of a word came of, int32 `[codes]`; and of each token the codes of its
            word, where it is that of an unknown word, else -1, int32 `[rows, (tokens)]`.
        """
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
        found = tf.RaggedTensor.from_value_rowids(
            ids.values, tf.gather(word_rows, ids.value_rowids()), nrows=characters.nrows()
        )
        whole = tf.where(known, -1, tf.cast(words.row_lengths(), tf.int32))
        of_token = found.with_values(tf.gather(whole, ids.value_rowids()))
        return found, characters, tf.cast(tf.boolean_mask(origin, ~space), tf.int32), of_token


class _Pieces:
    """Cuts words into the longest pieces that there are, from their starts on.

    The pieces are two tries, of what may start a word and of what may continue it. A node's
    children have consecutive numbers, so that the sorted list of all edges is the trie.

    Args:
        vocabulary: The ids of tokens.
        prefix: What tokens begin with that continue a word.
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
        # After the last word comes a character that no piece has.
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

        def continues(step, place, node, found, found_end, cut):
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

        cut = tf.transpose(tf.while_loop(continues, walk, state)[-1].stack())
        lost = tf.reduce_any(cut == _LOST, -1, keepdims=True)
        return tf.where(lost, -1, cut)


def _without_gaps(ids: tf.Tensor) -> tf.RaggedTensor:
    return tf.ragged.boolean_mask(ids, ids >= 0)


def _insert(trie: dict, token: str, id: int) -> None:
    if token:
        for character in token:
            trie = trie.setdefault(character, {})
        trie[""] = id
