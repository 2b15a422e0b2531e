"""Runs say of every character what a tokenizer makes of it."""

import hypothesis.strategies as st
import pytest
import tensorflow as tf
from hypothesis import example, given
from tokenizers import normalizers, pre_tokenizers

from kerasllm.export.character_runs import ITSELF, SPACE, CharacterRuns
from kerasllm.export.graph_tokenizer import CharacterMap


def _words(text: str) -> list[str]:
    normalized = normalizers.BertNormalizer(lowercase=True).normalize_str(text)
    return [word for word, _ in pre_tokenizers.BertPreTokenizer().pre_tokenize_str(normalized)]


@pytest.fixture(scope="module")
def runs():
    return CharacterRuns.of(_words)


@given(st.characters(exclude_categories=["Cs"]))
@example("\x00")
@example("가")
@example("\U0010ffff")
def test_a_character_becomes_what_the_tokenizer_makes_of_it(runs, character):
    expected = " ".join(_words(f"a{character}b"))[1:-1]
    codes, _ = CharacterMap(runs)(tf.constant([ord(character)]))
    assert "".join(map(chr, codes.numpy())) == expected


def test_some_can_be_changed(runs):
    changed = runs.changed({ord("b"): (SPACE, ord("b"))})
    assert changed.pattern(ord("b")) == (SPACE, ord("b"))
    assert changed.pattern(ord("a")) == changed.pattern(ord("c")) == (ITSELF,)
