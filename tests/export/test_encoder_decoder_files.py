"""Encoder-decoders as transformers writes them, and the way back.

`tests/reference/encoder_decoders` holds models that transformers saved. One that kerasllm read and
wrote again must have the same tensors, and a configuration that says the same.
"""

import dataclasses
import functools
import json
from pathlib import Path

import keras
import numpy as np
import pytest
import safetensors.numpy

from kerasllm.data.tokenizers.joint import train_tokenizer
from kerasllm.errors import CommandError, PresetError
from kerasllm.export.encoder_decoder_files import save_for_transformers
from kerasllm.export.formats import Options, load_format
from kerasllm.export.parity import compare
from kerasllm.export.source import Source
from kerasllm.models.encoder_decoder import (
    EncoderDecoder,
    new_encoder_decoder,
    open_encoder_decoder,
)
from kerasllm.models.encoder_decoder_backbone import EncoderDecoderBackbone
from kerasllm.models.encoder_decoders import load_backbone
from kerasllm.models.encoder_decoders.frame import Frame
from kerasllm.models.seq2seq_lm import Seq2SeqLM
from kerasllm.tasks.task import find

REFERENCE = Path(__file__).parents[1] / "reference" / "encoder_decoders"
NAMES = sorted(path.name for path in REFERENCE.iterdir() if path.name != "t5gemma")
TEXTS = ["A man plays.", "Ein Mann spielt."] * 4
# What transformers writes, and that says nothing about the numbers.
_UNSAID = """
    transformers_version id2label label2id init_std initializer_factor is_decoder classifier_dropout
    encoder_layerdrop decoder_layerdrop activation_dropout attention_dropout forced_eos_token_id
    bos_token_id num_hidden_layers is_gated_act dense_act_fn tie_word_embeddings
    decoder_vocab_size share_encoder_decoder_embeddings task_specific_params max_length num_beams
    bad_words_ids
""".split()


@pytest.fixture(scope="module")
def tokenizer():
    return train_tokenizer(TEXTS, 270)


@functools.cache
def _opened(name: str, tokenizer) -> EncoderDecoder:
    """Returns a reference, not to be changed; one without a tokenizer of its own gets another."""
    if (REFERENCE / name / "texts.json").is_file():
        return open_encoder_decoder(REFERENCE / name, dropout=0.1)
    loaded = load_backbone(REFERENCE / name, dropout=0.1)
    config = loaded.config
    ids = [config[f"{part}_token_id"] for part in ("decoder_start", "eos", "pad")]
    frame = Frame(after=(ids[1],))
    return EncoderDecoder(loaded.backbone, tokenizer, *ids, frame, frame, **loaded.facts)


@pytest.mark.parametrize("name", NAMES)
def test_a_model_leaves_as_transformers_wrote_it(name, tokenizer, tmp_path):
    save_for_transformers(_opened(name, tokenizer), tmp_path)
    written = safetensors.numpy.load_file(tmp_path / "model.safetensors")
    for key, value in safetensors.numpy.load_file(REFERENCE / name / "model.safetensors").items():
        # Nothing reads the first rows of BART's positions; Pegasus' are sinusoids.
        unread = 2 if key.endswith("embed_positions.weight") and name != "pegasus" else 0
        given = written.pop(key)[unread:]
        np.testing.assert_allclose(given, value[unread:], atol=1e-6, err_msg=key)
    assert {key.rpartition(".")[0].rpartition(".")[2] for key in written} <= {"embed_positions"}
    config = json.loads((tmp_path / "config.json").read_text())
    known = json.loads((REFERENCE / name / "config.json").read_text())
    # Two names of one function.
    if known.get("activation_function") == "swish":
        known["activation_function"] = "silu"
    said = {key: value for key, value in known.items() if key not in _UNSAID}
    assert {key: config.get(key) for key in said} == said


@pytest.mark.parametrize("name", ["bart", "t5"])
def test_a_model_with_its_tokenizer_comes_back(name, tokenizer, tmp_path):
    generation = {"num_beams": 4, "early_stopping": True}
    model = dataclasses.replace(_opened(name, tokenizer), generation=generation)
    save_for_transformers(model, tmp_path)
    again = open_encoder_decoder(tmp_path)
    _check_equal(again, model)
    assert again.generation == model.generation and again.prefixes == model.prefixes
    assert again.forced_first_token_id == model.forced_first_token_id


@pytest.mark.parametrize("kind", ["bpe", "unigram"])
def test_a_new_model_is_an_mbart(kind, tmp_path):
    tokenizer = train_tokenizer(TEXTS, 270 if kind == "bpe" else 24, kind)
    sizes = {"layers": 2, "width": 16, "heads": 2, "feedforward": 24, "max_length": 20}
    model = new_encoder_decoder(tokenizer, **sizes)
    save_for_transformers(model, tmp_path)
    again = open_encoder_decoder(tmp_path)
    assert again.name == "mbart"
    _check_equal(again, model)


def _check_equal(again, model):
    texts = ["A man.", "spielt </s> now", ""]
    assert again.encode_source(texts) == model.encode_source(texts)
    for name in ("start_token_id", "end_token_id", "pad_token_id", "max_source_length"):
        assert getattr(again, name) == getattr(model, name)
    source = np.array([model.encode_source(["A man."])[0]], "int32")
    target = np.array([[model.start_token_id, 5, 6]], "int32")
    inputs = {
        "encoder_token_ids": source,
        "encoder_padding_mask": np.ones_like(source),
        "decoder_token_ids": target,
        "decoder_padding_mask": np.ones_like(target),
    }
    logits = [
        keras.ops.convert_to_numpy(
            each.logits(each.backbone(inputs, training=False)["decoder_sequence_output"])
        )
        for each in (again, model)
    ]
    np.testing.assert_allclose(*logits, atol=1e-5)


def test_the_format_writes_it_and_reads_it_back(tokenizer, tmp_path, monkeypatch):
    monkeypatch.setattr("kerasllm.export.transformers.has_transformers", lambda: False)
    chosen = load_format("transformers")
    # The second is longer than 12 tokens, and cut.
    rows = ["A man.", "a very long text of a man that plays the guitar", "a"]
    model = Seq2SeqLM(_opened("bart", tokenizer), prefix="an: ", max_length=12)
    source = Source(find("seq2seq"), model, "bart", 12, rows)
    chosen.refuse(source, Options())
    chosen.write(source, tmp_path, Options())
    found = chosen.predict(source, tmp_path, Options())
    assert compare(source.head, "transformers", "float32", source.expected, found).holds
    lengths = [len(row) for row in model.encode_sources(rows)]
    assert lengths[1] == 12
    # The start token of the decoder, and the first seven of the source.
    assert len(found) == sum(min(length + 1, 8) for length in lengths)
    settings = json.loads((tmp_path / "tokenizer_config.json").read_text())
    assert settings["model_max_length"] == 12
    assert "an: A man." in chosen.usage(source, Options())


def test_the_format_refuses_what_transformers_does_not_compute(tokenizer):
    parts = dataclasses.replace(_opened("bart", tokenizer), logits_soft_cap=3.0)
    source = Source(find("seq2seq"), Seq2SeqLM(parts), "bart", 12, ["a"])
    with pytest.raises(CommandError, match="does not scale logits as this model does"):
        load_format("transformers").refuse(source, Options())


def test_a_family_that_is_not_written_is_named(tokenizer, tmp_path):
    with pytest.raises(PresetError, match="does not write T5GemmaBackbone"):
        save_for_transformers(_opened("t5gemma", tokenizer), tmp_path)


def test_what_transformers_has_no_class_for_is_refused(tokenizer, tmp_path):
    backbone = EncoderDecoderBackbone(
        tokenizer.vocabulary_size, 1, 1, 2, 16, 24, normalize_first=False, positions="sinusoidal"
    )
    frame = Frame(after=(2,))
    model = EncoderDecoder(backbone, tokenizer, 0, 2, 1, frame, frame)
    with pytest.raises(PresetError, match="no encoder-decoder with normalize_first=False"):
        save_for_transformers(model, tmp_path)
    model.target_frame = Frame(after=(3, 2))
    with pytest.raises(PresetError, match="different special tokens"):
        save_for_transformers(model, tmp_path)
