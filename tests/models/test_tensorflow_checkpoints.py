"""Folders with a TensorFlow checkpoint of BERT are presets, or are refused by what is wrong."""

import json
import shutil

import checkpoints
import keras
import numpy as np
import pytest
import tensorflow as tf

from kerasllm.errors import PresetError
from kerasllm.models import bert, presets

# google-research and Model Garden mean the tanh form by "gelu", which is what KerasHub computes.
SAME = 1e-5


@pytest.fixture(scope="module")
def google(tmp_path_factory):
    return checkpoints.save_google(tmp_path_factory.mktemp("google") / "uncased")


@pytest.fixture(scope="module")
def garden(tmp_path_factory):
    return checkpoints.save_garden(tmp_path_factory.mktemp("garden") / "uncased")


@pytest.fixture
def copy(google, tmp_path):
    """A folder of google-research's to change."""
    return shutil.copytree(google, tmp_path / "copy")


def assert_as_transformers(folder):
    numbers = np.load(checkpoints.REFERENCE / "expected.npz")
    backbone = bert.build_task(folder, num_classes=2).backbone
    found = backbone(
        {
            "token_ids": numbers["token_ids"],
            "padding_mask": numbers["mask"],
            "segment_ids": numbers["segments"],
        }
    )
    real = numbers["mask"].astype(bool)
    hidden = keras.ops.convert_to_numpy(found["sequence_output"])
    np.testing.assert_allclose(hidden[real], numbers["hidden"][real], atol=SAME, rtol=0)
    pooled = keras.ops.convert_to_numpy(found["pooled_output"])
    np.testing.assert_allclose(pooled, numbers["pooled"], atol=SAME, rtol=0)


def refusal(folder):
    with pytest.raises(PresetError) as caught:
        bert.build_task(folder, num_classes=2)
    assert "kerasllm-" not in str(caught.value), "temporary folders mean nothing to a user"
    return caught.value


def change_config(folder, **changes):
    file = folder / "bert_config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))


def test_a_checkpoint_of_google_research_computes_what_transformers_does(google):
    assert sorted(path.name for path in google.iterdir() if "ckpt" in path.name) == [
        "bert_model.ckpt.data-00000-of-00001",
        "bert_model.ckpt.index",
        "bert_model.ckpt.meta",
    ]
    assert_as_transformers(google)


def test_a_checkpoint_of_model_garden_does_too(garden):
    assert_as_transformers(garden)


@pytest.mark.parametrize("numbered", [False, True])
def test_an_encoder_is_found_under_any_name_in_another_model(tmp_path, numbered):
    encoder = checkpoints.garden_encoder(numbered)
    model = tf.Module()
    model.encoder_network = encoder
    model.head = tf.Variable(np.ones((32, 2), "float32"))
    # The table of the encoder is also of the head, and may be stored under its name.
    tables = "layer_with_weights-0" if numbered else "_embedding_layer"
    model.embedding_table = getattr(encoder, tables).embeddings
    optimizer = keras_2_slots(encoder)
    folder = checkpoints.save_garden(tmp_path / "f", "ctl", model=model, optimizer=optimizer)
    keys = tf.train.load_checkpoint(str(folder / "ctl-1")).get_variable_to_shape_map()
    assert "model/embedding_table/.ATTRIBUTES/VARIABLE_VALUE" in keys
    assert_as_transformers(folder)


def keras_2_slots(encoder):
    slots = tf.Module()
    slots.momentums = [tf.Variable(tf.zeros_like(v)) for v in encoder.variables]
    slots.iterations = tf.Variable(3, dtype="int64")
    return slots
