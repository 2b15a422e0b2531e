"""Byte-level BPE in a graph: the ids and the text of the tokenizer outside of it."""

import itertools
import json

import hypothesis.strategies as st
import pytest
import tensorflow as tf
from hypothesis import example, given, settings

from kerasllm.data.tokenizers import ByteLevelBPE, TokenizerJson, train_byte_level_bpe
from kerasllm.export.graph_byte_level_bpe import GraphByteLevelBPE

_SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im|>", "<mask>")
_BOOK = ["Call me Ishmael. Some years ago--never mind how long precisely--having little money"]
HARD = st.sampled_from(
    [
        *(*_SPECIAL, "<|", "|>", " ", "  ", "\n", "\t", "\r", "\x0b", "\u00a0", "\u3000", "\x85"),
        *("'s", "'LL", "'", "don't", "the", " me", "Ishmael", "12", "3", "٣", "½", "é", "e\u0301"),
        *("中", "가", "ſ", "…", "!", "?!", "\x00", "\x01", "\x02", "\x1c", "\ufffd", "\u200d"),
    ]
)
TEXTS = st.lists(
    st.one_of(st.text(max_size=20), st.lists(HARD, max_size=12).map("".join)),
    min_size=1,
    max_size=6,
)


def _trained(digits: bool) -> TokenizerJson:
    trained = train_byte_level_bpe(_BOOK * 3, 320, special_tokens=_SPECIAL)
    content = json.loads(trained.content)
    if digits:
        split = {"type": "Digits", "individual_digits": True}
        steps = {"type": "Sequence", "pretokenizers": [split, content["pre_tokenizer"]]}
        content["pre_tokenizer"] = steps
    return TokenizerJson(json.dumps(content), end_token=_SPECIAL[0], start_token=_SPECIAL[1])


def _roberta() -> ByteLevelBPE:
    content = json.loads(_trained(digits=False).content)["model"]
    names = dict(start_token="<|im_start|>", end_token="<|endoftext|>", mask_token="<mask>")
    merges = [" ".join(merge) for merge in content["merges"]]
    return ByteLevelBPE(content["vocab"], merges, **names, add_prefix_space=True)


@pytest.fixture(scope="module", params=["gpt2", "digits", "roberta"])
def both(request):
    tokenizer = _roberta() if request.param == "roberta" else _trained(request.param == "digits")
    assert GraphByteLevelBPE.refusal(tokenizer) is None
    graph = GraphByteLevelBPE(tokenizer)

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string)])
    def there_and_back(texts):
        ids = graph.rows(texts, 40)
        return ids, graph.text(ids)

    return tokenizer, there_and_back


@settings(max_examples=60)
@given(TEXTS)
@example(["", " ", "   ", "a  b", "a  1  2", "a \n b\n\n c", "  \t\n"])
@example(["a \u3000\n<mask>", "a\x1c<mask> b", " <mask><mask>  <mask>"])
@example(["<|im_start|>user\nHi<|im|> <mask>", "<|endoftext|><|endoftext|>", "<|im_<|im|>"])
def test_ids_and_text_are_those_of_the_tokenizer(both, texts):
    tokenizer, there_and_back = both
    ids, offsets = tokenizer.encode(texts, 40)
    expected = [ids[start:end].tolist() for start, end in itertools.pairwise(offsets)]
    rows, back = there_and_back(tf.constant(texts))
    assert rows.to_list() == expected
    if isinstance(tokenizer, TokenizerJson):
        assert [text.decode() for text in back.numpy()] == [tokenizer.decode(r) for r in expected]


def test_no_texts(both):
    assert both[1](tf.constant([], tf.string))[0].to_list() == []


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"normalizer": {"type": "NFC"}}, "NFC"),
        ({"pre_tokenizer": {"type": "Whitespace"}}, "another rule"),
    ],
)
def test_what_is_not_exact_is_refused(change, why):
    content = json.loads(_trained(digits=False).content)
    assert why in GraphByteLevelBPE.refusal(TokenizerJson(json.dumps({**content, **change})))
