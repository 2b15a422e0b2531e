"""Encoder-decoders of Hugging Face's, opened with their tokenizer, saved and opened again."""

import dataclasses
import json

import keras_hub
import numpy as np
import pytest
import references_of_pairs as references

from kerasllm.errors import PresetError
from kerasllm.models.encoder_decoder import (
    open_encoder_decoder,
    save_encoder_decoder,
    train_tokenizer,
)


@pytest.mark.parametrize("name", references.WITH_TOKENIZER)
def test_a_folder_is_opened_and_saved(name, tmp_path):
    model = open_encoder_decoder(references.FOLDER / name, dropout=0.2)
    assert model.backbone.dropout == 0.2 and model.name == name
    _check(model, name)
    save_encoder_decoder(model, tmp_path)
    again = open_encoder_decoder(tmp_path)
    _check(again, name)
    assert (again.prefixes, again.name) == (model.prefixes, name)
    _check_keras_hub(keras_hub.models.Seq2SeqLM.from_preset(str(tmp_path)), model)
    for place in (references.FOLDER / name, tmp_path):
        read = open_encoder_decoder(place, weights=False)
        assert read.backbone is None
        assert read.encode_source(["A man"]) == model.encode_source(["A man"])
        assert read.start_token_id == model.start_token_id
        assert read.max_source_length == model.max_source_length


def _check_keras_hub(task, model):
    """KerasHub alone reads texts and computes logits as the model does, but for a bias of these."""
    ids = model.encode_source(["A man plays the guitar."])[0]
    read = task.preprocessor.generate_preprocess(["A man plays the guitar."])
    read = {name: np.asarray(value) for name, value in read.items()}
    assert read["encoder_token_ids"][0][: len(ids)].tolist() == ids
    assert read["decoder_token_ids"][0][0] == model.start_token_id
    inputs = {name: value[:, :8] for name, value in read.items()}
    hidden = model.backbone(inputs, training=False)["decoder_sequence_output"]
    model = dataclasses.replace(model, final_logits_bias=None)
    np.testing.assert_allclose(task(inputs), model.logits(hidden), atol=1e-5)


def _check(model, name):
    assert references.error_of(model, name) < 1e-4
    known = json.loads((references.FOLDER / name / "texts.json").read_text())
    texts, ids = [each["text"] for each in known], [each["ids"] for each in known]
    assert model.encode_source(texts) == model.encode_target(texts) == ids
    special = {
        "bart": (2, 2, 1, 0),
        "t5": (0, 1, 0, None),
    }[name]
    found = model.start_token_id, model.end_token_id, model.pad_token_id
    assert (*found, model.forced_first_token_id) == special
    assert model.max_source_length == (32 if name == "bart" else None)


@pytest.mark.parametrize("name", ["mbart", "t5_gated"])
def test_a_backbone_is_saved_with_its_activation(name, tmp_path):
    model = references.without_tokenizer(references.FOLDER / name)
    model.backbone.save_to_preset(str(tmp_path))
    model.backbone = keras_hub.models.Backbone.from_preset(str(tmp_path))
    assert references.error_of(model, name) < 1e-4


def test_a_preset_of_keras_hub_is_opened(tmp_path):
    whole = open_encoder_decoder(references.FOLDER / "bart")
    content = json.loads((references.FOLDER / "bart" / "tokenizer.json").read_text())["model"]
    merges = [" ".join(pair) for pair in content["merges"]]
    tokenizer = keras_hub.tokenizers.BartTokenizer(content["vocab"], merges)
    preprocessor = keras_hub.models.BartSeq2SeqLMPreprocessor(tokenizer)
    task = keras_hub.models.BartSeq2SeqLM(whole.backbone, preprocessor)
    task.save_to_preset(str(tmp_path))
    model = open_encoder_decoder(tmp_path)
    model.final_logits_bias = whole.final_logits_bias
    _check(model, "bart")
    assert model.tokenizer.decode(model.encode_target(["A man"])[0]) == "A man"


def test_another_preset_of_keras_hub_is_refused(toy_preset):
    with pytest.raises(PresetError, match="not an encoder-decoder that kerasllm reads"):
        open_encoder_decoder(toy_preset)


def test_a_folder_of_another_family_is_refused_by_its_name(tmp_path):
    folder = references.copy("bart", tmp_path, model_type="led")
    with pytest.raises(PresetError, match="model_type is 'led'"):
        open_encoder_decoder(folder)


def test_a_folder_without_tokenizer_is_refused():
    with pytest.raises(PresetError, match="no tokenizer that kerasllm can read"):
        open_encoder_decoder(references.FOLDER / "mbart")


def test_tokenizers_that_no_file_tells_are_refused_by_name(tmp_path):
    folder = references.copy("mbart", tmp_path)
    for name in ("MBartTokenizerFast", "MarianTokenizer"):
        (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": name}))
        with pytest.raises(PresetError, match=name.removesuffix("Fast")):
            open_encoder_decoder(folder, weights=False)


def test_an_mbart_50_puts_languages_before_texts(tmp_path):
    folder = references.copy("mbart", tmp_path)
    texts = ["A man", "spielt"]
    train_tokenizer(texts, 262).save(folder)
    content = json.loads((folder / "tokenizer.json").read_text())
    codes = [{**content["added_tokens"][0], "content": code} for code in ("en_XX", "de_DE")]
    content["added_tokens"] += [{**code, "id": 90 + number} for number, code in enumerate(codes)]
    content["model"]["vocab"] = {
        token: id for token, id in content["model"]["vocab"].items() if id < 90
    }
    content["model"]["merges"] = []
    (folder / "tokenizer.json").write_text(json.dumps(content))
    settings = {"tokenizer_class": "MBart50Tokenizer", "src_lang": "en_XX"}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    with pytest.raises(PresetError, match="tgt_lang is None") as caught:
        open_encoder_decoder(folder, weights=False)
    assert '"tgt_lang": "de_DE"' in caught.value.fix
    settings["tgt_lang"] = "de_DE"
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    model = open_encoder_decoder(folder, weights=False)
    source, target = model.encode_source(["A"])[0], model.encode_target(["A"])[0]
    assert [model.tokenizer.id_to_token(id) for id in source] == ["en_XX", "A", "</s>"]
    assert [model.tokenizer.id_to_token(id) for id in target] == ["de_DE", "A", "</s>"]
    assert model.forced_first_token_id == target[0]


def test_generation_follows_its_own_file(tmp_path):
    folder = references.copy("bart", tmp_path, num_beams=2, length_penalty=2.0)
    said = json.loads((folder / "generation_config.json").read_text())
    (folder / "generation_config.json").write_text(json.dumps({**said, "num_beams": 4}))
    model = open_encoder_decoder(folder)
    assert model.generation["num_beams"] == 4
    assert model.generation["length_penalty"] == 2.0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"eos_token_id": 5}, "ends texts with the tokens"),
        ({"decoder_start_token_id": "two"}, "decoder_start_token_id is 'two'"),
        ({"pad_token_id": -1}, "pad_token_id is '-1'"),
    ],
)
def test_special_tokens_that_do_not_fit_are_refused(change, message, tmp_path):
    folder = references.copy("bart", tmp_path, **change)
    (folder / "generation_config.json").unlink()
    with pytest.raises(PresetError, match=message):
        open_encoder_decoder(folder)


def test_a_bart_of_vocabulary_and_merges(tmp_path):
    folder = references.copy("bart", tmp_path)
    model = json.loads((folder / "tokenizer.json").read_text())["model"]
    (folder / "vocab.json").write_text(json.dumps(model["vocab"]))
    merges = [pair if isinstance(pair, str) else " ".join(pair) for pair in model["merges"]]
    (folder / "merges.txt").write_text("#version: 0.2\n" + "\n".join(merges) + "\n")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (folder / name).unlink()
    opened = open_encoder_decoder(folder)
    known = json.loads((folder / "texts.json").read_text())
    assert opened.encode_source([each["text"] for each in known]) == [each["ids"] for each in known]


def test_a_t5_of_a_sentencepiece_model(tmp_path):
    import io

    import sentencepiece

    written = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(["The cat sat on the mat.", "Ein Kind lacht laut!"] * 9),
        model_writer=written,
        vocab_size=45,
        hard_vocab_limit=False,
        pad_id=0,
        eos_id=1,
        unk_id=2,
        bos_id=-1,
        minloglevel=2,
    )
    folder = references.copy("t5", tmp_path)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (folder / name).unlink()
    (folder / "spiece.model").write_bytes(written.getvalue())
    (folder / "tokenizer_config.json").write_text(json.dumps({"extra_ids": 10}))
    _check_pieces(open_encoder_decoder(folder, weights=False), written.getvalue(), extra=10)
    tokenizer = keras_hub.tokenizers.T5Tokenizer(written.getvalue())
    preprocessor = keras_hub.models.T5Seq2SeqLMPreprocessor(tokenizer)
    backbone = references.model_of("t5_gated").backbone
    keras_hub.models.T5Seq2SeqLM(backbone, preprocessor).save_to_preset(str(tmp_path / "preset"))
    again = open_encoder_decoder(tmp_path / "preset")
    _check_pieces(again, written.getvalue(), extra=0)
    assert again.start_token_id == again.pad_token_id == 0
    assert references.error_of(again, "t5_gated") < 1e-4


def _check_pieces(model, proto, extra):
    import sentencepiece

    own = sentencepiece.SentencePieceProcessor(model_proto=proto)
    texts = ["The cat lacht.", "  the  mat ", "né", "", "x\ty"]
    assert model.encode_source(texts) == [[*own.encode(text), 1] for text in texts]
    assert model.tokenizer.decode([*own.encode("The cat"), 1]) == "The cat"
    if extra:
        last = own.get_piece_size() + extra - 1
        assert model.encode_source(["<extra_id_0>"])[0] == [last, 1]
