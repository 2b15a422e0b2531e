"""Two texts become one row as in Hugging Face `tokenizers`: ids, segments, spans and truncation."""

import keras_hub
import pytest
import tokenizers
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizer_kinds import learn_sentence_pieces
from tokenizer_references import (
    reference_pairs,
    rows_of_encoding,
    texts_of_all_kinds,
    word_piece_reference,
)

from kerasllm.data.tokenizers import (
    ByteLevelBPE,
    KerasHubTokenizer,
    PairTemplate,
    TokenizerJson,
    WordPiece,
    from_keras_hub,
)
from kerasllm.errors import DataError

hub = keras_hub.tokenizers


@settings(max_examples=25, deadline=None)
@given(
    pairs=st.lists(st.tuples(texts_of_all_kinds(), texts_of_all_kinds()), max_size=6),
    max_length=st.integers(6, 40) | st.just(512),
)
def test_any_pair_is_cut_at_its_longer_text_as_the_reference_does(kind, pairs, max_length):
    ours, reference = kind
    expected = reference_pairs(reference, pairs, max_length, "longest_first")
    first, second = ([pair[place] for pair in pairs] for place in (0, 1))
    assert rows_of_encoding(ours.encode_pairs(first, second, max_length, spans=True)) == expected
    without = rows_of_encoding(ours.encode_pairs(first, second, max_length))
    assert without == [(ids, None, segments) for ids, _, segments in expected]


@settings(max_examples=25, deadline=None)
@given(first=texts_of_all_kinds(), second=texts_of_all_kinds(), max_length=st.integers(6, 80))
def test_only_the_second_text_is_cut_where_the_reference_can(kind, first, second, max_length):
    ours, reference = kind
    settings = {"truncation": "only_second", "spans": True}
    try:
        expected = reference_pairs(reference, [(first, second)], max_length, "only_second")
    except Exception:  # tokenizers has no exception class of its own
        with pytest.raises(DataError, match="leaves no room for the second text"):
            ours.encode_pairs([first], [second], max_length, **settings)
    else:
        found = ours.encode_pairs([first], [second], max_length, **settings)
        assert rows_of_encoding(found) == expected


def test_all_lengths_are_cut_as_the_reference_does(uncased_vocabulary):
    ours = WordPiece(uncased_vocabulary, True)
    reference = word_piece_reference(uncased_vocabulary, True)
    pairs = [("a " * first, "good " * second) for first in range(9) for second in range(9)]
    first, second = zip(*pairs)
    for max_length in range(5, 24):
        expected = reference_pairs(reference, pairs, max_length, "longest_first")
        found = ours.encode_pairs(first, second, max_length, spans=True)
        assert rows_of_encoding(found) == expected


def test_many_pairs_keep_their_order_over_threads(uncased_vocabulary, reviews):
    ours = WordPiece(uncased_vocabulary, True)
    reference = word_piece_reference(uncased_vocabulary, True)
    first, second = [*reviews] * 2, [*reviews[::-1]] * 2
    expected = reference_pairs(reference, list(zip(first, second)), 48, "longest_first")
    assert rows_of_encoding(ours.encode_pairs(first, second, 48, spans=True)) == expected


@pytest.mark.parametrize("family", ["albert", "xlm_roberta"])
def test_pairs_of_sentence_pieces(request, reviews, family):
    ours, folder = request.getfixturevalue(family)
    reference = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
    first, second = [*reviews[:200], ""], [*reviews[200:400], "naïve CAFÉ — 5 €"]
    for max_length in (7, 24, 512):
        expected = reference_pairs(reference, list(zip(first, second)), max_length, "longest_first")
        found = ours.encode_pairs(first, second, max_length, spans=True)
        assert rows_of_encoding(found) == expected


def test_what_joins_the_texts_of_each_family(
    uncased_vocabulary, byte_level_bpe, reviews, albert, xlm_roberta
):
    deberta = KerasHubTokenizer(learn_sentence_pieces(reviews, "deberta"))
    plain = KerasHubTokenizer(hub.WordPieceTokenizer(uncased_vocabulary))
    families = [
        (WordPiece(uncased_vocabulary), ((3,), 3, 1)),
        (from_keras_hub(hub.ElectraTokenizer(uncased_vocabulary)), ((3,), 3, 1)),
        (from_keras_hub(hub.RobertaTokenizer(*byte_level_bpe)), ((2, 2), 4, 0)),
        (from_keras_hub(hub.BartTokenizer(*byte_level_bpe)), ((2, 2), 4, 0)),
        (KerasHubTokenizer(hub.RobertaTokenizer(*byte_level_bpe)), ((2, 2), 4, 0)),
        (ByteLevelBPE(*byte_level_bpe), ((), 0, 1)),
        (ByteLevelBPE(*byte_level_bpe, start_token="<s>", end_token="<s>"), ((), 2, 1)),
        (albert[0], ((3,), 3, 1)),
        (xlm_roberta[0], ((2, 2), 4, 0)),
        (deberta, ((2,), 3, 1)),
        (plain, ((), 0, 1)),
    ]
    for tokenizer, expected in families:
        found = (
            tokenizer.pair_separator_ids,
            tokenizer.pair_special_tokens,
            tokenizer.second_segment,
        )
        assert found == expected, tokenizer.description


def test_a_template_counts_only_if_a_text_alone_starts_as_it_says(uncased_vocabulary):
    content = word_piece_reference(uncased_vocabulary, True).to_str()
    honoured = TokenizerJson(content, start_token="[CLS]")
    assert honoured.pair_template == PairTemplate.bert(2, 3)
    other = TokenizerJson(content)
    assert other.pair_template == PairTemplate.plain(None, None)
    assert other.fingerprint != honoured.fingerprint


@pytest.mark.parametrize("kind", ["Bert", "Roberta"])
def test_the_other_post_processors_have_a_template_too(kind):
    processor = {"type": f"{kind}Processing", "sep": ["</s>", 7], "cls": ["<s>", 5]}
    build = {"Bert": PairTemplate.bert, "Roberta": PairTemplate.roberta}[kind]
    assert PairTemplate.from_post_processor(processor) == build(5, 7)
    nested = {"type": "Sequence", "processors": [processor, {"type": "ByteLevel"}]}
    assert PairTemplate.from_post_processor(nested) == build(5, 7)
    assert PairTemplate.from_post_processor(None) is None


def test_the_pair_without_room_is_named(uncased_vocabulary):
    ours = WordPiece(uncased_vocabulary, True)
    with pytest.raises(DataError, match="first text of pair 2 has 9 tokens.*has 12 tokens, 3 of"):
        ours.encode_pairs(["a", "a " * 9], ["a", "a"], 12, truncation="only_second")


def test_what_cannot_be_encoded_is_refused(uncased_vocabulary):
    ours = WordPiece(uncased_vocabulary, True)
    with pytest.raises(ValueError, match="Received: 2 first and 1 second"):
        ours.encode_pairs(["a", "b"], ["a"], 8)
    with pytest.raises(ValueError, match="truncation='only_first'"):
        ours.encode_pairs(["a"], ["a"], 8, truncation="only_first")
    with pytest.raises(ValueError, match="beside 3 special ones. Received: max_length=4"):
        ours.encode_pairs(["a"], ["a"], 4)
    with pytest.raises(DataError, match="Text 1 of 1 is not valid Unicode"):
        ours.encode_pairs(["a"], ["a\ud83d"], 8)
    assert len(ours.encode_pairs([], [], 8, spans=True)) == 0
