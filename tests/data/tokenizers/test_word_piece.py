"""WordPiece gives the ids of Hugging Face `tokenizers` on any text, by whichever road."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizer_references import (
    SPECIAL_TOKENS,
    STRANGE_CHARACTERS,
    reference_rows,
    rows_of,
    texts_of_all_kinds,
    word_piece_reference,
)

from kerasllm.data.tokenizers import WordPiece
from kerasllm.errors import DataError, PresetError


@pytest.fixture(scope="session", params=["uncased", "cased"])
def pair(request):
    """Our tokenizer and the reference, for the same vocabulary."""
    vocabulary = request.getfixturevalue(f"{request.param}_vocabulary")
    lowercase = request.param == "uncased"
    return WordPiece(vocabulary, lowercase), word_piece_reference(vocabulary, lowercase)


@settings(max_examples=150, deadline=None)
@given(
    texts=st.lists(texts_of_all_kinds(), min_size=1, max_size=12),
    max_length=st.integers(3, 40) | st.just(512),
)
def test_any_text_has_the_ids_of_the_reference(pair, texts, max_length):
    ours, reference = pair
    assert rows_of(ours, texts, max_length) == reference_rows(reference, texts, max_length)


def test_every_character_has_the_ids_of_the_reference_between_and_beside_others(pair):
    ours, reference = pair
    blocks = [(0, 0x3100), (0x4E00, 0x4E20), (0xA640, 0xAC20), (0xF8F0, 0x10600)]
    codes = [code for block in blocks for code in range(*block)]
    texts = [f"a {chr(code)} film{chr(code)}s {chr(code) * 2}“é" for code in codes]
    assert rows_of(ours, texts, 128) == reference_rows(reference, texts, 128)


@pytest.mark.parametrize("letter", ["a", "é", "İ", "“", "中", "9"])
@pytest.mark.parametrize("length", [33, 34, 49, 50, 51, 99, 100, 101, 102, 1000])
def test_very_long_words_have_the_ids_of_the_reference(pair, letter, length):
    ours, reference = pair
    word = letter * length
    texts = [word, f"good {word}.", f"{word}!{word} é", f"“{word[:-1]}x {word}\n{word}"]
    assert rows_of(ours, texts, 4096) == reference_rows(reference, texts, 4096)


# Tokens that a vocabulary file could hold, by design, by accident or by a broken tool.
ODD_TOKENS = [
    *["film", "##s", "s", "S", "##S", "a b", " a", "a ", "##", "#", "###", "##.", ".", "a.", ".a"],
    *["", " ", "\t", "\0", "a\0b", "[", "[unused1]", "[film]", "##[SEP]", "é", "e", "##é"],
    *["中", "##中", "中a", "\ue0007", "\ufffd", "ß", "ss", "ﬁ", "fi", "a", "##a", "a" * 99],
    *["“", "##“", "don't", "##'", "x" * 300, "—", "\u2028", "1", "##1", "½", "\u0301"],
    *["a" * 100, "a" * 101],
]


@settings(max_examples=100, deadline=None)
@given(
    tokens=st.lists(st.sampled_from(ODD_TOKENS) | st.text(max_size=4), max_size=30),
    texts=st.lists(
        st.lists(
            st.sampled_from(ODD_TOKENS) | st.sampled_from([" ", "films", "a", "[SEP]"]), max_size=8
        ).map("".join),
        max_size=8,
    ),
    lowercase=st.booleans(),
)
def test_no_vocabulary_leads_the_fast_road_astray(tokens, texts, lowercase):
    vocabulary = [*SPECIAL_TOKENS, *tokens]
    ours = WordPiece(vocabulary, lowercase)
    reference = word_piece_reference(vocabulary, lowercase)
    assert rows_of(ours, texts, 512) == reference_rows(reference, texts, 512)


@settings(max_examples=40, deadline=None)
@given(
    texts=st.lists(texts_of_all_kinds(), min_size=1, max_size=8),
    lowercase=st.booleans(),
    strip_accents=st.sampled_from([None, True, False]),
    split_on_cjk=st.booleans(),
    suffix_indicator=st.sampled_from(["##", "_"]),
)
def test_every_setting_has_the_ids_of_the_reference(
    cased_vocabulary, texts, lowercase, strip_accents, split_on_cjk, suffix_indicator
):
    vocabulary = [
        suffix_indicator + token[2:] if token.startswith("##") else token
        for token in cased_vocabulary
    ]
    settings = {
        "strip_accents": strip_accents,
        "split_on_cjk": split_on_cjk,
        "suffix_indicator": suffix_indicator,
    }
    ours = WordPiece(vocabulary, lowercase, **settings)
    reference = word_piece_reference(vocabulary, lowercase, **settings)
    assert rows_of(ours, texts, 64) == reference_rows(reference, texts, 64)


def test_many_texts_keep_their_order_over_threads_and_roads(pair, reviews):
    ours, reference = pair
    texts = [f"{review} {STRANGE_CHARACTERS[row % 40]}" for row, review in enumerate(reviews)] * 3
    assert rows_of(ours, texts, 24) == reference_rows(reference, texts, 24)


def test_no_texts_and_empty_texts(pair):
    ours, _ = pair
    assert rows_of(ours, [], 8) == []
    assert rows_of(ours, ["", " \n"], 8) == [[2, 3], [2, 3]]


def test_a_special_token_in_a_text_is_one_token(pair):
    ours, _ = pair
    ids = rows_of(ours, ["[MASK][SEP] [mask]"], 16)[0]
    assert ids[:3] == [2, 4, 3] and 4 not in ids[3:]


def test_more_special_tokens_are_recognized(uncased_vocabulary):
    vocabulary = [*uncased_vocabulary, "[USER]"]
    ids = rows_of(WordPiece(vocabulary, True, special_tokens=["[USER]"]), ["[USER]"], 16)
    assert ids == [[2, len(vocabulary) - 1, 3]]


def test_the_last_of_two_equal_tokens_counts():
    vocabulary = [*SPECIAL_TOKENS, "film", "a", "film"]
    assert rows_of(WordPiece(vocabulary), ["a film"], 16) == [[2, 6, 7, 3]]


def test_a_vocabulary_without_a_special_token_is_refused():
    with pytest.raises(PresetError, match=r"7 tokens lacks \[UNK\], \[SEP\]"):
        WordPiece(["[PAD]", "[CLS]", "[MASK]", "a", "b", "c", "d"])


def test_half_a_character_is_refused(pair):
    ours, _ = pair
    with pytest.raises(DataError, match=r"Text 2 of 2 is not valid Unicode: character 4.*\\ud83d"):
        ours.encode(["good", "bad\ud83d"], 16)


def test_a_length_without_room_is_refused(pair):
    with pytest.raises(ValueError, match="Received: max_length=2"):
        pair[0].encode(["good"], 2)


def test_the_fingerprint_is_of_all_that_decides_the_ids(uncased_vocabulary):
    others = [
        WordPiece(uncased_vocabulary, True),
        WordPiece(uncased_vocabulary, False),
        WordPiece(uncased_vocabulary[:-1], True),
        WordPiece([*uncased_vocabulary[:-2], *uncased_vocabulary[:-3:-1]], True),
        WordPiece(uncased_vocabulary, True, strip_accents=False),
        WordPiece(uncased_vocabulary, True, split_on_cjk=False),
        WordPiece(uncased_vocabulary, True, suffix_indicator="@@"),
        WordPiece(uncased_vocabulary, True, pad_token="[MASK]", mask_token="[PAD]"),
        WordPiece(uncased_vocabulary, True, special_tokens=["film"]),
    ]
    assert len({tokenizer.fingerprint for tokenizer in others}) == len(others)
    again = WordPiece(uncased_vocabulary, True)
    assert again.fingerprint == others[0].fingerprint
    assert len(again.fingerprint) == 64 and int(again.fingerprint, 16)


def test_facts_about_a_tokenizer(uncased_vocabulary):
    ours = WordPiece(uncased_vocabulary, True)
    assert (ours.start_token_id, ours.end_token_id, ours.pad_token_id) == (2, 3, 0)
    assert ours.description == f"WordPiece, {len(uncased_vocabulary):,} tokens, lower case"
    assert np.array_equal(*[ours.encode(["A good film."], 16)[0] for _ in range(2)])
