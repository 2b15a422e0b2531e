"""Vocabularies that are learned once, from the bundled film reviews; tokenizers of every kind with
their references; and the way for the tests of this folder to their helpers, `tokenizer_kinds` and
`tokenizer_references`.
"""

import json
import sys
from pathlib import Path

import pytest
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers
from tokenizers.trainers import BpeTrainer, WordPieceTrainer

from kerasllm.data.readers.sources import Source
from kerasllm.data.tokenizers import (
    TokenizerJson,
    WordPiece,
    from_folder,
    from_gguf,
    from_keras_hub,
    save_huggingface_tokenizer,
)
from tests.data.tokenizers.gguf_parts import gguf_parts

sys.path.insert(0, str(Path(__file__).parent))

from tokenizer_kinds import (
    KINDS,
    byte_level_kind,
    learn_sentence_pieces,
    llama3_reference,
    pair_template,
)
from tokenizer_references import SPECIAL_TOKENS, word_piece_reference

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
    trainer = WordPieceTrainer(vocab_size=2000, special_tokens=SPECIAL_TOKENS, show_progress=False)
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


CHAT = Path(__file__).parents[2] / "reference" / "chat"


@pytest.fixture(scope="session", params=KINDS)
def kind(request):
    """A tokenizer of each kind, and Hugging Face's."""
    family, _, detail = request.param.partition("-")
    get = request.getfixturevalue
    if family == "bert":
        vocabulary = get(f"{detail}_vocabulary")
        lowercase = detail == "uncased"
        return WordPiece(vocabulary, lowercase), word_piece_reference(vocabulary, lowercase)
    if family in ("roberta", "gpt2"):
        return byte_level_kind(*get("byte_level_bpe"), family, detail == "prefix")
    if detail == "chat":
        return from_folder(CHAT), Tokenizer.from_file(str(CHAT / "tokenizer.json"))
    if detail == "byte-fallback":
        ours = from_gguf(gguf_parts("llama"))
        reference = Tokenizer.from_str(ours.content)
        ids = {ours.start_token: ours.start_token_id}
        reference.post_processor = pair_template("<0> $A", "<0> $A $B:1", *ids, ids=ids)
        return ours, reference
    if detail == "llama3":
        reference = llama3_reference(*get("byte_level_bpe"))
    elif detail == "bert":
        reference = word_piece_reference(get("cased_vocabulary"), False)
        # A `TokenizerJson` puts no token after a text.
        pair = "<0> $A <1> $B:1 <1>:1"
        reference.post_processor = pair_template("<0> $A", pair, "[CLS]", "[SEP]")
    else:
        _, folder = get("xlm_roberta")
        reference = Tokenizer.from_file(str(folder / "tokenizer.json"))
        reference.no_truncation()
        reference.post_processor = pair_template("$A", "$A <0> <0> $B", "</s>")
    first = json.loads(reference.to_str())["post_processor"]
    first = first.get("processors", [first])[-1]["single"][0].get("SpecialToken")
    return TokenizerJson(reference.to_str(), start_token=first and first["id"]), reference


def sentence_piece_kind(reviews, family, folder):
    tokenizer = learn_sentence_pieces(reviews, family)
    save_huggingface_tokenizer(tokenizer, folder, 512)
    return from_keras_hub(tokenizer), folder


@pytest.fixture(scope="session")
def albert(reviews, tmp_path_factory):
    """ALBERT's tokenizer, and the folder with its `tokenizer.json`."""
    return sentence_piece_kind(reviews, "albert", tmp_path_factory.mktemp("albert"))


@pytest.fixture(scope="session")
def xlm_roberta(reviews, tmp_path_factory):
    """XLM-RoBERTa's tokenizer, and the folder with its `tokenizer.json`."""
    return sentence_piece_kind(reviews, "xlm_roberta", tmp_path_factory.mktemp("xlm_roberta"))
