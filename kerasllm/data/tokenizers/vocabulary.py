"""What the tokens of an encoder are: special, continuing a word, the end of a sentence."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property

import keras_hub
import numpy as np
from tokenizers import decoders

from kerasllm.errors import PresetError

_hub = keras_hub.tokenizers
# What tokenizers do not name by an attribute.
_SPECIAL = re.compile(r"\[(UNK|PAD|CLS|SEP|MASK|unused\d+)\]|<(unk|pad|mask|/?s)>")
_SENTENCE_ENDS = frozenset(".!?…。！？")
_SPACE, _PIECE, _CONTINUES = "Ġ", "\u2581", "##"


@dataclass(frozen=True, eq=False)
class Vocabulary:
    """The tokens of an encoder.

    Attributes:
        tokens: In the order of their ids, as the tokenizer spells them.
        mask_id: The id of the token that stands for a hidden one.
        mask_token: How it is written in a text.
        special: bool `[tokens]`: of none of these the text is made.
        continues: bool `[tokens]`, whether a token continues the word of the token before it.
        kind: `"word pieces"`, `"bytes"` or `"sentence pieces"`: how tokens are spelled.
    """

    tokens: tuple[str, ...]
    mask_id: int
    mask_token: str
    special: np.ndarray
    continues: np.ndarray
    kind: str

    @classmethod
    def of(cls, tokenizer: keras_hub.tokenizers.Tokenizer) -> Vocabulary:
        """Reads the vocabulary of a KerasHub tokenizer.

        Raises:
            PresetError: It has no mask token.
        """
        mask_id = getattr(tokenizer, "mask_token_id", None)
        if mask_id is None:
            raise PresetError(
                f"{type(tokenizer).__name__} has no mask token",
                fix="use an encoder that was pretrained with masks: BERT, DistilBERT, RoBERTa...",
            )
        tokens = _tokens_of(tokenizer)
        special = np.zeros(len(tokens), bool)
        for name in ("start", "end", "pad", "mask", "cls", "sep", "unk", "oov"):
            number = getattr(tokenizer, f"{name}_token_id", None)
            if isinstance(number, int):
                special[number] = True
        special |= np.array([bool(_SPECIAL.fullmatch(token)) for token in tokens])
        if isinstance(tokenizer, _hub.WordPieceTokenizer):
            kind = "word pieces"
            continues = [token.startswith(tokenizer.suffix_indicator) for token in tokens]
        else:
            kind = "bytes" if isinstance(tokenizer, _hub.BytePairTokenizer) else "sentence pieces"
            mark = _SPACE if kind == "bytes" else _PIECE
            continues = [not token.startswith(mark) for token in tokens]
        written = getattr(tokenizer, "mask_token", None) or tokens[mask_id]
        return cls(tokens, int(mask_id), written, special, np.array(continues) & ~special, kind)

    def __len__(self) -> int:
        return len(self.tokens)

    @cached_property
    def ends_sentence(self) -> np.ndarray:
        """bool `[tokens]`, whether a sentence may end with a token."""
        return np.array([token.lstrip(_PIECE + _SPACE) in _SENTENCE_ENDS for token in self.tokens])

    @cached_property
    def words(self) -> np.ndarray:
        """int32, the ids of all tokens that are not special."""
        return np.flatnonzero(~self.special).astype(np.int32)

    def text(self, number: int) -> str:
        """Returns what a token stands for in a text, without a mark of what is before it."""
        token = self.tokens[number]
        if self.kind == "bytes" and not self.special[number]:
            return decoders.ByteLevel().decode([token]).strip()
        if self.kind == "word pieces":
            return token.removeprefix(_CONTINUES) or token
        return token.lstrip(_PIECE)


def _tokens_of(tokenizer: keras_hub.tokenizers.Tokenizer) -> tuple[str, ...]:
    if isinstance(tokenizer, _hub.BytePairTokenizer):
        return tuple(sorted(tokenizer.vocabulary, key=tokenizer.vocabulary.get))
    return tuple(map(str, tokenizer.get_vocabulary()))
