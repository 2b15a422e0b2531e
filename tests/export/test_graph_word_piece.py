"""WordPiece in a graph: the ids of the tokenizer outside of it, whatever the text."""

import itertools

import hypothesis.strategies as st
import pytest
import tensorflow as tf
from hypothesis import example, given, settings

from kerasllm.data.tokenizers import WordPiece
from kerasllm.export.graph_word_piece import GraphWordPiece

VOCABULARY = [
    *("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "[unused]"),
    *("a", "b", "ab", "##a", "##b", "##bc", "abcd", "film", "##s", "é", "e", "É", "##é", "ß"),
    *("ss", ".", "[", "]", "!", "中", "##中", "i", "I", "...", "ﬁ", "fi", "a b", "α", "##α", "1"),
    # Twice, in which case the last place counts.
    *("b", "##", "\ue000", "ᄀ", "##ᅡ"),
]
HARD = st.sampled_from(
    [
        *("[MASK]", "[SEP]", "[MA", "SK]", "[unused]", " ", "\t", "\n", "\u00a0", "\u3000", "\x00"),
        *("ab", "abcd", "abc", "films", "É", "e\u0301", "ß", "ﬁ", "İ", "中", "가", "…", "，", "Α"),
        *("\ufffd", "\u200d", "\ue000", "\ue001", "\x7f", "a" * 100, "a" * 101, "é" * 60, "!", "1"),
    ]
)
TEXTS = st.lists(
    st.one_of(st.text(max_size=20), st.lists(HARD, max_size=12).map("".join)),
    min_size=1,
    max_size=6,
)


def _both(lowercase: bool, strip_accents: bool | None, **more):
    tokenizer = WordPiece(
        VOCABULARY,
        lowercase,
        strip_accents=strip_accents,
        special_tokens=["[unused]"],
        **more,
    )
    graph = GraphWordPiece(tokenizer)
    return tokenizer, tf.function(
        lambda texts: graph.rows(texts, 12), input_signature=[tf.TensorSpec([None], tf.string)]
    )


@pytest.fixture(scope="module", params=[(True, None), (False, None), (True, False)], ids=str)
def both(request):
    return _both(*request.param)


@settings(max_examples=60)
@given(TEXTS)
@example(["a" * 100 + " b", "a" * 101 + " b", "é" * 100, "é" * 101])
@example(["", " ", "[SEP][MASK]x", "[[MASK]]"])
@example(["ab abc abbc abx x", "a\ue000b", "[MA\ue001SK]", "a\x00b"])
def test_ids_are_those_of_the_tokenizer(both, texts):
    tokenizer, rows = both
    ids, offsets = tokenizer.encode(texts, 12)
    expected = [ids[start:end].tolist() for start, end in itertools.pairwise(offsets)]
    assert rows(tf.constant(texts)).to_list() == expected


def test_another_mark_of_pieces_inside_words():
    vocabulary = [*VOCABULARY[:6], "film", "@@s", "s"]
    tokenizer = WordPiece(vocabulary, True, suffix_indicator="@@", special_tokens=["[unused]"])
    rows = GraphWordPiece(tokenizer).rows(tf.constant(["films s"]))
    assert rows.to_list() == [[2, 6, 7, 8, 3]]


def test_no_texts_and_empty_texts(both):
    _, rows = both
    assert rows(tf.constant([], tf.string)).to_list() == []
    assert rows(tf.constant(["", ""])).to_list() == [[2, 3], [2, 3]]
