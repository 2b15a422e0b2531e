"""Unigram models in a graph: the ids and the text of the tokenizer outside of it."""

import itertools
import json

import hypothesis.strategies as st
import pytest
import tensorflow as tf
from hypothesis import example, given, settings

from kerasllm.data.tokenizers import TokenizerJson
from kerasllm.data.tokenizers.joint import train_tokenizer
from kerasllm.export.graph_unigram import GraphUnigram

_TEXTS = ["A dog sleeps in the garden.", "Ein Hund schläft im Garten.", "The cats sing, 12 times!"]
HARD = st.sampled_from(
    [
        *("</s>", "<s>", "<pad>", "<unk>", "</", "s>", " ", "  ", "\n", "\t", "\u00a0", "\u3000"),
        *("dog", " garden", "Hund", "schläft", "12", "½", "ﬁ", "é", "ß", "中", "…", "▁", "!"),
        "Ａ",
    ]
)
TEXTS = st.lists(st.lists(HARD, max_size=10).map("".join), min_size=1, max_size=5)


@pytest.fixture(scope="module")
def both():
    tokenizer = train_tokenizer(_TEXTS * 20, 90, "unigram")
    assert GraphUnigram.is_unigram(tokenizer) and GraphUnigram.refusal(tokenizer) is None
    graph = GraphUnigram(tokenizer)

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string)])
    def there_and_back(texts):
        ids = graph.tokens(texts)
        return ids, graph.text(ids)

    return tokenizer, there_and_back


@settings(max_examples=60)
@given(texts=TEXTS)
@example(texts=["", " ", "</s>", " </s> dog", "dog </s>", *_TEXTS])
def test_ids_and_texts_are_those_of_the_tokenizer(both, texts):
    tokenizer, there_and_back = both
    ids, found = there_and_back(tf.constant(texts))
    expected, offsets = tokenizer.encode(texts, 1 << 20)
    rows = [expected[a:b].tolist() for a, b in itertools.pairwise(offsets)]
    assert ids.to_list() == rows
    written = [text.decode() for text in found.numpy()]
    assert written == [tokenizer.decode(row) for row in rows]


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"normalizer": {"type": "Lowercase"}}, "normalizes texts differently"),
        ({"pre_tokenizer": {"type": "Whitespace"}}, "splits words differently"),
    ],
)
def test_what_sentencepiece_does_not_do_is_refused(both, change, why):
    content = json.loads(both[0].content)
    assert why in GraphUnigram.refusal(TokenizerJson(json.dumps({**content, **change})))
