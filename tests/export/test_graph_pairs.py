"""Pairs of texts in a graph: the rows of Hugging Face `tokenizers`, however they are cut."""

import json

import hypothesis.strategies as st
import pytest
import tensorflow as tf
import tokenizers
from hypothesis import example, given, settings
from tokenizers import processors

from kerasllm.data.tokenizers import ByteLevelBPE, WordPiece, train_byte_level_bpe
from kerasllm.export.graph_byte_level_bpe import GraphByteLevelBPE
from kerasllm.export.graph_word_piece import GraphWordPiece

WORDS = ["a", "b", "ab", "##a", "##b", "##bc", "film", "##s", "é", "e", ".", "!", "中", "1"]
VOCABULARY = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS]
TEXTS = st.one_of(
    st.text(max_size=12),
    st.lists(
        st.sampled_from(["a", "ab", " ", "film", "films", ".", "中", "é", "[SEP]", "<mask>"])
    ).map("".join),
)
PAIRS = st.lists(st.tuples(TEXTS, TEXTS), min_size=1, max_size=6)
MAX_LENGTH = 13


def word_piece():
    tokenizer = WordPiece(VOCABULARY, lowercase=True)
    reference = tokenizers.Tokenizer.from_str(tokenizer.reference.to_str())
    reference.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    return GraphWordPiece(tokenizer), reference


def roberta():
    trained = json.loads(train_byte_level_bpe(["a film ab films."] * 3, 280).content)["model"]
    # Four tokens more than the trained ones.
    vocabulary = dict(trained["vocab"])
    for token in ("<s>", "</s>", "<pad>", "<mask>"):
        vocabulary.setdefault(token, len(vocabulary))
    merges = [" ".join(merge) for merge in trained["merges"]]
    tokenizer = ByteLevelBPE(
        vocabulary,
        merges,
        start_token="<s>",
        end_token="</s>",
        pad_token="<pad>",
        mask_token="<mask>",
    )
    reference = tokenizers.Tokenizer.from_str(tokenizer.reference.to_str())
    end, start = vocabulary["</s>"], vocabulary["<s>"]
    reference.post_processor = processors.RobertaProcessing(
        ("</s>", end), ("<s>", start), trim_offsets=False, add_prefix_space=False
    )
    graph = GraphByteLevelBPE(tokenizer)
    graph.separator_ids, graph.second_segment = (end, end), 0
    return graph, reference


@pytest.fixture(scope="module", params=["longest_first", "only_second"])
def truncation(request):
    return request.param


@pytest.fixture(scope="module", params=[word_piece, roberta])
def both(request, truncation):
    graph, reference = request.param()

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string)] * 2, autograph=False)
    def rows(first, second):
        return graph.pairs(first, second, MAX_LENGTH, truncation)

    return rows, reference


def expected_rows(reference, pairs, truncation):
    """The ids and segments of pairs; `None` for one that the reference refuses to cut."""
    reference.enable_truncation(MAX_LENGTH, strategy=truncation)
    found = []
    for pair in pairs:
        try:
            encoding = reference.encode(*pair)
        except BaseException:  # tokenizers has no exception class of its own
            found.append(None)
        else:
            found.append((encoding.ids, encoding.type_ids))
    return found


@settings(max_examples=60)
@given(PAIRS)
@example([("", ""), ("a", ""), ("", "a"), ("a b " * 20, "a"), ("a", "a b " * 20)])
@example([("a b " * first, "a b " * second) for first in range(1, 9) for second in range(1, 9)])
@example([("a " * first, "b " * second) for first in range(3, 9) for second in range(3, 9)])
def test_pairs_are_those_of_the_reference(both, truncation, pairs):
    rows, reference = both
    first, second = (tf.constant([pair[place] for pair in pairs]) for place in (0, 1))
    ids, segments = rows(first, second)
    expected = expected_rows(reference, pairs, truncation)
    for number, one in enumerate(expected):
        row = ids[number].numpy().tolist()
        if one is None:
            assert len(row) == MAX_LENGTH and truncation == "only_second"
        else:
            assert (row, segments[number].numpy().tolist()) == one


def test_no_pairs(both):
    ids, segments = both[0](tf.constant([], tf.string), tf.constant([], tf.string))
    assert ids.to_list() == segments.to_list() == []
