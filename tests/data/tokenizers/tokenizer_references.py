"""The texts and the references that tokenizers are tested with."""

from __future__ import annotations

import itertools

import numpy as np
from hypothesis import strategies as st
from tokenizers import AddedToken, Tokenizer, models, normalizers, pre_tokenizers
from tokenizers.processors import TemplateProcessing

SPECIAL_TOKENS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]

WORDS = "the film is a good unforgettable story it's déjà Ünique crème café straße Ёлка για".split()

# What the two libraries are known, or could be expected, to see differently.
STRANGE_CHARACTERS = list(
    "\0\x0b\x0c\x1f\x7f\x80\xa0\xad\u0301\u0345\u200b\u200d\u2028\u202f\u302e\u3000\ufeff\ufffd"
    "ıİßẞſςΣΐ½²…ﬁĲǅªﾊＡｚ，中文한あ\ue000😀"
)

# Characters of several code points, and scripts that are written from right to left.
STRANGE_CLUSTERS = [
    *[
        "e\u0301",
        "x\u0302\u0323y",
        "\u0301a",
        "A\u030a",
        "👩\u200d👩\u200d👧",
        "👍🏽",
        "🇩🇪",
        "❤\ufe0f",
    ],
    *["שלום", "مرحبا", "\u202eabc\u202c", "日本語", "한국어", "नमस्ते", "ﬁlm", "ｆｉｌｍ", "½x"],
    *["a\x07b", "a\u00adb"],
]


def texts_of_all_kinds() -> st.SearchStrategy[str]:
    """Texts of words, odd characters, special tokens and very long words, in any mixture."""
    written = [change(token) for token in SPECIAL_TOKENS for change in (str, str.lower, str.title)]
    fragments = st.one_of(
        st.sampled_from(WORDS),
        st.sampled_from(WORDS).map(str.upper),
        st.sampled_from([" ", "  ", "\t", "\n", "\r\n", ".", "'", "--", "##", "[", "]"]),
        st.sampled_from([*written, "[SEP", "[ SEP ]", "<mask>", " <s>", "</s>", "<unk>"]),
        st.sampled_from(STRANGE_CHARACTERS),
        st.sampled_from(STRANGE_CLUSTERS),
        st.builds(
            lambda letters, length: (letters * length)[:length],
            st.sampled_from(["a", "é", "Й", "“", "x1", "ab-"]),
            st.integers(98, 102),
        ),
        st.text(st.characters(max_codepoint=0x7F), max_size=8),
        st.text(st.characters(min_codepoint=0xA0, max_codepoint=0x6FF), max_size=6),
        st.text(st.characters(min_codepoint=0x2000, max_codepoint=0x22FF), max_size=4),
        st.text(max_size=8),
    )
    pieces = st.lists(fragments, max_size=12)
    return st.one_of(pieces.map("".join), pieces.map(" ".join), st.text())


def word_piece_reference(
    vocabulary: list[str],
    lowercase: bool,
    *,
    strip_accents: bool | None = None,
    split_on_cjk: bool = True,
    suffix_indicator: str = "##",
) -> Tokenizer:
    """Hugging Face's BERT tokenizer, as a `tokenizer.json` describes it."""
    token_ids = {token: token_id for token_id, token in enumerate(vocabulary)}
    model = models.WordPiece(
        token_ids,
        unk_token="[UNK]",
        max_input_chars_per_word=100,
        continuing_subword_prefix=suffix_indicator,
    )
    tokenizer = Tokenizer(model)
    tokenizer.normalizer = normalizers.BertNormalizer(
        clean_text=True,
        handle_chinese_chars=split_on_cjk,
        strip_accents=strip_accents,
        lowercase=lowercase,
    )
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.add_special_tokens([AddedToken(token, normalized=False) for token in SPECIAL_TOKENS])
    tokenizer.post_processor = TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[(token, token_ids[token]) for token in ("[CLS]", "[SEP]")],
    )
    return tokenizer


def reference_rows(tokenizer: Tokenizer, texts: list[str], max_length: int) -> list[list[int]]:
    """The ids of each text by a Hugging Face tokenizer."""
    tokenizer.enable_truncation(max_length)
    return [encoding.ids for encoding in tokenizer.encode_batch(texts)]


def rows_of(tokenizer, texts: list[str], max_length: int) -> list[list[int]]:
    """The ids of each text by one of ours."""
    ids, offsets = tokenizer.encode(texts, max_length)
    assert (ids.dtype, offsets.dtype) == (np.int32, np.int64)
    assert (offsets[0], offsets[-1], len(offsets)) == (0, len(ids), len(texts) + 1)
    return [ids[start:end].tolist() for start, end in itertools.pairwise(offsets)]


def rows_of_encoding(encoding) -> list[tuple]:
    """The ids, spans and segments of each row of an `Encoding`; `None` for what it lacks."""
    arrays = [encoding.ids, encoding.spans, encoding.segments]
    kinds = [(np.int32, 1), (np.int32, 2), (np.uint8, 1)]
    for array, (dtype, dimensions) in zip(arrays, kinds):
        assert array is None or (array.dtype, array.ndim) == (dtype, dimensions)
        assert array is None or len(array) == encoding.offsets[-1]
    assert encoding.offsets.dtype == np.int64 and encoding.offsets[0] == 0
    return [
        tuple(None if array is None else array[start:end].tolist() for array in arrays)
        for start, end in itertools.pairwise(encoding.offsets)
    ]


def reference_spans(tokenizer: Tokenizer, texts: list[str], max_length: int) -> list[tuple]:
    """What `rows_of_encoding` is for texts, by a Hugging Face tokenizer."""
    tokenizer.enable_truncation(max_length)
    return [
        (encoding.ids, [list(span) for span in encoding.offsets], None)
        for encoding in tokenizer.encode_batch(texts)
    ]


def reference_pairs(
    tokenizer: Tokenizer, pairs: list[tuple[str, str]], max_length: int, truncation: str
) -> list[tuple]:
    """What `rows_of_encoding` is for pairs of texts, by a Hugging Face tokenizer."""
    tokenizer.enable_truncation(max_length, strategy=truncation)
    return [
        (encoding.ids, [list(span) for span in encoding.offsets], encoding.type_ids)
        for encoding in tokenizer.encode_batch(pairs)
    ]
