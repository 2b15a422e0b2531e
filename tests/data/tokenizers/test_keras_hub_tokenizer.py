"""Other KerasHub tokenizers give the ids of their own preprocessors."""

import keras_hub
import numpy as np
import pytest
from tokenizer_kinds import learn_sentence_pieces
from tokenizer_references import rows_of

from kerasllm.data.tokenizers import KerasHubTokenizer
from kerasllm.errors import PresetError

TEXTS = [
    "A good film.",
    "",
    "naïve  café — “quoted”",
    "an unforgettable story of one man and his very unlikely friends " * 4,
    "中文 ½ ﬁ \u200b x",
]


@pytest.fixture(scope="module")
def proto(reviews):
    """Gives a SentencePiece model with the special tokens of a family."""
    return lambda family, **more: learn_sentence_pieces(reviews, family, **more).proto


@pytest.mark.parametrize(
    ("family", "name"),
    [("Albert", "albert"), ("DebertaV3", "deberta"), ("XLMRoberta", "xlm_roberta")],
)
def test_ids_are_those_of_the_family_s_preprocessor(proto, family, name):
    tokenizer = getattr(keras_hub.tokenizers, f"{family}Tokenizer")(proto(name))
    preprocessor_class = getattr(keras_hub.models, f"{family}TextClassifierPreprocessor")
    ours = KerasHubTokenizer(tokenizer)
    for max_length in (8, 256):
        packed = preprocessor_class(tokenizer, sequence_length=max_length)(TEXTS)
        mask = np.asarray(packed["padding_mask"]).astype(bool)
        ids = np.asarray(packed["token_ids"])
        expected = [row[kept].tolist() for row, kept in zip(ids, mask)]
        assert rows_of(ours, TEXTS, max_length) == expected
    assert ours.pad_token_id == tokenizer.pad_token_id


def test_many_texts_keep_their_order(proto, reviews):
    ours = KerasHubTokenizer(keras_hub.tokenizers.AlbertTokenizer(proto("albert")))
    texts = reviews * 2
    assert rows_of(ours, texts, 32)[2500] == rows_of(ours, texts[2500:2501], 32)[0]


def test_a_tokenizer_without_special_tokens(uncased_vocabulary):
    hub = keras_hub.tokenizers.WordPieceTokenizer(uncased_vocabulary, lowercase=True)
    film = uncased_vocabulary.index("film")
    assert rows_of(KerasHubTokenizer(hub), ["Film film", ""], 1) == [[film], []]


def test_settings_that_cannot_be_honoured_are_refused(proto):
    model = proto("albert")
    for setting in ({"sequence_length": 8}, {"add_bos": True}, {"add_eos": True}):
        with pytest.raises(PresetError, match=f"has {next(iter(setting))}="):
            KerasHubTokenizer(keras_hub.tokenizers.AlbertTokenizer(model, **setting))
    with pytest.raises(PresetError, match="AlbertTokenizer has no vocabulary"):
        KerasHubTokenizer(keras_hub.tokenizers.AlbertTokenizer(None))


def test_the_fingerprint_is_of_the_model_and_not_of_the_layer(proto):
    model = proto("albert")
    first, again = (
        KerasHubTokenizer(keras_hub.tokenizers.AlbertTokenizer(model)) for _ in range(2)
    )
    other_model = proto("albert", split_digits=True)
    other = KerasHubTokenizer(keras_hub.tokenizers.AlbertTokenizer(other_model))
    assert first.fingerprint == again.fingerprint != other.fingerprint
