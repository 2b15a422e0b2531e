"""Each token knows its characters in the original text, as in Hugging Face `tokenizers`."""

import keras_hub
import numpy as np
import pytest
import tokenizers
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizer_kinds import KINDS, learn_sentence_pieces
from tokenizer_references import (
    SPECIAL_TOKENS,
    STRANGE_CHARACTERS,
    reference_spans,
    rows_of,
    rows_of_encoding,
    texts_of_all_kinds,
    word_piece_reference,
)

from kerasllm.data.tokenizers import KerasHubTokenizer, WordPiece, from_folder
from kerasllm.errors import DataError, PresetError


@settings(max_examples=40, deadline=None)
@given(
    texts=st.lists(texts_of_all_kinds(), max_size=8),
    max_length=st.integers(3, 40) | st.just(512),
)
def test_any_text_has_the_spans_of_the_reference(kind, texts, max_length):
    ours, reference = kind
    _make_fast(ours)
    found = rows_of_encoding(ours.encode_offsets(texts, max_length))
    assert found == reference_spans(reference, texts, max_length)
    assert [ids for ids, _, _ in found] == rows_of(ours, texts, max_length)


@pytest.mark.parametrize("lowercase", [True, False])
def test_every_character_has_the_spans_of_the_reference(uncased_vocabulary, lowercase):
    ours = WordPiece(uncased_vocabulary, lowercase)
    reference = word_piece_reference(uncased_vocabulary, lowercase)
    blocks = [(0, 0x3100), (0x4E00, 0x4E20), (0xA640, 0xAC20), (0xF8F0, 0xFFFF)]
    codes = [code for block in blocks for code in range(*block)]
    texts = [f"a {chr(code)} film{chr(code)} {chr(code)}films{chr(code) * 2}“é" for code in codes]
    found = rows_of_encoding(ours.encode_offsets(texts, 128))
    assert found == reference_spans(reference, texts, 128)


def _make_fast(tokenizer):
    """Makes the fast tokenizer of WordPiece, which few texts alone do not."""
    return getattr(tokenizer, "_fast", None)


def test_few_texts_do_not_wait_for_the_fast_path(uncased_vocabulary, reviews):
    ours = WordPiece(uncased_vocabulary, True)
    few = rows_of_encoding(ours.encode_offsets(reviews[:3], 64))
    assert "_fast" not in vars(ours)
    many = rows_of_encoding(ours.encode_offsets(list(reviews), 64))
    assert "_fast" in vars(ours) and many[:3] == few
    assert rows_of_encoding(ours.encode_offsets(reviews[:3], 64)) == few


def test_ordinary_text_takes_the_fast_path(uncased_vocabulary, reviews):
    ours = WordPiece(uncased_vocabulary, True)
    expected = reference_spans(word_piece_reference(uncased_vocabulary, True), list(reviews), 64)
    ours._exact = None
    plain = np.flatnonzero(ours._fast.holds(reviews))
    assert len(plain) > len(reviews) - 5
    found = rows_of_encoding(ours.encode_offsets([reviews[row] for row in plain], 64))
    assert found == [expected[row] for row in plain]


@settings(max_examples=40, deadline=None)
@given(
    tokens=st.lists(
        st.sampled_from(["film", "##s", "##", "#", ".", "##.", "é", "ß", "a", "##a", "##é"])
        | st.text(max_size=4),
        max_size=30,
    ),
    unknown_token=st.sampled_from(["[UNK]", "##unk", "?"]),
    texts=st.lists(
        st.lists(st.sampled_from(["films", "a", "é", "ß", "##", "?", "[", " ", "\x07", "zz"])).map(
            "".join
        ),
        max_size=6,
    ),
)
def test_no_vocabulary_leads_the_fast_path_astray(tokens, unknown_token, texts):
    vocabulary = [*SPECIAL_TOKENS, unknown_token, *tokens]
    ours = WordPiece(vocabulary, unknown_token=unknown_token)
    _make_fast(ours)
    expected = ours.reference.encode_batch(texts)
    found = rows_of_encoding(ours.encode_offsets(texts, 4096))
    for (ids, spans, _), reference in zip(found, expected, strict=True):
        assert ids[1:-1] == reference.ids
        assert [tuple(span) for span in spans[1:-1]] == reference.offsets


def test_many_texts_keep_their_order_over_threads_and_paths(uncased_vocabulary, reviews):
    texts = [f"{review} {STRANGE_CHARACTERS[row % 40]}" for row, review in enumerate(reviews)] * 2
    ours = WordPiece(uncased_vocabulary, True)
    expected = reference_spans(word_piece_reference(uncased_vocabulary, True), texts, 24)
    assert rows_of_encoding(ours.encode_offsets(texts, 24)) == expected


def test_a_span_is_the_text_of_its_token(uncased_vocabulary):
    text = "A  GOOD café, [MASK]ed"
    encoding = WordPiece(uncased_vocabulary, True).encode_offsets([text, ""], 32)
    first = [text[start:end] for start, end in encoding.spans[: encoding.offsets[1]]]
    assert first[:2] == ["", "A"] and first[-1] == ""
    assert "".join(first) == "AGOODcafé,[MASK]ed" and "[MASK]" in first
    assert encoding.spans[encoding.offsets[1] :].tolist() == [[0, 0], [0, 0]]
    assert encoding.segments is None and len(encoding) == 2


def test_no_texts_have_no_spans(kind):
    encoding = kind[0].encode_offsets([], 8)
    assert (len(encoding), encoding.spans.shape, encoding.spans.dtype) == (0, (0, 2), np.int32)


def test_half_a_character_is_refused(kind):
    with pytest.raises(DataError, match=r"Text 2 of 2 is not valid Unicode: character 4.*\\ud83d"):
        kind[0].encode_offsets(["good", "bad\ud83d"], 16)


@pytest.mark.parametrize("family", ["albert", "xlm_roberta"])
def test_sentence_pieces_have_the_spans_of_the_reference(request, reviews, family):
    ours, folder = request.getfixturevalue(family)
    assert type(ours) is KerasHubTokenizer
    reference = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))

    @settings(max_examples=40, deadline=None)
    @given(texts=st.lists(texts_of_all_kinds(), max_size=6), max_length=st.integers(3, 64))
    def check(texts, max_length):
        found = rows_of_encoding(ours.encode_offsets(texts, max_length))
        assert [ids for ids, _, _ in found] == rows_of(ours, texts, max_length)
        whole = zip(rows_of(ours, texts, 4096), reference_spans(reference, texts, 4096))
        expected = reference_spans(reference, texts, max_length)
        for text, row, (ids, one), other in zip(texts, found, whole, expected):
            # Texts that the reference cuts into other tokens, see `unigram_json`.
            if ids == one[0]:
                assert row == other
            assert all(0 <= start <= end <= len(text) for start, end in row[1])

    check()
    texts = [*reviews[:500], "", " two   spaces ", "naïve CAFÉ “x” — 5 €"]
    found = rows_of_encoding(ours.encode_offsets(texts, 32))
    assert found == reference_spans(reference, texts, 32)


def test_a_text_that_the_reference_cuts_otherwise_has_the_spans_of_sentence_pieces(albert):
    ours, _ = albert
    text = "good é [SEP] film"
    encoding = ours.encode_offsets([text, "film"], 64)
    spans = encoding.spans[1 : encoding.offsets[1] - 1]
    assert len(spans) > 4
    assert spans[0, 0] == 0 and spans[-1, 1] == len(text)
    assert (spans[1:, 0] == spans[:-1, 1]).all()


def test_other_sentence_pieces_have_their_own_spans(reviews):
    ours = KerasHubTokenizer(learn_sentence_pieces(reviews, "deberta"))
    text = "a good é film"
    encoding = ours.encode_offsets([text], 64)
    assert "".join(text[start:end] for start, end in encoding.spans) == text
    assert encoding.ids.tolist() == rows_of(ours, [text], 64)[0]


def test_a_tokenizer_without_spans_says_so(uncased_vocabulary):
    other = keras_hub.tokenizers.WordPieceTokenizer(uncased_vocabulary, lowercase=True)
    with pytest.raises(PresetError, match="does not provide character offsets"):
        KerasHubTokenizer(other).encode_offsets(["film"], 8)


@pytest.mark.parametrize("kind", [kind for kind in KINDS if "json" in kind], indirect=True)
def test_a_saved_tokenizer_has_the_same_spans(kind, tmp_path):
    ours, _ = kind
    ours.save(tmp_path)
    again = from_folder(tmp_path)
    texts = ["  a good film", "two  spaces "]
    first, second = (one.encode_offsets(texts, 32) for one in (ours, again))
    assert rows_of_encoding(first) == rows_of_encoding(second)
    assert again.pair_template == ours.pair_template
