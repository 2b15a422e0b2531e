"""Common ground is wide enough to matter, and ends where the two libraries part."""

import pytest
from tokenizer_references import SPECIAL_TOKENS

from kerasllm.data.tokenizers.agreement import TokenizerAgreement


@pytest.fixture(scope="module")
def uncased():
    return TokenizerAgreement(True, None, True, SPECIAL_TOKENS)


def test_nearly_all_english_text_is_common(uncased, reviews):
    assert uncased.holds(reviews).mean() > 0.99


@pytest.mark.parametrize(
    "text",
    [
        "",
        "plain text, with\ttabs\r\nand lines [in brackets]",
        "x" * 1000,
        "naïve café — “quoted”, it’s 5 €",
        "Ёлка και θάλασσα",
        "[sep] [unused1] [MASK",
        "é " + "https://example.org/" + "a-" * 100,
    ],
)
def test_what_is_common(uncased, text):
    assert uncased.holds([text]).tolist() == [True]


@pytest.mark.parametrize(
    "text",
    [
        *["\0", "a\x7fb", "\x85", "straße", "½", "ﬁ", "…", "，", "Ａ", "\ufffd", "中文", "😀", "ς"],
        *["e\u0301", "[SEP]", "a[MASK]b", "é" + "a" * 100, "Й" * 51, "a" * 101 + " é"],
    ],
)
def test_what_is_not(uncased, text):
    assert uncased.holds([text]).tolist() == [False]


def test_texts_are_told_apart(uncased):
    texts = ["good", "½", "", "café", "a\0", "[SEP]", "café ½", "“" + "a" * 97, "é" * 51, "end"]
    expected = [True, False, True, True, False, False, False, True, False, True]
    assert uncased.holds(texts).tolist() == expected
    assert uncased.holds(texts[::-1]).tolist() == expected[::-1]


def test_settings_move_the_border():
    accents = ["café", "cafe"]
    assert TokenizerAgreement(True, None, True, []).holds(accents).tolist() == [True, True]
    assert TokenizerAgreement(False, None, True, []).holds(accents).tolist() == [True, True]
    assert TokenizerAgreement(True, False, True, []).holds(accents).tolist() == [False, True]
    assert TokenizerAgreement(False, True, True, []).holds(accents).tolist() == [False, True]


def test_tokens_that_common_text_cannot_lead_to(uncased):
    tokens = ["film", "##s", ".", "5", "é", "A", "a.", "##.", "##", "", "a b", "[CLS]", "a" * 101]
    possible = [token for token in tokens if uncased.can_come_up(token)]
    assert possible == ["film", "##s", ".", "5"]
