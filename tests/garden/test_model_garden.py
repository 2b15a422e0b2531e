"""What Model Garden's own tools save, kerasllm loads, and it computes what Model Garden computes.

Run by `.ci/garden`, in an environment that has the extra `garden`. Model Garden's "gelu" is the
tanh form, as google-research's and KerasHub's, so nothing is left but rounding.
"""

import keras
import numpy as np
import pytest
import tensorflow as tf

from kerasllm.models import encoder as bert
from tests.models import checkpoints

pytestmark = pytest.mark.garden
SAME = 1e-5
SIZES = {
    "vocab_size": 60,
    "hidden_size": 32,
    "num_layers": 2,
    "num_attention_heads": 4,
    "max_sequence_length": 24,
    "type_vocab_size": 2,
}


def inputs():
    rng = np.random.default_rng(0)
    mask = np.arange(11)[None] < np.array([11, 7, 4])[:, None]
    segments = np.zeros((3, 11), "int32")
    segments[:, 3:] = 1
    token_ids = np.where(mask, rng.integers(5, 60, (3, 11)), 0).astype("int32")
    return token_ids, mask.astype("int32"), segments


def randomized(model):
    """Gives every variable values of its own: what stays 0 or 1 hides a tensor that was lost."""
    rng = np.random.default_rng(2)
    for variable in model.variables:
        if variable.dtype.is_floating:
            mean = 1.0 if "gamma" in variable.name else 0.0
            variable.assign(rng.normal(mean, 0.15, variable.shape))
    return model


def garden_outputs(encoder):
    token_ids, mask, segments = inputs()
    found = encoder({"input_word_ids": token_ids, "input_mask": mask, "input_type_ids": segments})
    return np.array(found["sequence_output"]), np.array(found["pooled_output"])


def assert_same(folder, encoder):
    token_ids, mask, segments = inputs()
    backbone = bert.build_task(folder, num_classes=2).backbone
    found = backbone({"token_ids": token_ids, "padding_mask": mask, "segment_ids": segments})
    hidden, pooled = garden_outputs(encoder)
    real = mask.astype(bool)
    assert np.ptp(hidden[real]) > 1
    np.testing.assert_allclose(
        keras.ops.convert_to_numpy(found["sequence_output"])[real], hidden[real], atol=SAME, rtol=0
    )
    np.testing.assert_allclose(
        keras.ops.convert_to_numpy(found["pooled_output"]), pooled, atol=SAME, rtol=0
    )
    difference = np.abs(keras.ops.convert_to_numpy(found["sequence_output"])[real] - hidden[real])
    print(f"{folder.name}: largest difference of a hidden state {difference.max():.1e}")


@pytest.fixture
def encoder_v1():
    from official.nlp.modeling import networks

    return randomized(networks.BertEncoder(**SIZES, intermediate_size=64, dict_outputs=True))


@pytest.fixture
def encoder_v2():
    from official.nlp.modeling import networks

    encoder = networks.BertEncoderV2(**SIZES, inner_dim=64)
    encoder(encoder.inputs)
    return randomized(encoder)


def test_the_legacy_encoder(encoder_v1, tmp_path):
    assert_same(checkpoints.save_garden(tmp_path / "v1", encoder=encoder_v1), encoder_v1)


def test_the_encoder_of_today(encoder_v2, tmp_path):
    assert_same(checkpoints.save_garden(tmp_path / "v2", encoder=encoder_v2), encoder_v2)


@pytest.mark.parametrize("whole", [False, True])
def test_a_pretraining_model(encoder_v2, tmp_path, whole):
    from official.nlp.modeling import models

    pretrainer = models.BertPretrainerV2(encoder_network=encoder_v2)
    pretrainer(pretrainer.inputs)
    randomized(pretrainer)
    items = {"model": pretrainer} if whole else pretrainer.checkpoint_items
    assert_same(checkpoints.save_garden(tmp_path / "pretrainer", **items), encoder_v2)


def test_a_classifier_that_was_trained(encoder_v1, tmp_path):
    import tf_keras
    from official.nlp.modeling import models

    classifier = models.BertClassifier(encoder_v1, num_classes=2)
    classifier.compile(tf_keras.optimizers.Adam(1e-3), "mse")
    token_ids, mask, segments = inputs()
    named = {"input_word_ids": token_ids, "input_mask": mask, "input_type_ids": segments}
    classifier.fit(named, np.ones((3, 2)), verbose=0)
    folder = checkpoints.save_garden(
        tmp_path / "classifier", "ctl_step_1.ckpt", model=classifier, optimizer=classifier.optimizer
    )
    assert_same(folder, encoder_v1)


def test_an_experiments_own_parameters(tmp_path):
    from official.modeling import hyperparams
    from official.nlp.configs import bert as bert_configs
    from official.nlp.configs import encoders

    settings = encoders.EncoderConfig(
        type="bert",
        bert=encoders.BertEncoderConfig(
            vocab_size=60,
            hidden_size=32,
            num_layers=2,
            num_attention_heads=4,
            intermediate_size=64,
            max_position_embeddings=24,
        ),
    )
    encoder = randomized(encoders.build_encoder(settings))
    folder = checkpoints.save_garden(tmp_path / "experiment", encoder=encoder)
    (folder / "bert_config.json").unlink()
    params = bert_configs.PretrainerConfig(encoder=settings)
    hyperparams.save_params_dict_to_yaml(params, str(folder / "params.yaml"))
    assert_same(folder, encoder)


def test_google_researchs_names_are_those_that_model_garden_converts(encoder_v1, tmp_path):
    from official.legacy.bert import configs
    from official.nlp.tools import tf2_bert_encoder_checkpoint_converter as converter

    google = checkpoints.save_google(tmp_path / "google", checkpoints.google_tensors())
    folder = checkpoints.save_texts(tmp_path / "converted")
    config = configs.BertConfig.from_json_file(str(google / "bert_config.json"))
    converter.convert_checkpoint(
        bert_config=config,
        output_path=str(folder / "bert_encoder.ckpt"),
        v1_checkpoint=str(google / "bert_model.ckpt"),
        checkpoint_model_name="encoder",
    )
    restored = tf.train.Checkpoint(encoder=encoder_v1).restore(str(folder / "bert_encoder.ckpt-1"))
    restored.assert_existing_objects_matched()
    assert_same(folder, encoder_v1)
    assert_same(google, encoder_v1)
