"""Vocabularies that are learned once, from the bundled film reviews; tokenizers of every kind with
their references; and the way for the tests of this folder to their helper `tokenizer_references`.
"""

import io
import json
import sys
from pathlib import Path

import keras_hub
import pytest
import sentencepiece
from tokenizers import AddedToken, Tokenizer, models, normalizers, pre_tokenizers
from tokenizers.processors import ByteLevel, RobertaProcessing, Sequence, TemplateProcessing
from tokenizers.trainers import BpeTrainer, WordPieceTrainer

from kerasllm.data.sources import Source
from kerasllm.data.tokenizers import (
    ByteLevelBPE,
    TokenizerJson,
    WordPiece,
    from_folder,
    from_gguf,
    from_keras_hub,
    save_huggingface_tokenizer,
)
from tests.data.tokenizers.gguf_parts import gguf_parts

sys.path.insert(0, str(Path(__file__).parent))

from tokenizer_references import SPECIAL_TOKENS, word_piece_reference  # noqa: E402

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


CHAT = Path(__file__).parents[2] / "reference" / "chat"

KINDS = [
    *["bert-uncased", "bert-cased", "roberta", "roberta-prefix", "gpt2"],
    *["json-chat", "json-llama3", "json-bert", "json-byte-fallback", "json-unigram"],
]


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
        reference.post_processor = pair_template("<0> $A", "<0> $A <1> $B:1 <1>:1", "[CLS]", "[SEP]")
    else:
        _, folder = get("xlm_roberta")
        reference = Tokenizer.from_file(str(folder / "tokenizer.json"))
        reference.no_truncation()
        reference.post_processor = pair_template("$A", "$A <0> <0> $B", "</s>")
    first = json.loads(reference.to_str())["post_processor"]
    first = first.get("processors", [first])[-1]["single"][0].get("SpecialToken")
    return TokenizerJson(reference.to_str(), start_token=first and first["id"]), reference


def byte_level_kind(vocabulary, merges, family, add_prefix_space):
    """RoBERTa's or GPT-2's tokenizer, and the one that its `tokenizer.json` describes."""
    names = {"start_token": "<s>", "end_token": "</s>", "pad_token": "<pad>"}
    others = {"mask_token": "<mask>", "special_tokens": ["<unk>"]}
    settings = {**(names if family == "roberta" else {}), **others}
    ours = ByteLevelBPE(vocabulary, merges, **settings, add_prefix_space=add_prefix_space)
    reference = Tokenizer(models.BPE(vocabulary, [tuple(merge.split()) for merge in merges]))
    reference.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=add_prefix_space)
    plain = ["<s>", "<pad>", "</s>", "<unk>"] if family == "roberta" else ["<unk>"]
    reference.add_special_tokens(
        [*map(AddedToken, plain), AddedToken("<mask>", lstrip=True, normalized=False)]
    )
    if family == "roberta":
        reference.post_processor = RobertaProcessing(
            *((token, vocabulary[token]) for token in ("</s>", "<s>")),
            add_prefix_space=add_prefix_space,
        )
    else:
        reference.post_processor = ByteLevel(trim_offsets=False)
    return ours, reference


def llama3_reference(vocabulary, merges):
    """Llama 3's post-processor: spans without spaces, and a start token before each text."""
    reference = Tokenizer(models.BPE(vocabulary, [tuple(merge.split()) for merge in merges]))
    reference.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    reference.add_special_tokens([AddedToken("<s>", normalized=False)])
    template = pair_template("<0> $A", "<0> $A <0>:1 $B:1", "<s>", ids=vocabulary)
    reference.post_processor = Sequence([ByteLevel(trim_offsets=True), template])
    return reference


def pair_template(single, pair, *tokens, ids=None):
    """A template in which `<0>` and `<1>` are the tokens that are given."""
    for number, token in enumerate(tokens):
        single, pair = (text.replace(f"<{number}>", token) for text in (single, pair))
    known = ids or {"[CLS]": 2, "[SEP]": 3, "</s>": 2}
    special = [(token, known[token]) for token in tokens]
    return TemplateProcessing(single=single, pair=pair, special_tokens=special)


SENTENCE_PIECES = {
    "albert": (
        keras_hub.tokenizers.AlbertTokenizer,
        {
            **{"pad_id": 0, "unk_id": 1, "bos_id": 2, "eos_id": 3, "pad_piece": "<pad>"},
            **{"bos_piece": "[CLS]", "eos_piece": "[SEP]", "user_defined_symbols": "[MASK]"},
        },
    ),
    "xlm_roberta": (
        keras_hub.tokenizers.XLMRobertaTokenizer,
        {"unk_id": 0, "bos_id": 1, "eos_id": 2},
    ),
    "deberta": (
        keras_hub.tokenizers.DebertaV3Tokenizer,
        {
            **{"pad_id": 0, "bos_id": 1, "eos_id": 2, "unk_id": 3, "pad_piece": "[PAD]"},
            **{"bos_piece": "[CLS]", "eos_piece": "[SEP]", "unk_piece": "[UNK]"},
        },
    ),
}


def learn_sentence_pieces(reviews, family):
    """KerasHub's tokenizer of a SentencePiece model with 800 tokens."""
    kind, special_tokens = SENTENCE_PIECES[family]
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(reviews),
        model_writer=model,
        vocab_size=800,
        num_threads=1,
        minloglevel=2,
        **special_tokens,
    )
    return kind(model.getvalue())


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
