"""Encoder-decoders compute what transformers computes on the same files, with padding too."""

import keras
import keras_hub
import numpy as np
import pytest
import references_of_pairs as references

from kerasllm.models import encoder_decoders
from kerasllm.models.encoder_decoder_backbone import EncoderDecoderBackbone


@pytest.mark.parametrize("name", references.NAMES)
def test_logits_are_those_of_transformers(name):
    model = references.model_of(name)
    assert references.error_of(model, name) < 1e-4
    # Each weight is as it was in the file, and is given back as it was.
    stored = references.tensors_of(name)
    family = encoder_decoders.FAMILIES[references.config_of(name)["model_type"]]
    for key, tensor in encoder_decoders.tensors(model.backbone, family.positions_offset).items():
        given, wanted = tensor.to_huggingface(), stored[key]
        unread = family.positions_offset if key.endswith("embed_positions.weight") else 0
        np.testing.assert_array_equal(given[unread:], wanted[unread:])


def test_every_family_has_a_reference():
    models = {references.config_of(name)["model_type"] for name in references.NAMES}
    assert models == set(encoder_decoders.FAMILIES)


def test_backbones_are_those_of_keras_hub_where_it_has_one():
    kinds = {name: type(references.model_of(name).backbone) for name in references.NAMES}
    assert kinds["bart"] is keras_hub.models.BartBackbone
    assert kinds["t5"] is kinds["t5_gated"] is keras_hub.models.T5Backbone
    assert {kinds[name] for name in ("bart_uneven", "mbart", "marian", "pegasus")} == {
        EncoderDecoderBackbone
    }


def test_distances_of_t5_are_in_the_buckets_of_transformers():
    attention = references.model_of("t5").backbone.encoder_transformer_layers[0].self_attention
    distance = np.arange(-1100, 1101)
    for bidirectional in (True, False):
        given = attention._relative_position_bucket(
            keras.ops.convert_to_tensor(distance, "int32"), bidirectional=bidirectional
        )
        np.testing.assert_array_equal(given, _buckets(distance, bidirectional))


def _buckets(distance: np.ndarray, bidirectional: bool) -> np.ndarray:
    """Returns what transformers' `_relative_position_bucket` does, in float32 as it is there."""
    buckets = 16 if bidirectional else 32
    found = np.where(bidirectional & (distance > 0), buckets, 0)
    distance = np.abs(distance) if bidirectional else -np.minimum(distance, 0)
    exact = buckets // 2
    ratio = np.log(np.maximum(distance, 1).astype("float32") / np.float32(exact))
    far = ratio / np.float32(np.log(128 / exact)) * np.float32(buckets - exact)
    large = np.minimum(exact + far.astype("int64"), buckets - 1)
    return found + np.where(distance < exact, distance, large)


def test_half_precision_is_near():
    model = references.without_tokenizer(references.FOLDER / "bart", dtype="mixed_bfloat16")
    assert model.backbone.compute_dtype == "bfloat16"
    largest = np.abs(np.load(references.FOLDER / "bart" / "expected.npz")["logits"]).max()
    assert references.error_of(model, "bart") < 0.1 * largest
