"""WordPiece, the tokenizer of BERT and its relatives: the reference's ids, ten times as fast.

Two paths lead to the same ids. The fast one is tensorflow-text's FastBertTokenizer, which does not
always agree with the reference; the exact one is the reference itself, Hugging Face `tokenizers`.
A text takes the fast path if `TokenizerAgreement` holds it, and the exact one otherwise.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property, partial

import numpy as np
import tensorflow as tf
import tensorflow_text as tf_text
import tokenizers
from tokenizers import models, normalizers, pre_tokenizers

from kerasllm.data.tokenizers.agreement import LONGEST_WORD, TokenizerAgreement
from kerasllm.data.tokenizers.pairs import PairTemplate
from kerasllm.data.tokenizers.spans import engine_spans
from kerasllm.data.tokenizers.token_rows import flatten, merge_paths
from kerasllm.data.tokenizers.tokenizer import Tokenizer
from kerasllm.data.tokenizers.word_piece_spans import WordPieceSpans
from kerasllm.errors import PresetError

_SUFFIX_INDICATOR = "##"
# So few are tokenized, with their spans, before the fast tokenizer would be made.
_FEW_CHARACTERS = 20_000


class WordPiece(Tokenizer):
    """WordPiece with BERT's normalization, as Hugging Face's `BertTokenizerFast` does it.

    Args:
        vocabulary: The tokens in the order of their ids. If a token stands twice, its last place
            counts, as in the reference.
        lowercase: Whether text is lower-cased. Defaults to `False`.
        strip_accents: Whether accents are removed. Defaults to `None`: if text is lower-cased.
        split_on_cjk: Whether Chinese characters are words by themselves. Defaults to `True`.
        suffix_indicator: What marks a token that continues a word. Defaults to `"##"`.
        unknown_token: The token of words that the vocabulary cannot spell, and of those with more
            than 100 characters. Defaults to `"[UNK]"`.
        start_token: The token before each text. Defaults to `"[CLS]"`.
        end_token: The token after each text. Defaults to `"[SEP]"`.
        pad_token: The padding token. Defaults to `"[PAD]"`.
        mask_token: The token that stands for a hidden one. Defaults to `"[MASK]"`.
        special_tokens: More tokens that are recognized where they are written in a text, as the
            five above are. Defaults to `()`.

    Raises:
        PresetError: If a special token is not in the vocabulary.

    References:
        [Devlin et al., 2018](https://arxiv.org/abs/1810.04805),
        [Song et al., 2020](https://arxiv.org/abs/2012.15524) for the fast path.

    Example:
        >>> vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "film", "##s", "good"]
        >>> ids, offsets = WordPiece(vocabulary, lowercase=True).encode(["Good films!"], 128)
        >>> ids.tolist()
        [2, 7, 5, 6, 1, 3]
    """

    def __init__(
        self,
        vocabulary: Sequence[str],
        lowercase: bool = False,
        *,
        strip_accents: bool | None = None,
        split_on_cjk: bool = True,
        suffix_indicator: str = _SUFFIX_INDICATOR,
        unknown_token: str = "[UNK]",
        start_token: str = "[CLS]",
        end_token: str = "[SEP]",
        pad_token: str = "[PAD]",
        mask_token: str = "[MASK]",
        special_tokens: Sequence[str] = (),
    ):
        vocabulary = list(vocabulary)
        token_ids = {token: token_id for token_id, token in enumerate(vocabulary)}
        special = [pad_token, unknown_token, start_token, end_token, mask_token]
        special = list(dict.fromkeys([*special, *special_tokens]))
        missing = [token for token in special if token not in token_ids]
        if missing:
            raise PresetError(
                f"The vocabulary of {len(vocabulary):,} tokens lacks {', '.join(missing)}",
                fix="use the vocabulary that belongs to the model, or name its special tokens",
            )
        settings = [lowercase, strip_accents, split_on_cjk, suffix_indicator, unknown_token]
        super().__init__(
            start_token_id=token_ids[start_token],
            end_token_id=token_ids[end_token],
            pad_token_id=token_ids[pad_token],
            description=f"WordPiece, {len(vocabulary):,} tokens, "
            + ("lower case" if lowercase else "case kept"),
            identity=[vocabulary, settings, special],
            pair_template=PairTemplate.bert(token_ids[start_token], token_ids[end_token]),
        )
        self._exact = tokenizers.Tokenizer(
            models.WordPiece(
                token_ids,
                unk_token=unknown_token,
                max_input_chars_per_word=LONGEST_WORD,
                continuing_subword_prefix=suffix_indicator,
            )
        )
        self._exact.normalizer = normalizers.BertNormalizer(
            clean_text=True,
            handle_chinese_chars=split_on_cjk,
            strip_accents=strip_accents,
            lowercase=lowercase,
        )
        self._exact.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
        self._exact.add_special_tokens(
            [tokenizers.AddedToken(token, special=True, normalized=False) for token in special]
        )
        self._make_fast = None
        if suffix_indicator == _SUFFIX_INDICATOR:
            self._make_fast = partial(
                _FastRoad,
                vocabulary,
                lowercase,
                strip_accents,
                split_on_cjk,
                unknown_token,
                special,
            )
        self._make_spans = partial(
            WordPieceSpans,
            self._exact,
            vocabulary=vocabulary,
            prefix=suffix_indicator,
            unknown_token=unknown_token,
        )

    @property
    def reference(self) -> tokenizers.Tokenizer:
        """Hugging Face's tokenizer with the same ids; it puts no special tokens around a text."""
        return self._exact

    @cached_property
    def _fast(self) -> _FastRoad | None:
        # Half a second, which nobody waits for whose tokens are stored already.
        return self._make_fast and self._make_fast()

    @cached_property
    def _spans(self) -> WordPieceSpans:
        return self._make_spans(self._fast.characters)

    def _tokenize(self, texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        if self._fast is None:
            return self._exact_ids(texts)
        return merge_paths(texts, self._fast.holds(texts), self._fast.ids, self._exact_ids)

    def _tokenize_spans(self, texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        few = "_fast" not in vars(self) and sum(map(len, texts)) < _FEW_CHARACTERS
        if few or self._fast is None:
            return self._exact_spans(texts)
        plain = self._fast.holds(texts) & self._spans.holds(texts)
        return merge_paths(texts, plain, self._plain_spans, self._exact_spans)

    def _plain_spans(self, texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        ids, offsets = self._fast.ids(texts)
        return ids, self._spans.spans(texts, ids, offsets), offsets

    def _exact_spans(self, texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        return engine_spans(self._exact, texts)

    def _exact_ids(self, texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        encodings = self._exact.encode_batch(list(texts), add_special_tokens=False)
        return flatten([encoding.ids for encoding in encodings])


class _FastRoad:
    """tensorflow-text's tokenizer, and which texts it agrees with the reference on."""

    def __init__(
        self,
        vocabulary: list[str],
        lowercase: bool,
        strip_accents: bool | None,
        split_on_cjk: bool,
        unknown_token: str,
        special_tokens: list[str],
    ):
        agreement = TokenizerAgreement(lowercase, strip_accents, split_on_cjk, special_tokens)
        self.holds = agreement.holds
        self.characters = agreement.characters
        # Its tables would be copied from a GPU for every call.
        with tf.device("CPU"):
            self._tokenizer = tf_text.FastBertTokenizer(
                vocab=_fast_vocabulary(vocabulary, unknown_token, agreement),
                token_out_type=tf.int32,
                unknown_token=unknown_token,
                max_bytes_per_word=LONGEST_WORD,
                lower_case_nfd_strip_accents=lowercase,
            )

    def ids(self, texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        with tf.device("CPU"):
            rows = self._tokenizer.tokenize(tf.constant(texts))
        return rows.values.numpy(), rows.row_splits.numpy()


def _fast_vocabulary(
    vocabulary: list[str], unknown_token: str, agreement: TokenizerAgreement
) -> list[str]:
    """Returns a vocabulary of the same size with only tokens that common text can lead to.

    The fast path treats odd tokens in its own way (it looks up one with a space in it, and
    refuses one that stands twice or holds a NUL). None of them can come up in common text, so
    each gives its place to a token that no text can spell: U+E000 is not a common character.
    """
    token_ids = {token: token_id for token_id, token in enumerate(vocabulary)}
    return [
        token
        if token_ids[token] == token_id and (token == unknown_token or agreement.can_come_up(token))
        else f"\ue000{token_id}"
        for token_id, token in enumerate(vocabulary)
    ]
