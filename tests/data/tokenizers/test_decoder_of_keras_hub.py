"""The tokenizers of KerasHub's language models give KerasHub's ids."""

import io
import json

import keras_hub
import pytest
import sentencepiece
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, pre_tokenizers
from tokenizers.trainers import BpeTrainer

from kerasllm.data.tokenizers import decoder_of_keras_hub
from kerasllm.errors import PresetError
from tests.data.tokenizers.tokenizer_references import STRANGE_CHARACTERS, WORDS

hub = keras_hub.tokenizers

FRAGMENTS = [
    *WORDS,
    "IT'LL",
    "it's",
    "(so)",
    "--",
    "...",
    "7",
    "1851",
    "早い",
    "😀",
    " ",
    "  ",
    "\n",
]
TEXTS = st.lists(st.sampled_from([*FRAGMENTS, " "]), max_size=12).map("".join)
SENTENCES = st.lists(st.sampled_from([word for word in FRAGMENTS if word.strip()])).map(" ".join)
STRANGE_TEXTS = st.one_of(
    TEXTS,
    st.text(max_size=20),
    st.lists(st.sampled_from([*FRAGMENTS, *STRANGE_CHARACTERS]), max_size=12).map("".join),
)


@pytest.fixture(scope="module")
def byte_pairs(reviews):
    """What a KerasHub tokenizer with some special tokens is made of."""

    def make(*special):
        engine = Tokenizer(models.BPE())
        engine.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        return learned(engine, [*reviews, *FRAGMENTS * 3], special)

    return make


def learned(engine, texts, special):
    """Trains byte-level BPE; returns what KerasHub takes of it."""
    trainer = BpeTrainer(
        vocab_size=900,
        special_tokens=list(special),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    engine.train_from_iterator(texts, trainer)
    model = json.loads(engine.to_str())["model"]
    return {"vocabulary": model["vocab"], "merges": [" ".join(merge) for merge in model["merges"]]}


@pytest.fixture(scope="module")
def proto(reviews):
    """Trains a SentencePiece model as those of Llama, Mistral and Gemma are."""

    def make(**settings):
        model = io.BytesIO()
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter([*reviews, *FRAGMENTS * 3]),
            model_writer=model,
            minloglevel=2,
            **{
                "model_type": "bpe",
                "vocab_size": 900,
                "byte_fallback": True,
                "normalization_rule_name": "identity",
                "remove_extra_whitespaces": False,
                **settings,
            },
        )
        return model.getvalue()

    return make


def test_gpt2_splits_words_as_keras_hub_does_in_a_graph(byte_pairs):
    theirs = hub.GPT2Tokenizer(**byte_pairs("<|endoftext|>"))
    ours = decoder_of_keras_hub(theirs, add_start=True)
    in_a_graph = tf.function(theirs, input_signature=[tf.TensorSpec([None], tf.string)])

    @settings(max_examples=25)
    @given(st.lists(TEXTS.filter(lambda text: text == text.strip() != ""), min_size=1))
    def same(texts):
        expected = in_a_graph(tf.constant(texts)).to_list()
        assert [ours.encode_whole(text) for text in texts] == expected

    same()
    assert ours.encode(["Call"], 99)[0].tolist() == [0, *ours.encode_whole("Call")]
    assert ours.stop_token_ids == (0,) and ours.pad_token_id == 0
    assert ours.encode_whole("a<|endoftext|>").count(0) == 1
    assert decoder_of_keras_hub(theirs, add_start=False).start_token is None


@pytest.mark.parametrize(
    ("kind", "special", "start", "stops"),
    [
        (
            hub.Llama3Tokenizer,
            ("<|begin_of_text|>", "<|end_of_text|>", "<|eot_id|>", "<|start_header_id|>",
             "<|end_header_id|>", "<|reserved_special_token_0|>"),
            "<|begin_of_text|>",
            (1, 2),
        ),
        (hub.QwenTokenizer, ("<|endoftext|>", "<|im_start|>", "<|im_end|>"), None, (0,)),
        (hub.Qwen3Tokenizer, ("<|endoftext|>", "<|im_start|>", "<|im_end|>"), None, (2,)),
    ],
)  # fmt: skip
def test_llama_3_and_qwen_give_the_ids_of_keras_hub(
    byte_pairs, reviews, kind, special, start, stops
):
    # Outside of a graph KerasHub 0.32 does not split words, as its pattern is taken literally. With
    # tokens that were learned within words, that makes no difference for ordinary sentences.
    rule = decoder_of_keras_hub(kind(**byte_pairs(*special)), add_start=True).content
    theirs = kind(**learned(Tokenizer.from_str(rule), [*reviews, *FRAGMENTS * 3], special))
    ours = decoder_of_keras_hub(theirs, add_start=True)

    @given(SENTENCES)
    def same(text):
        assert ours.encode_whole(text) == [int(id) for id in theirs(text)]

    same()
    assert ours.start_token == start and ours.stop_token_ids == stops
    # Also those that KerasHub does not name, which chats are written with.
    assert ours.encode_whole("".join(special)) == list(range(len(special)))
    assert ours.special_token_ids == {*range(len(special))}


@pytest.mark.parametrize(
    ("kind", "changes", "start", "stop"),
    [
        (hub.MistralTokenizer, {}, "<s>", "</s>"),
        (hub.LlamaTokenizer, {}, "<s>", "</s>"),
        (
            hub.GemmaTokenizer,
            {
                "pad_id": 0,
                "eos_id": 1,
                "bos_id": 2,
                "unk_id": 3,
                "pad_piece": "<pad>",
                "eos_piece": "<eos>",
                "bos_piece": "<bos>",
                "add_dummy_prefix": False,
            },
            "<bos>",
            "<eos>",
        ),
    ],
)
def test_sentence_pieces_give_the_ids_of_keras_hub(proto, kind, changes, start, stop):
    theirs = kind(proto=proto(**changes))
    ours = decoder_of_keras_hub(theirs, add_start=True)

    # SentencePiece ends a text at a zero byte, and replaces what is no text.
    @given(STRANGE_TEXTS.map(lambda text: text.replace("\0", "").replace("\u2581", "")))
    def same(text):
        assert ours.encode_whole(text) == [int(id) for id in theirs(text)]
        assert ours.decode(ours.encode_whole(text)) == text

    same()
    assert (ours.start_token, ours.end_token) == (start, stop)
    assert ours.vocabulary_size == theirs.vocabulary_size()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"model_type": "unigram", "vocab_size": 500}, "with a unigram model"),
        ({"normalization_rule_name": "nmt_nfkc"}, "changes a text first"),
    ],
)
def test_other_sentence_pieces_are_refused(proto, changes, words):
    theirs = hub.MistralTokenizer(proto=proto(**changes))
    with pytest.raises(PresetError, match=words) as error:
        decoder_of_keras_hub(theirs, add_start=True, where="some_preset")
    assert error.value.where == "some_preset"


def test_a_tokenizer_with_a_rule_of_its_own_is_refused(byte_pairs):
    theirs = hub.FalconTokenizer(**byte_pairs("<|endoftext|>"))
    with pytest.raises(PresetError, match="a FalconTokenizer, which kerasllm does not read"):
        decoder_of_keras_hub(theirs, add_start=True)
