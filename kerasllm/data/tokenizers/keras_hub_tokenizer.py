"""Any KerasHub tokenizer, called as it is."""

from __future__ import annotations

from collections.abc import Sequence

import keras_hub
import numpy as np

from kerasllm.data.tokenizers.tokenizer import Tokenizer, flatten
from kerasllm.errors import PresetError


class KerasHubTokenizer(Tokenizer):
    """A KerasHub tokenizer for which there is no faster or more exact road.

    SentencePiece models (ALBERT, DeBERTa v3, XLM-RoBERTa, FNet) are the main case. The ids are
    those of KerasHub's own preprocessor: the tokenizer's `start_token_id` and `end_token_id`
    around the text, where it has them.

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
        super().__init__(
            start_token_id=getattr(tokenizer, "start_token_id", None),
            end_token_id=getattr(tokenizer, "end_token_id", None),
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
            # Its libraries run on all cores by themselves; its Keras layer need not.
            threads=1,
        )
        self._tokenizer = tokenizer

    def _tokenize(self, texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        return flatten([list(row) for row in self._tokenizer(list(texts))])
