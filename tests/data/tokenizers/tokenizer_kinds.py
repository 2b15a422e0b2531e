"""Tokenizers of several kinds, each as Hugging Face describes it."""

import io

import keras_hub
import sentencepiece
from tokenizers import AddedToken, Tokenizer, models, pre_tokenizers
from tokenizers.processors import ByteLevel, RobertaProcessing, Sequence, TemplateProcessing

from kerasllm.data.tokenizers import ByteLevelBPE

KINDS = [
    *["bert-uncased", "bert-cased", "roberta", "roberta-prefix", "gpt2"],
    *["json-chat", "json-llama3", "json-bert", "json-byte-fallback", "json-unigram"],
]
"""What the fixture `kind` makes."""


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
            "pad_id": 0,
            "unk_id": 1,
            "bos_id": 2,
            "eos_id": 3,
            "pad_piece": "<pad>",
            "bos_piece": "[CLS]",
            "eos_piece": "[SEP]",
            "user_defined_symbols": "[MASK]",
        },
    ),
    "xlm_roberta": (
        keras_hub.tokenizers.XLMRobertaTokenizer,
        {"unk_id": 0, "bos_id": 1, "eos_id": 2},
    ),
    "deberta": (
        keras_hub.tokenizers.DebertaV3Tokenizer,
        {
            "pad_id": 0,
            "bos_id": 1,
            "eos_id": 2,
            "unk_id": 3,
            "pad_piece": "[PAD]",
            "bos_piece": "[CLS]",
            "eos_piece": "[SEP]",
            "unk_piece": "[UNK]",
        },
    ),
}


def learn_sentence_pieces(reviews, family, **settings):
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
        **settings,
    )
    return kind(model.getvalue())
