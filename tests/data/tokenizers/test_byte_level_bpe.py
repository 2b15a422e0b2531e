"""Byte-level BPE gives the ids of Hugging Face's RoBERTa tokenizer."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizer_kinds import byte_level_kind
from tokenizer_references import reference_rows, rows_of, texts_of_all_kinds

from kerasllm.data.tokenizers import ByteLevelBPE
from kerasllm.errors import DataError, PresetError

ROBERTA = {
    "start_token": "<s>",
    "end_token": "</s>",
    "pad_token": "<pad>",
    "mask_token": "<mask>",
    "special_tokens": ["<unk>"],
}


@settings(max_examples=150, deadline=None)
@given(
    texts=st.lists(texts_of_all_kinds(), max_size=8),
    max_length=st.integers(3, 40) | st.just(512),
    add_prefix_space=st.booleans(),
)
def test_any_text_has_the_ids_of_the_reference(byte_level_bpe, texts, max_length, add_prefix_space):
    ours, reference = byte_level_kind(*byte_level_bpe, "roberta", add_prefix_space)
    assert rows_of(ours, texts, max_length) == reference_rows(reference, texts, max_length)


def test_without_special_tokens_a_text_stands_alone(byte_level_bpe):
    vocabulary, merges = byte_level_bpe
    ours = ByteLevelBPE(vocabulary, ["#version: 0.2", *merges])
    assert ours.pad_token_id == 0
    assert rows_of(ours, ["a", ""], 1) == [[vocabulary["a"]], []]


def test_a_mask_takes_the_spaces_before_it_along(byte_level_bpe):
    vocabulary, _ = byte_level_bpe
    ours = ByteLevelBPE(*byte_level_bpe, **ROBERTA)
    assert rows_of(ours, ["a  <mask>"], 16) == [[0, vocabulary["a"], vocabulary["<mask>"], 2]]


def test_what_does_not_fit_together_is_refused(byte_level_bpe):
    vocabulary, merges = byte_level_bpe
    with pytest.raises(PresetError, match="lacks <cls>"):
        ByteLevelBPE(vocabulary, merges, start_token="<cls>")
    with pytest.raises(PresetError, match="merges do not fit the vocabulary"):
        ByteLevelBPE(vocabulary, ["fi lm-that-is-not-there"])
    with pytest.raises(DataError, match="Text 1 of 1 is not valid Unicode"):
        ByteLevelBPE(vocabulary, merges).encode(["\udc00"], 8)


def test_the_fingerprint_is_of_all_that_decides_the_ids(byte_level_bpe):
    vocabulary, merges = byte_level_bpe
    others = [
        ByteLevelBPE(vocabulary, merges),
        ByteLevelBPE(vocabulary, merges[:-1]),
        ByteLevelBPE({**vocabulary, "new": len(vocabulary)}, merges),
        ByteLevelBPE(vocabulary, merges, add_prefix_space=True),
        ByteLevelBPE(vocabulary, merges, start_token="<s>"),
        ByteLevelBPE(vocabulary, merges, mask_token="<mask>"),
        ByteLevelBPE(vocabulary, merges, special_tokens=["<mask>"]),
    ]
    assert len({tokenizer.fingerprint for tokenizer in others}) == len(others)
    again = ByteLevelBPE(dict(reversed(vocabulary.items())), merges)
    assert again.fingerprint == others[0].fingerprint
