"""Any KerasHub tokenizer, called directly."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import cached_property

import keras_hub
import numpy as np
import tensorflow as tf
import tensorflow_text as tf_text
import tokenizers

from kerasllm.data.tokenizers.pairs import PairTemplate
from kerasllm.data.tokenizers.sentence_pieces import unigram_json
from kerasllm.data.tokenizers.spans import characters_of_bytes, engine_spans
from kerasllm.data.tokenizers.token_rows import flatten, merge_paths
from kerasllm.data.tokenizers.tokenizer import Tokenizer
from kerasllm.errors import PresetError

_hub = keras_hub.tokenizers

# The families that `unigram_json` converts to a Hugging Face tokenizer.
_UNIGRAM = (_hub.AlbertTokenizer, _hub.XLMRobertaTokenizer)
_ROBERTA = (_hub.RobertaTokenizer, _hub.XLMRobertaTokenizer)


class KerasHubTokenizer(Tokenizer):
    """A KerasHub tokenizer without a faster or more exact implementation.

    SentencePiece models (ALBERT, DeBERTa v3, XLM-RoBERTa, FNet) are the main case. The ids are
    those of KerasHub's own preprocessor: the tokenizer's `start_token_id` and `end_token_id`
    around the text, where it has them. Pairs are RoBERTa's for RoBERTa and XLM-RoBERTa, and BERT's
    for all others with two such tokens.

    SentencePiece models alone know their spans. Those of ALBERT and XLM-RoBERTa are the spans of
    Hugging Face `tokenizers` (see `unigram_json`) on any text that it cuts into the same tokens.
    Other texts (with a special token written in them), and other families, have SentencePiece's
    own spans, in which a space belongs to the token after it.

    Args:
        tokenizer: A `keras_hub.tokenizers.Tokenizer`.

    Raises:
        PresetError: If the tokenizer pads rows or adds tokens around a text by itself, or has no
            vocabulary.
    """

    def __init__(self, tokenizer: keras_hub.tokenizers.Tokenizer):
        name = type(tokenizer).__name__
        for setting in ("sequence_length", "add_bos", "add_eos"):
            if value := getattr(tokenizer, setting, None):
                raise PresetError(
                    f"{name} has {setting}={value}: rows are cut, and special tokens added, later",
                    fix=f"make the tokenizer without {setting}",
                )
        try:
            vocabulary = list(tokenizer.get_vocabulary())
        except (ValueError, NotImplementedError) as error:
            raise PresetError(f"{name} has no vocabulary: {error}") from error
        # A SentencePiece model decides by scores and rules that its vocabulary does not show.
        model = getattr(tokenizer, "proto", None)
        config = {key: repr(value) for key, value in tokenizer.get_config().items()}
        for key in ("name", "proto", "vocabulary", "merges"):
            config.pop(key, None)
        start, end = (
            getattr(tokenizer, attribute, None) for attribute in ("start_token_id", "end_token_id")
        )
        pair_template = None
        if start is not None and end is not None:
            family = PairTemplate.roberta if isinstance(tokenizer, _ROBERTA) else PairTemplate.bert
            pair_template = family(start, end)
        super().__init__(
            start_token_id=start,
            end_token_id=end,
            pad_token_id=getattr(tokenizer, "pad_token_id", 0),
            description=f"{name} of KerasHub, {len(vocabulary):,} tokens",
            identity=[
                name,
                vocabulary,
                model.hex() if isinstance(model, bytes) else model,
                getattr(tokenizer, "merges", None),
                config,
                keras_hub.__version__,
            ],
            pair_template=pair_template,
            # Its libraries run on all cores by themselves; its Keras layer need not.
            threads=1,
        )
        self._tokenizer = tokenizer

    def _tokenize(self, texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        return flatten([list(row) for row in self._tokenizer(list(texts))])

    def _tokenize_spans(self, texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        if not isinstance(self._tokenizer, _hub.SentencePieceTokenizer):
            return super()._tokenize_spans(texts)
        if self._engine is None:
            return self._own_spans(texts)
        ids, offsets = self._tokenize(texts)
        found, spans, found_offsets = engine_spans(self._engine, texts)
        same = np.array(
            [
                np.array_equal(ids[start:end], found[found_start:found_end])
                for start, end, found_start, found_end in zip(
                    offsets, offsets[1:], found_offsets, found_offsets[1:]
                )
            ],
            bool,
        )
        if same.all():
            return ids, spans, offsets
        return merge_paths(
            texts, same, lambda texts: engine_spans(self._engine, texts), self._own_spans
        )

    @cached_property
    def _engine(self) -> tokenizers.Tokenizer | None:
        if type(self._tokenizer) not in _UNIGRAM:
            return None
        try:
            content = unigram_json(self._tokenizer)
        except PresetError:  # a model that Hugging Face's library cannot follow
            return None
        return tokenizers.Tokenizer.from_str(json.dumps(content))

    @cached_property
    def _pieces(self) -> tf_text.SentencepieceTokenizer:
        return tf_text.SentencepieceTokenizer(model=self._tokenizer.proto, out_type=tf.int32)

    def _own_spans(self, texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        ids, offsets = self._tokenize(texts)
        with tf.device("CPU"):
            _, starts, ends = self._pieces.tokenize_with_offsets(tf.constant(texts))
        spans = np.stack([starts.values.numpy(), ends.values.numpy()], axis=1)
        return ids, characters_of_bytes(texts, spans, offsets), offsets
