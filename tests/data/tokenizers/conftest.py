"""Vocabularies that are learned once, from the bundled film reviews; and the way for the tests of
this folder to their helper `tokenizer_references`."""

import json
import sys
from pathlib import Path

import pytest
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers
from tokenizers.trainers import BpeTrainer, WordPieceTrainer

from kerasllm.data.readers.sources import Source

sys.path.insert(0, str(Path(__file__).parent))

from tokenizer_references import SPECIAL_TOKENS  # noqa: E402

BEYOND_ENGLISH = ["été naïve Ёлка œuvre “quoted” — 5 € για"] * 3


@pytest.fixture(scope="session")
def reviews():
    """2,000 sentences."""
    return next(Source("starter:movie_reviews").batches(2000)).texts


@pytest.fixture(scope="session")
def uncased_vocabulary(reviews):
    """2,000 WordPiece tokens in the order of their ids."""
    return learn_word_piece(reviews, lowercase=True)


@pytest.fixture(scope="session")
def cased_vocabulary(reviews):
    """2,000 WordPiece tokens in the order of their ids."""
    return learn_word_piece(reviews, lowercase=False)


def learn_word_piece(texts, lowercase):
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=lowercase)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    trainer = WordPieceTrainer(
        vocab_size=2000, special_tokens=SPECIAL_TOKENS, show_progress=False
    )
    tokenizer.train_from_iterator([*texts, *BEYOND_ENGLISH], trainer)
    token_ids = tokenizer.get_vocab()
    return sorted(token_ids, key=token_ids.get)


@pytest.fixture(scope="session")
def byte_level_bpe(reviews):
    """The vocabulary and the merges of a byte-level BPE with 1,000 tokens, RoBERTa's special ones
    first."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = BpeTrainer(
        vocab_size=1000,
        special_tokens=["<s>", "<pad>", "</s>", "<unk>", "<mask>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator([*reviews, *BEYOND_ENGLISH], trainer)
    return tokenizer.get_vocab(), learned_merges(tokenizer)


def learned_merges(tokenizer):
    """The merges as `merges.txt` has them."""
    merges = json.loads(tokenizer.to_str())["model"]["merges"]
    return [merge if isinstance(merge, str) else " ".join(merge) for merge in merges]
