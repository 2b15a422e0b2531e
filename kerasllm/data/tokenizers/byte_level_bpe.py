"""Byte-level BPE, the tokenizer of RoBERTa, BART and GPT-2."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import tokenizers
from tokenizers import models, pre_tokenizers, processors

from kerasllm.data.tokenizers.pairs import PairTemplate
from kerasllm.data.tokenizers.spans import engine_spans
from kerasllm.data.tokenizers.tokenizer import Tokenizer
from kerasllm.data.tokenizers.word_cache import BulkEngine
from kerasllm.errors import PresetError


class ByteLevelBPE(Tokenizer):
    """Byte-level BPE as Hugging Face's `RobertaTokenizerFast` does it, and by the same library.

    Pairs and spans follow the family. Two different tokens around a text mean RoBERTa and BART:
    `<s> A </s></s> B </s>` in one segment, and spans without the spaces before a word. Otherwise
    it is GPT-2: one text after the other in two segments, and spaces belong to spans.

    Args:
        vocabulary: The id of each token.
        merges: The merges, the first to apply first, each as `"left right"`.
        start_token: The token before each text. Defaults to `None`: none.
        end_token: The token after each text. Defaults to `None`: none.
        pad_token: The padding token. Defaults to `None`: id 0.
        mask_token: The token that stands for a hidden one; written in a text, it takes the spaces
            before it along. Defaults to `None`.
        special_tokens: More tokens that are recognized where they are written in a text, as the
            four above are. Defaults to `()`.
        add_prefix_space: Whether the first word of a text is read as if a space stood before it.
            Defaults to `False`.

    Raises:
        PresetError: If a special token is not in the vocabulary, or a merge does not fit it.

    References:
        [Sennrich et al., 2016](https://arxiv.org/abs/1508.07909),
        [Liu et al., 2019](https://arxiv.org/abs/1907.11692)

    Example:
        >>> vocabulary = {"<s>": 0, "</s>": 1, "b": 2, "a": 3, "d": 4, "ba": 5, "bad": 6}
        >>> bpe = ByteLevelBPE(vocabulary, ["b a", "ba d"], start_token="<s>", end_token="</s>")
        >>> bpe.encode(["bad"], max_length=128)[0].tolist()
        [0, 6, 1]
    """

    def __init__(
        self,
        vocabulary: Mapping[str, int],
        merges: Sequence[str],
        *,
        start_token: str | None = None,
        end_token: str | None = None,
        pad_token: str | None = None,
        mask_token: str | None = None,
        special_tokens: Sequence[str] = (),
        add_prefix_space: bool = False,
    ):
        vocabulary = dict(vocabulary)
        # A merges.txt opens with a comment.
        merges = [merge for merge in merges if merge and not merge.startswith("#version")]
        special = dict.fromkeys(
            [start_token, end_token, pad_token, mask_token, *special_tokens], False
        )
        special.pop(None, None)
        missing = [token for token in special if token not in vocabulary]
        if missing:
            raise PresetError(
                f"The vocabulary of {len(vocabulary):,} tokens lacks {', '.join(missing)}",
                fix="use the vocabulary that belongs to the model, or name its special tokens",
            )
        super().__init__(
            start_token_id=vocabulary[start_token] if start_token is not None else None,
            end_token_id=vocabulary[end_token] if end_token is not None else None,
            pad_token_id=vocabulary[pad_token] if pad_token is not None else 0,
            description=f"byte-level BPE, {len(vocabulary):,} tokens",
            identity=[vocabulary, merges, list(special), mask_token, add_prefix_space],
            pair_template=(
                PairTemplate.roberta(vocabulary[start_token], vocabulary[end_token])
                if _is_roberta(start_token, end_token)
                else None
            ),
            # The library runs on all cores by itself.
            threads=1,
        )
        try:
            model = models.BPE(vocabulary, [tuple(merge.split(" ")) for merge in merges])
        except Exception as error:  # tokenizers has no exception class of its own
            raise PresetError(
                f"The merges do not fit the vocabulary: {error}",
                fix="use the vocabulary and the merges that belong to the model",
            ) from error
        self._tokenizer = tokenizers.Tokenizer(model)
        self._tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=add_prefix_space)
        self._tokenizer.add_special_tokens(
            [
                tokenizers.AddedToken(
                    token, special=True, normalized=False, lstrip=token == mask_token
                )
                for token in special
            ]
        )
        self._bulk = BulkEngine(self._tokenizer)
        self._trims = []
        if _is_roberta(start_token, end_token):
            self._trims = [processors.ByteLevel(add_prefix_space, trim_offsets=True)]

    @property
    def reference(self) -> tokenizers.Tokenizer:
        """Hugging Face's tokenizer with the same ids; it puts no special tokens around a text, and
        its spans keep the spaces before words."""
        return self._tokenizer

    def _tokenize(self, texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        return self._bulk.ids(texts)

    def _tokenize_spans(self, texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        return engine_spans(self._tokenizer, texts, self._trims)


def _is_roberta(start_token: str | None, end_token: str | None) -> bool:
    return start_token is not None and end_token is not None and start_token != end_token
