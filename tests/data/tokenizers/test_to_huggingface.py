"""A classifier's tokenizer leaves as Hugging Face's files, and gives the same ids there."""

import io
import json

import keras_hub
import pytest
import sentencepiece
import tokenizers
from hypothesis import given
from hypothesis import strategies as st
from tokenizer_references import rows_of, texts_of_all_kinds

from kerasllm.data.tokenizers import from_keras_hub, save_huggingface_tokenizer
from kerasllm.errors import PresetError
from kerasllm.models.huggingface.sentencepiece_models import with_albert_rules
from kerasllm.models.huggingface.tokenizer import build_tokenizer

hub = keras_hub.tokenizers
LONGEST = 24
MODEL_TYPES = {"uncased": "bert", "cased": "bert", "distilled": "distilbert", "pairs": "roberta"}


@pytest.fixture(scope="session")
def kinds(uncased_vocabulary, cased_vocabulary, byte_level_bpe):
    lower = {"lowercase": True, "strip_accents": True}
    return {
        "uncased": hub.BertTokenizer(uncased_vocabulary, **lower),
        "cased": hub.BertTokenizer(cased_vocabulary),
        "distilled": hub.DistilBertTokenizer(uncased_vocabulary, **lower),
        "pairs": hub.RobertaTokenizer(*byte_level_bpe, add_prefix_space=True),
    }


@pytest.fixture(scope="session")
def ours(kinds):
    return {name: from_keras_hub(tokenizer) for name, tokenizer in kinds.items()}


@pytest.fixture(scope="session")
def saved(tmp_path_factory, kinds):
    folder = tmp_path_factory.mktemp("tokenizers")
    for name, tokenizer in kinds.items():
        (folder / name).mkdir()
        save_huggingface_tokenizer(tokenizer, folder / name, LONGEST)
    return folder


@pytest.fixture(scope="session")
def engines(saved):
    files = {name: str(saved / name / "tokenizer.json") for name in MODEL_TYPES}
    return {name: tokenizers.Tokenizer.from_file(file) for name, file in files.items()}


@given(texts=st.lists(texts_of_all_kinds(), max_size=4))
@pytest.mark.parametrize("name", MODEL_TYPES)
def test_the_ids_are_the_same(ours, engines, name, texts):
    found = [encoding.ids for encoding in engines[name].encode_batch(texts)]
    assert found == rows_of(ours[name], texts, LONGEST)


@pytest.mark.parametrize("name", MODEL_TYPES)
def test_the_files_come_back_as_the_same_tokenizer(kinds, ours, saved, name):
    config = {"model_type": MODEL_TYPES[name], "vocab_size": 30_000}
    again = build_tokenizer(saved / name, config)
    assert type(again) is type(kinds[name])
    assert from_keras_hub(again).fingerprint == ours[name].fingerprint


def test_a_second_text_has_the_second_type(engines):
    encoding = engines["uncased"].encode("a film", "good")
    assert encoding.type_ids == [0, 0, 0, 0, 1, 1]
    assert encoding.tokens[0] == "[CLS]" and encoding.tokens.count("[SEP]") == 2


def test_the_settings_say_what_is_cut_and_what_the_model_takes(saved):
    settings = json.loads((saved / "distilled" / "tokenizer_config.json").read_text())
    assert settings["model_max_length"] == LONGEST
    assert settings["tokenizer_class"] == "DistilBertTokenizer"
    assert settings["model_input_names"] == ["input_ids", "attention_mask"]
    named = json.loads((saved / "pairs" / "special_tokens_map.json").read_text())
    assert named["cls_token"] == "<s>" and named["mask_token"] == "<mask>"


def test_tokens_that_the_familys_class_does_not_know_are_left_to_tokenizer_json(
    tmp_path, uncased_vocabulary
):
    more = hub.BertTokenizer([*uncased_vocabulary, "[USER]"], special_tokens=["[USER]"])
    save_huggingface_tokenizer(more, tmp_path, LONGEST)
    settings = json.loads((tmp_path / "tokenizer_config.json").read_text())
    assert settings["tokenizer_class"] == "PreTrainedTokenizerFast"
    engine = tokenizers.Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    assert engine.encode("[USER]").ids == [2, len(uncased_vocabulary), 3]


def test_another_tokenizer_is_refused_by_name(tmp_path, byte_level_bpe):
    with pytest.raises(PresetError, match="BartTokenizer"):
        save_huggingface_tokenizer(hub.BartTokenizer(*byte_level_bpe), tmp_path, LONGEST)


SENTENCE_PIECES = {
    "albert": (
        hub.AlbertTokenizer,
        {
            "pad_id": 0,
            "unk_id": 1,
            "bos_id": 2,
            "eos_id": 3,
            "pad_piece": "<pad>",
            "bos_piece": "[CLS]",
            "eos_piece": "[SEP]",
            "user_defined_symbols": "[MASK]",
        },
    ),
    "xlm-roberta": (hub.XLMRobertaTokenizer, {"unk_id": 0, "bos_id": 1, "eos_id": 2}),
}


@pytest.fixture(scope="session", params=SENTENCE_PIECES)
def sentence_pieces(request, reviews, tmp_path_factory):
    """A KerasHub tokenizer of SentencePiece, what reads texts with it in bulk, and its folder."""
    kind, special_tokens = SENTENCE_PIECES[request.param]
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(reviews),
        model_writer=model,
        vocab_size=800,
        num_threads=1,
        minloglevel=2,
        **special_tokens,
    )
    proto = model.getvalue()
    if request.param == "albert":
        proto = with_albert_rules(proto, lower_case=True, keep_accents=False)
    tokenizer = kind(proto)
    folder = tmp_path_factory.mktemp(request.param)
    save_huggingface_tokenizer(tokenizer, folder, LONGEST)
    return from_keras_hub(tokenizer), folder, request.param


def test_sentence_pieces_give_the_same_ids(sentence_pieces, reviews):
    ours, folder, _ = sentence_pieces
    odd = ["", "  two   spaces\t\n", "``quoted'' naïve CAFÉ “x” — 5 €", "中文 ½ ﬁ \u200b x"]
    texts = [*reviews[:500], *odd, "x" * 300]
    engine = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
    assert [one.ids for one in engine.encode_batch(texts)] == rows_of(ours, texts, LONGEST)


# ALBERT's takes seconds to read; `tests/export/test_transformers.py` does so with a small one.
@pytest.mark.parametrize("sentence_pieces", ["xlm-roberta"], indirect=True)
def test_sentence_pieces_come_back_as_the_same_tokenizer(sentence_pieces, reviews):
    ours, folder, model_type = sentence_pieces
    again = build_tokenizer(folder, {"model_type": model_type, "vocab_size": 30_000})
    texts = [*reviews[:100], "``quoted'' naïve CAFÉ “x” — 5 €"]
    assert rows_of(from_keras_hub(again), texts, LONGEST) == rows_of(ours, texts, LONGEST)


def test_a_sentence_piece_model_of_another_kind_is_refused(reviews, tmp_path):
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(reviews[:200]),
        model_writer=model,
        vocab_size=300,
        model_type="bpe",
        minloglevel=2,
        **SENTENCE_PIECES["xlm-roberta"][1],
    )
    with pytest.raises(PresetError, match="is a BPE model"):
        save_huggingface_tokenizer(hub.XLMRobertaTokenizer(model.getvalue()), tmp_path, LONGEST)
