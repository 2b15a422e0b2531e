"""Quantized models: what they compute, how they are saved, and that Keras alone loads them."""

from pathlib import Path

import keras
import keras_hub
import numpy as np
import pytest

from kerasllm.compression.quantize import quantize
from kerasllm.errors import RecipeError
from kerasllm.models import TextClassifier, bert_classifier
from kerasllm.models.encoder_decoder import open_encoder_decoder, save_encoder_decoder
from kerasllm.recipe.compression import Quantization
from tests.toy import save_toy_preset

# Of a logit; 4 bits are 16 levels.
TOLERANCES = {"int8": 0.02, "int4": 0.3, "gptq": 0.3, "awq": 0.3}


@pytest.fixture(scope="module")
def preset(tmp_path_factory) -> Path:
    """A toy encoder, as small as GPTQ, which takes its time for each input, wants it."""
    return save_toy_preset(tmp_path_factory.mktemp("preset") / "toy", hidden_dim=16, num_layers=2)


@pytest.fixture
def model(preset) -> TextClassifier:
    keras.utils.set_random_seed(0)
    made = bert_classifier(preset, 2, precision="float32")
    head = made.task.layers[-1]
    head.kernel.assign(20 * head.kernel)
    return made


def inputs(rows: int = 8, length: int = 6) -> dict[str, np.ndarray]:
    """Returns rows without padding."""
    token_ids = np.random.default_rng(0).integers(5, 25, (rows, length)).astype("int32")
    zeros = np.zeros_like(token_ids)
    return {"token_ids": token_ids, "padding_mask": zeros + 1, "segment_ids": zeros}


@pytest.mark.parametrize("method", TOLERANCES)
def test_a_quantized_model_is_saved_and_loads_to_the_same_numbers(method, model, tmp_path, capfd):
    before = np.asarray(model(inputs()))
    settings = Quantization(method=method, group_size=8)
    quantize(model.task.backbone, settings, inputs())
    after = np.asarray(model(inputs()))
    assert np.abs(after - before).max() < TOLERANCES[method] * np.abs(before).max()
    assert not np.array_equal(after, before)

    if method == "awq":
        scales = [np.ptp(w) for w in model.task.backbone.weights if w.name == "awq_scales"]
        assert max(scales) > 0, "Keras saw what goes into the layers"

    model.save_to_preset(tmp_path / "saved")
    alone = keras_hub.models.TextClassifier.from_preset(str(tmp_path / "saved"))
    query = alone.backbone.transformer_layers[0]._self_attention_layer.query_dense
    kinds = {weight.dtype for weight in query.weights}
    assert kinds & {"int8", "uint8"}
    # Keras alone rounds what goes into a product of int8 as well.
    rounding = TOLERANCES["int8"] * np.abs(after).max()
    np.testing.assert_allclose(alone(inputs()), after, atol=rounding)

    loaded = TextClassifier.from_preset(tmp_path / "saved", precision="float32")
    np.testing.assert_allclose(loaded(inputs()), after, atol=1e-5)
    assert all(weight.dtype == "float32" for weight in loaded.task.weights)
    fast = TextClassifier.from_preset(tmp_path / "saved", precision="mixed_bfloat16")
    assert np.abs(np.asarray(fast(inputs())) - after).max() < 0.05 * np.abs(after).max()
    assert capfd.readouterr().out == "", "Keras' progress bars stay off stdout"


@pytest.mark.slow
def test_gptq_and_awq_look_at_the_same_tokens_each_time(preset):
    def kernels():
        keras.utils.set_random_seed(0)
        backbone = bert_classifier(preset, 2, precision="float32").task.backbone
        settings = Quantization(method="awq", group_size=8)
        quantize(backbone, settings, inputs())
        return [np.asarray(weight) for weight in backbone.weights]

    for one, other in zip(kernels(), kernels(), strict=True):
        np.testing.assert_array_equal(one, other)


def test_embeddings_can_stay_as_they_are(model):
    quantize(model.task.backbone, Quantization(embeddings="none"))
    assert model.task.backbone.token_embedding.embeddings.dtype == "float32"
    assert model.task.backbone.pooled_dense.kernel.dtype == "int8"


def test_layers_that_share_weights_are_not_calibrated():
    backbone = keras_hub.models.AlbertBackbone(
        vocabulary_size=30,
        num_layers=2,
        num_heads=2,
        embedding_dim=8,
        hidden_dim=16,
        intermediate_dim=16,
        max_sequence_length=16,
    )
    with pytest.raises(RecipeError, match="AlbertBackbone") as caught:
        quantize(backbone, Quantization(method="gptq"), inputs())
    assert "int8 or int4" in caught.value.fix


@pytest.mark.parametrize(("name", "method"), [("bart", "int4"), ("t5", "int8")])
def test_an_encoder_decoder_of_keras_hub_is_quantized(name, method, tmp_path):
    folder = Path(__file__).parents[1] / "reference" / "encoder_decoders" / name
    model = open_encoder_decoder(folder)
    expected = np.load(folder / "expected.npz")
    given = {
        f"{theirs}_{kind}": expected[f"{side}{ending}"]
        for theirs, side in (("encoder", "source"), ("decoder", "target"))
        for kind, ending in (("token_ids", ""), ("padding_mask", "_mask"))
    }

    def logits(model):
        return np.asarray(model.logits(model.backbone(given)["decoder_sequence_output"]))

    before = logits(model)
    quantize(model.backbone, Quantization(method=method, group_size=8))
    quantized = logits(model)
    save_encoder_decoder(model, tmp_path)
    again = open_encoder_decoder(tmp_path)
    np.testing.assert_allclose(logits(again), quantized, atol=1e-4)
    # T5's attention is not scaled, and exaggerates what a weight is off.
    off = np.abs(quantized - before).mean() / np.abs(before).mean()
    assert 0 < off < {"int8": 0.05, "int4": 0.5}[method]
    assert {weight.dtype for weight in again.backbone.weights} == {"float32"}
    alone = keras_hub.models.Seq2SeqLM.from_preset(str(tmp_path)).backbone
    assert {weight.dtype for weight in alone.weights} & {"int8", "uint8"}
