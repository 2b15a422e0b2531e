"""Encoder-decoders: new ones, saved and opened again; tokenizers trained on both sides."""

import json

import keras
import keras_hub
import numpy as np
import pytest

from kerasllm.errors import PresetError
from kerasllm.models.encoder_decoder import (
    new_encoder_decoder,
    open_encoder_decoder,
    save_encoder_decoder,
    train_tokenizer,
)
from kerasllm.models.encoder_decoder_backbone import sinusoids

TEXTS = ["A man plays the guitar.", "Ein Mann spielt Gitarre.", "Zwei Männer singen."] * 4


@pytest.fixture(scope="module")
def tokenizer():
    return train_tokenizer(TEXTS, 300)


@pytest.fixture(scope="module")
def model(tokenizer):
    sizes = {"layers": 2, "width": 16, "heads": 2, "feedforward": 24, "max_length": 20}
    return new_encoder_decoder(tokenizer, **sizes, seed=1)


def logits(model, source, target):
    """Returns the logits of one pair, both given as ids."""
    source, target = np.array([source], "int32"), np.array([target], "int32")
    outputs = model.backbone(
        {
            "encoder_token_ids": source,
            "encoder_padding_mask": (source != model.pad_token_id).astype("int32"),
            "decoder_token_ids": target,
            "decoder_padding_mask": (target != model.pad_token_id).astype("int32"),
        },
        training=False,
    )
    found = model.logits(outputs["decoder_sequence_output"])
    return keras.ops.convert_to_numpy(keras.ops.cast(found, "float32"))[0]


def test_texts_come_back_from_their_ids(model, tokenizer):
    source, target = model.encode_source(["A man"])[0], model.encode_target(["Männer singen."])[0]
    assert source[-1] == target[-1] == model.end_token_id == tokenizer.token_to_id("</s>")
    assert model.start_token_id not in (*source, *target)
    assert tokenizer.decode(source) == "A man"
    assert tokenizer.decode(target) == "Männer singen."
    assert model.encode_source(["", "A"])[0] == [model.end_token_id]


def test_padding_and_later_tokens_change_nothing(model):
    source, target = model.encode_source(["A man sings"])[0], [model.start_token_id, 7, 8, 9]
    whole = logits(model, source, target)
    np.testing.assert_allclose(logits(model, source, target[:2]), whole[:2], atol=1e-5)
    pad = [model.pad_token_id] * 3
    np.testing.assert_allclose(logits(model, source + pad, target + pad)[:4], whole, atol=1e-5)
    other = logits(model, source[::-1], target)
    assert np.abs(other - whole).max() > 1e-3


@pytest.mark.parametrize("precision", ["float32", "mixed_bfloat16"])
def test_a_saved_model_is_opened_as_it_was(model, tmp_path, precision):
    save_encoder_decoder(model, tmp_path)
    again = open_encoder_decoder(tmp_path, precision=precision, dropout=0.3)
    assert again.backbone.dropout == 0.3
    assert again.backbone.compute_dtype == precision.removeprefix("mixed_")
    source, target = model.encode_source(["A man sings"])[0], [model.start_token_id, 7, 8]
    assert again.encode_source(["A man sings"]) == [source]
    assert (again.source_frame, again.max_target_length) == (model.source_frame, 20)
    assert again.end_token_id == model.end_token_id
    exact = 1e-6 if precision == "float32" else 0.1
    wanted = logits(model, source, target)
    np.testing.assert_allclose(logits(again, source, target), wanted, atol=exact)


def test_what_weights_do_not_hold_is_saved_too(model, tmp_path):
    model.final_logits_bias = np.arange(model.vocabulary_size, dtype="float32")
    model.prefixes, model.generation = {"translate": "to German: "}, {"num_beams": 4}
    model.forced_first_token_id, model.hidden_scale = 5, 0.25
    try:
        save_encoder_decoder(model, tmp_path)
        again = open_encoder_decoder(tmp_path)
        assert (again.prefixes, again.generation) == (model.prefixes, model.generation)
        assert (again.forced_first_token_id, again.hidden_scale) == (5, 0.25)
        wanted = logits(model, [5, 6], [0, 9])
        np.testing.assert_allclose(logits(again, [5, 6], [0, 9]), wanted, atol=1e-5)
    finally:
        model.final_logits_bias, model.prefixes, model.generation = None, {}, {}
        model.forced_first_token_id, model.hidden_scale = None, 1.0


def test_keras_hub_reads_the_backbone_alone(model, tmp_path):
    save_encoder_decoder(model, tmp_path)
    backbone = keras_hub.models.Backbone.from_preset(str(tmp_path))
    weights = zip(backbone.weights, model.backbone.weights, strict=True)
    assert all(np.array_equal(one, other) for one, other in weights)


def test_weights_follow_the_seed(tokenizer, model):
    sizes = {"layers": 1, "width": 16, "heads": 2, "feedforward": 24}
    one, same, other = (new_encoder_decoder(tokenizer, **sizes, seed=n) for n in (1, 1, 2))
    first, again, different = (each.backbone.get_weights() for each in (one, same, other))
    assert all(map(np.array_equal, first, again))
    assert not all(map(np.array_equal, first, different))
    kernel = one.backbone.get_layer("transformer_encoder_layer_0").weights[0]
    # Of a square matrix: Keras alone draws it far too narrow.
    assert 0.5 < np.std(kernel) / 16**-0.5 < 1.5


def test_a_width_that_heads_do_not_divide_is_refused(tokenizer):
    with pytest.raises(ValueError, match="multiple of `heads`"):
        new_encoder_decoder(tokenizer, width=30, heads=4)


def test_facts_that_were_changed_are_refused(model, tmp_path):
    save_encoder_decoder(model, tmp_path)
    facts = json.loads((tmp_path / "kerasllm.json").read_text())
    del facts["encoder_decoder"]["end_token_id"]
    (tmp_path / "kerasllm.json").write_text(json.dumps(facts))
    with pytest.raises(PresetError, match="not what kerasllm wrote"):
        open_encoder_decoder(tmp_path)


def test_sinusoids_are_those_of_the_paper():
    table = sinusoids(50, 8)
    assert table.shape == (50, 8)
    np.testing.assert_allclose(table[3, :4], np.sin(3 / 10_000 ** (np.arange(4) / 4)), atol=1e-6)
    np.testing.assert_allclose(table[3, 4:], np.cos(3 / 10_000 ** (np.arange(4) / 4)), atol=1e-6)
