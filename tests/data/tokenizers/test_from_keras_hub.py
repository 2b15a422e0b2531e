"""Each KerasHub tokenizer gets the bulk tokenizer that does its work, with its settings."""

import keras_hub
import pytest
from tokenizer_references import reference_rows, rows_of, word_piece_reference

from kerasllm.data.tokenizers import ByteLevelBPE, KerasHubTokenizer, WordPiece, from_keras_hub
from kerasllm.errors import PresetError

hub = keras_hub.tokenizers


@pytest.mark.parametrize("kind", [hub.BertTokenizer, hub.DistilBertTokenizer, hub.ElectraTokenizer])
@pytest.mark.parametrize("lowercase", [True, False])
def test_word_piece_families(uncased_vocabulary, reviews, kind, lowercase):
    ours = from_keras_hub(kind(uncased_vocabulary, lowercase=lowercase, strip_accents=lowercase))
    assert type(ours) is WordPiece
    reference = word_piece_reference(uncased_vocabulary, lowercase)
    texts = [*reviews[:200], "Été [MASK] straße"]
    assert rows_of(ours, texts, 64) == reference_rows(reference, texts, 64)


def test_settings_of_word_piece_are_honoured(cased_vocabulary):
    texts = ["Été 中文 film films [unused]"]
    for settings, ours in (
        ({}, {}),
        ({"strip_accents": True}, {"strip_accents": True}),
        ({"split_on_cjk": False}, {"split_on_cjk": False}),
        ({"lowercase": True}, {"lowercase": True, "strip_accents": False}),
        ({"lowercase": True, "strip_accents": True}, {"lowercase": True}),
    ):
        tokenizer = from_keras_hub(hub.BertTokenizer(cased_vocabulary, **settings))
        expected = WordPiece(cased_vocabulary, **ours)
        assert rows_of(tokenizer, texts, 64) == rows_of(expected, texts, 64)
    more = from_keras_hub(
        hub.BertTokenizer([*cased_vocabulary, "[USER]"], special_tokens=["[USER]"])
    )
    assert rows_of(more, ["[USER]"], 8) == [[2, len(cased_vocabulary), 3]]
    suffixes = [token.replace("##", "@@") for token in cased_vocabulary]
    other = from_keras_hub(hub.BertTokenizer(suffixes, suffix_indicator="@@"))
    assert rows_of(other, texts, 64) == rows_of(WordPiece(cased_vocabulary), texts, 64)


def test_words_instead_of_texts_are_refused(uncased_vocabulary):
    with pytest.raises(PresetError, match="split=False"):
        from_keras_hub(hub.BertTokenizer(uncased_vocabulary, split=False))


def test_byte_level_bpe_families(byte_level_bpe):
    vocabulary, merges = byte_level_bpe
    roberta = from_keras_hub(hub.RobertaTokenizer(vocabulary, merges))
    assert type(roberta) is ByteLevelBPE
    assert (roberta.start_token_id, roberta.pad_token_id, roberta.end_token_id) == (0, 1, 2)
    assert rows_of(roberta, ["a<mask><unk>"], 8) == [
        [0, vocabulary["a"], vocabulary["<mask>"], vocabulary["<unk>"], 2]
    ]
    bart = from_keras_hub(hub.BartTokenizer(vocabulary, merges))
    assert rows_of(bart, ["a film"], 8) == rows_of(roberta, ["a film"], 8)
    plain = from_keras_hub(hub.BytePairTokenizer(vocabulary, merges, add_prefix_space=True))
    assert rows_of(plain, ["a", " a"], 8) == [[vocabulary["Ġa"]]] * 2


def test_other_families_keep_their_own_tokenizer(uncased_vocabulary):
    class OwnTokenizer(hub.BertTokenizer):
        pass

    for kind in (OwnTokenizer, hub.RoformerV2Tokenizer):
        assert type(from_keras_hub(kind(uncased_vocabulary))) is KerasHubTokenizer


def test_a_tokenizer_without_a_vocabulary_is_refused():
    for kind in (hub.BertTokenizer, hub.RobertaTokenizer):
        with pytest.raises(PresetError, match=f"{kind.__name__} has no vocabulary"):
            from_keras_hub(kind(None))
