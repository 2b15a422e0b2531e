"""Trains a WordPiece vocabulary on text, deterministically."""

from __future__ import annotations

from collections.abc import Iterable

import tokenizers
from tokenizers import models, normalizers, pre_tokenizers, trainers

SPECIAL_TOKENS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
"""The first tokens of a vocabulary, as BERT's has them."""

_CONTINUES = "##"
# Characters beyond the most frequent ones become [UNK], as a text may hold any.
_MOST_CHARACTERS = 1000
_WORD = "\u2581"


def train_word_piece(
    texts: Iterable[str],
    vocabulary_size: int,
    *,
    lowercase: bool = True,
    min_frequency: int = 2,
) -> list[str]:
    """Learns the vocabulary of BERT's kind of tokenizer. The same text gives the same vocabulary.

    The trainer for WordPiece of Hugging Face `tokenizers` merges frequent pairs as BPE does, and
    takes words in an order that differs between processes; so merges are learned by its trainer
    for BPE, from words with a mark before them, and written as WordPiece has them.

    Args:
        texts: The texts.
        vocabulary_size: The maximum number of tokens. Fewer come out where the text has no more
            pairs that are frequent enough; at least the characters of the text are there.
        lowercase: Whether text is lower-cased and loses its accents. Defaults to `True`.
        min_frequency: How often a pair must stand in the text to be merged. Defaults to `2`.

    Returns:
        The tokens in the order of their ids: `SPECIAL_TOKENS`, characters, merges.

    Reference:
        [Sennrich et al., 2016](https://arxiv.org/abs/1508.07909).

    Example:

    ```python
    vocabulary = train_word_piece(["Call me Ishmael. Some years ago..."], 4096)
    tokenizer = WordPiece(vocabulary, lowercase=True)
    ```
    """
    engine = tokenizers.Tokenizer(models.BPE())
    engine.normalizer = normalizers.BertNormalizer(lowercase=lowercase)
    engine.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.BertPreTokenizer(),
            pre_tokenizers.Metaspace(replacement=_WORD, prepend_scheme="always", split=False),
        ]
    )
    engine.train_from_iterator(
        texts,
        trainers.BpeTrainer(
            vocab_size=vocabulary_size,
            min_frequency=min_frequency,
            limit_alphabet=_MOST_CHARACTERS,
            show_progress=False,
        ),
    )
    learned = engine.get_vocab()
    in_order = sorted(learned, key=learned.get)
    characters = [token for token in in_order if len(token) == 1 and token != _WORD]
    found = dict.fromkeys([*SPECIAL_TOKENS, *characters])
    found |= dict.fromkeys(_CONTINUES + token for token in characters)
    for token in in_order:
        if len(found) >= vocabulary_size:
            break
        if len(token) > 1:
            begins = token.startswith(_WORD)
            found[token.removeprefix(_WORD) if begins else _CONTINUES + token] = None
    return list(found)
