"""Unigram tokenizers inside a TensorFlow graph (T5, new models), by SentencePiece's own op."""

from __future__ import annotations

import json

import tensorflow as tf

from kerasllm.data.tokenizers import TokenizerJson
from kerasllm.export.graph_byte_level_bpe import AddedTokens
from kerasllm.export.graph_tokenizer import GraphTokenizer
from kerasllm.models.huggingface.sentencepiece_models import from_pieces

# What SentencePiece does to spaces; see `kerasllm.data.tokenizers.sentence_pieces`.
_SPACES = [
    {"type": "Replace", "pattern": {"Regex": "^ +| +$"}, "content": ""},
    {"type": "Replace", "pattern": {"Regex": " {2,}"}, "content": " "},
]
_SPACE = "▁"


class GraphUnigram(GraphTokenizer):
    """SentencePiece's unigram, out of an op of TensorFlow Text.

    The ids are SentencePiece's. `tokenizers`, which is used outside of graphs, normalizes a
    character that is made of several code points (a letter and its accents) as a whole, and can
    differ there.

    Args:
        tokenizer: The tokenizer; see `refusal`.
    """

    needs_text_ops = True

    def __init__(self, tokenizer: TokenizerJson):
        import tensorflow_text as tf_text

        super().__init__(tokenizer)
        content = json.loads(tokenizer.content)
        model, added = content["model"], content["added_tokens"]
        pieces = [tuple(piece) for piece in model["vocab"]]
        special = [token["content"] for token in added]
        self._added = AddedTokens(added)
        self._unknown = pieces[model["unk_id"]][0]
        proto = from_pieces(
            pieces,
            unknown=self._unknown,
            control=[token for token in special if token != self._unknown],
            normalizer=content["normalizer"],
        )
        self._tokenizer = tf_text.SentencepieceTokenizer(model=proto, out_type=tf.int32)
        after = max((token["id"] + 1 for token in added), default=0) - len(pieces)
        self.resources = [self._tokenizer]
        self._pieces = [piece.replace(_SPACE, " ") for piece, _ in pieces] + [""] * after
        for token in added:
            self._pieces[token["id"]] = ""

    @staticmethod
    def is_unigram(tokenizer: object) -> bool:
        """Returns whether a tokenizer is a unigram model, exact in a graph or not."""
        if not isinstance(tokenizer, TokenizerJson):
            return False
        return json.loads(tokenizer.content)["model"]["type"] == "Unigram"

    @staticmethod
    def refusal(tokenizer: TokenizerJson) -> str | None:
        """Returns why one that `is_unigram` has no form in a graph, or `None` if it has one."""
        content = json.loads(tokenizer.content)
        if content["model"].get("byte_fallback"):
            return "it has byte fallback"
        normalizer = content["normalizer"] or {}
        steps = normalizer.get("normalizers", [normalizer])
        precompiled = [step for step in steps if step.get("type") == "Precompiled"]
        if len(precompiled) > 1 or steps not in (_SPACES, [*precompiled, *_SPACES]):
            return "it normalizes texts differently from SentencePiece"
        step = content["pre_tokenizer"] or {}
        if step.get("type") != "Metaspace" or step.get("prepend_scheme") != "always":
            return "it splits words differently from SentencePiece"
        if any(token["single_word"] or token["rstrip"] for token in content["added_tokens"]):
            return "it has special tokens that depend on their context"
        return None

    def tokens(self, texts: tf.Tensor) -> tf.RaggedTensor:
        """See `GraphTokenizer.tokens`."""
        parts, part_rows, special = self._added.split(texts)
        ids = self._tokenizer.tokenize(tf.where(special < 0, parts, ""))
        own = tf.RaggedTensor.from_tensor(special[:, None])
        found = tf.concat([ids, tf.ragged.boolean_mask(own, own >= 0)], axis=1)
        rows = tf.gather(part_rows, found.value_rowids())
        return tf.RaggedTensor.from_value_rowids(found.values, rows, nrows=tf.size(texts, tf.int64))

    def text(self, ids: tf.RaggedTensor) -> tf.Tensor:
        """Returns the texts of ids, string `[rows]`, without special tokens."""
        joined = tf.strings.reduce_join(tf.gather(self._pieces, ids), axis=-1)
        return tf.strings.regex_replace(joined, "^ ", "")
