"""Classifiers on the mean of all tokens: what they compute, what trains, and what is saved."""

import json

import families
import keras
import keras_hub
import numpy as np
import pytest
import safetensors.numpy
import tensorflow as tf

from kerasllm.compression.distill import with_hidden_states
from kerasllm.compression.quantize import quantize
from kerasllm.compression.student import student_of
from kerasllm.data.labels import Labels
from kerasllm.errors import PresetError, RecipeError
from kerasllm.models import TextClassifier, bert_classifier, encoder
from kerasllm.models.heads import PooledTextClassifier, scale_outputs
from kerasllm.models.huggingface.encoder_layout import head_tensors
from kerasllm.models.layers import ignores_padding, layer_depths, parts_of, trainable_share
from kerasllm.recipe.compression import Quantization

MASKED = [name for name in families.NAMES if name not in ("f_net", "roformer_v2")]


@pytest.fixture(scope="module")
def preset(tmp_path_factory):
    """Makes the tiny preset of a family, once."""
    made = {}

    def make(name):
        if name not in made:
            made[name] = families.save_preset(name, tmp_path_factory.mktemp(name))
        return made[name]

    return make


def mean_task(folder, num_classes=3, **options):
    task = encoder.build_task(folder, num_classes, pooling="mean", **options)
    # As large as the logits of a trained head, and with a bias that shows where it is lost.
    dense = task.output_dense
    dense.kernel.assign(np.random.default_rng(1).normal(0, 1, dense.kernel.shape))
    dense.bias.assign(np.linspace(-1, 1, num_classes))
    return task


def logits_of(task):
    logits = task(families.inputs_of(task), training=False)
    return keras.ops.convert_to_numpy(logits).astype("float32")


@pytest.mark.parametrize("name", MASKED)
def test_logits_are_of_the_mean_over_real_tokens_and_survive_saving(preset, name, tmp_path):
    task = mean_task(preset(name))
    inputs = families.inputs_of(task)
    states = task.backbone(inputs)
    states = np.asarray(states["sequence_output"] if isinstance(states, dict) else states)
    mean = [row[mask > 0].mean(0) for row, mask in zip(states, inputs["padding_mask"])]
    assert inputs["padding_mask"].min() == 0
    expected = np.stack(mean) @ task.output_dense.kernel.numpy() + task.output_dense.bias.numpy()
    np.testing.assert_allclose(logits_of(task), expected, atol=1e-5)
    assert ignores_padding(task)

    encoder.save_task(task, tmp_path)
    loaded = encoder.load_task(tmp_path)
    assert type(loaded) is PooledTextClassifier and loaded.dropout == task.dropout
    np.testing.assert_array_equal(logits_of(loaded), logits_of(task))
    # KerasHub alone, and the pooler that the head does not read.
    backbone = keras_hub.models.Backbone.from_preset(str(tmp_path))
    for one, other in zip(backbone.weights, task.backbone.weights, strict=True):
        np.testing.assert_array_equal(one, other)
    tokenizer = keras_hub.tokenizers.Tokenizer.from_preset(str(tmp_path))
    assert tokenizer.get_vocabulary() == task.preprocessor.tokenizer.get_vocabulary()
    assert loaded.preprocessor.sequence_length == task.preprocessor.sequence_length


def test_the_head_is_two_tensors_and_its_facts(preset, tmp_path):
    task = mean_task(preset("bert"), num_classes=4, dropout=0.2)
    encoder.save_task(task, tmp_path)
    stored = safetensors.numpy.load_file(tmp_path / "head.safetensors")
    np.testing.assert_array_equal(stored.pop("kernel"), task.output_dense.kernel)
    np.testing.assert_array_equal(stored.pop("bias"), task.output_dense.bias)
    assert not stored and task.output_dense.kernel.shape == (8, 4)
    facts = json.loads((tmp_path / "head.json").read_text())
    assert facts == {"pooling": "mean", "num_classes": 4, "dropout": 0.2}


@pytest.mark.parametrize("precision", ["mixed_bfloat16", "bfloat16"])
def test_it_is_saved_in_float32_whatever_it_computes_in(preset, tmp_path, precision):
    task = mean_task(preset("bert"), precision=precision)
    encoder.save_task(task, tmp_path)
    assert keras_hub.models.Backbone.from_preset(str(tmp_path)).dtype_policy.name == "float32"
    stored = safetensors.numpy.load_file(tmp_path / "head.safetensors")
    assert {tensor.dtype for tensor in stored.values()} == {np.dtype("float32")}
    loaded = encoder.load_task(tmp_path, precision)
    assert loaded.dtype_policy.name == precision
    np.testing.assert_array_equal(logits_of(loaded), logits_of(task))


def test_adapters_are_merged_and_quantized_weights_are_read(preset, tmp_path):
    task = mean_task(preset("bert"), lora={"rank": 2})
    for weight in task.backbone.weights:
        if weight.path.endswith("lora_b"):
            weight.assign(np.random.default_rng(0).normal(0, 0.5, weight.shape))
    encoder.save_task(task, tmp_path / "merged")
    merged = encoder.load_task(tmp_path / "merged")
    assert not [weight for weight in merged.weights if "lora" in weight.path]
    np.testing.assert_allclose(logits_of(merged), logits_of(task), atol=1e-5)

    quantize(merged.backbone, Quantization(method="int8"))
    encoder.save_task(merged, tmp_path / "small")
    loaded = encoder.load_task(tmp_path / "small")
    np.testing.assert_allclose(logits_of(loaded), logits_of(merged), atol=1e-4)
    assert np.abs(logits_of(loaded) - logits_of(task)).max() > 1e-6


def test_a_folder_holds_the_head_that_was_saved_last(preset, tmp_path):
    mean, cls = mean_task(preset("bert")), encoder.build_task(preset("bert"), 2)
    for task in (mean, cls, mean):
        encoder.save_task(task, tmp_path)
        loaded = encoder.load_task(tmp_path)
        assert type(loaded) is type(task)
        np.testing.assert_allclose(logits_of(loaded), logits_of(task), atol=1e-6)
    # A new head on the saved encoder.
    assert encoder.build_task(tmp_path, 5).num_classes == 5


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"pooling": "max"}, "must hold"),
        ({"num_classes": 5}, "shape"),
        ({"dropout": None}, "must hold"),
    ],
)
def test_a_head_that_does_not_fit_is_refused(preset, tmp_path, change, what):
    encoder.save_task(mean_task(preset("bert")), tmp_path)
    facts = json.loads((tmp_path / "head.json").read_text())
    (tmp_path / "head.json").write_text(json.dumps(facts | change))
    with pytest.raises(PresetError, match=what):
        encoder.load_task(tmp_path)
    (tmp_path / "head.safetensors").write_bytes(b"nothing")
    with pytest.raises(PresetError):
        encoder.load_task(tmp_path)


@pytest.mark.parametrize("name", MASKED)
def test_what_trains_has_a_gradient_and_the_unused_pooler_does_not_train(preset, name):
    task = mean_task(preset(name), dropout=0.0)
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(tf.sin(task(families.inputs_of(task), training=True)))
    gradients = tape.gradient(loss, [weight.value for weight in task.trainable_weights])
    assert all(gradient is not None for gradient in gradients)
    still = {w.path for w in task.weights} - {w.path for w in task.trainable_weights}
    still = {path for path in still if "seed_generator" not in path}
    has_pooler = name in ("albert", "bert")
    assert still == ({"pooled_dense/kernel", "pooled_dense/bias"} if has_pooler else set())
    depths = layer_depths(task)
    assert depths.keys() == {weight.path for weight in task.weights}
    assert depths["logits/kernel"] == families.NUM_LAYERS + 1
    trainable, total = trainable_share(task)
    assert total - trainable == (72 if has_pooler else 0)


def test_weight_decay_leaves_the_unused_pooler_as_it_was(preset):
    task = mean_task(preset("bert"))
    before = [weight.numpy() for weight in parts_of(task).pooler[-1].weights]
    assert len(before) == 2
    model = TextClassifier(task, Labels(["a", "b", "c"]))
    model.compile(keras.optimizers.AdamW(0.1, weight_decay=0.5), fused=False)
    inputs = {name: tf.constant(x) for name, x in families.inputs_of(task, batch=4).items()}
    kernel = task.output_dense.kernel.numpy()
    model.fit(inputs, np.array([0, 1, 2, 0]), epochs=2, verbose=0)
    assert np.abs(task.output_dense.kernel.numpy() - kernel).max() > 0.1
    for one, other in zip(parts_of(task).pooler[-1].weights, before, strict=True):
        np.testing.assert_array_equal(one, other)


def test_freezing_and_adapters_leave_what_they_name(preset):
    task = mean_task(preset("bert"), freeze="backbone")
    assert {w.path for w in task.trainable_weights} == {"logits/kernel", "logits/bias"}
    task = mean_task(preset("bert"), lora={"rank": 2})
    trained = {weight.path.split("/")[-1] for weight in task.trainable_weights}
    assert trained == {"adapter_lora_a", "adapter_lora_b", "kernel", "bias"}
    assert task.output_dense.kernel.trainable


def test_students_and_hidden_states_are_of_it_too(preset):
    model = TextClassifier(mean_task(preset("bert")), Labels(["a", "b", "c"]))
    student = student_of(model, layers=1)
    assert student.pooling == "mean" and len(parts_of(student.task).blocks) == 1
    np.testing.assert_array_equal(student.task.output_dense.kernel, model.task.output_dense.kernel)
    found = with_hidden_states(model.task, [0, 2])(families.inputs_of(model.task))
    np.testing.assert_allclose(found["logits"], logits_of(model.task), atol=1e-6)
    assert [state.shape for state in found["hidden"]] == [(3, 6, 8)] * 2


def test_keras_hub_does_not_choose_it(preset, tmp_path):
    encoder.save_task(mean_task(preset("bert")), tmp_path)
    for folder in (preset("bert"), tmp_path):
        task = keras_hub.models.TextClassifier.from_preset(str(folder), num_classes=2)
        assert type(task) is keras_hub.models.BertTextClassifier
    metadata = json.loads((tmp_path / "metadata.json").read_text())
    assert metadata["tasks"] == ["MaskedLM", "TextClassifier", "TextEmbedder"]


def test_keras_saves_and_loads_it(preset, tmp_path):
    task = mean_task(preset("distil_bert"))
    task.save(tmp_path / "task.keras")
    loaded = keras.saving.load_model(tmp_path / "task.keras", compile=False)
    np.testing.assert_array_equal(logits_of(loaded), logits_of(task))


def test_electra_has_token_states_too():
    keras.utils.set_random_seed(0)
    backbone = keras_hub.models.ElectraBackbone(
        vocab_size=30,
        num_layers=1,
        num_heads=2,
        hidden_dim=8,
        embedding_dim=8,
        intermediate_dim=8,
        max_sequence_length=8,
    )
    task = PooledTextClassifier(backbone, num_classes=2, compile=False)
    inputs = families.inputs_of(task)
    mask = inputs["padding_mask"][..., None]
    mean = (np.asarray(backbone(inputs)["sequence_output"]) * mask).sum(1) / mask.sum(1)
    np.testing.assert_allclose(logits_of(task), mean @ task.output_dense.kernel, atol=1e-5)


@pytest.mark.parametrize("name", ["f_net", "roformer_v2"])
def test_families_without_a_padding_mask_have_no_mean(preset, name):
    with pytest.raises(RecipeError, match="Backbone takes no padding mask") as caught:
        encoder.build_task(preset(name), 2, pooling="mean")
    assert caught.value.where == "model.pooling"


def test_an_unknown_pooling_is_refused(preset):
    with pytest.raises(RecipeError, match="pooling is 'max'"):
        encoder.build_task(preset("bert"), 2, pooling="max")


def test_a_regression_has_one_output(preset):
    for pooling in ("cls", "mean"):
        task = encoder.build_task(preset("bert"), 1, pooling=pooling)
        assert logits_of(task).shape == (3, 1)


def test_transformers_has_no_such_head(preset):
    with pytest.raises(PresetError, match="mean of all tokens"):
        head_tensors(mean_task(preset("bert")))


def test_a_row_without_tokens_is_no_division_by_zero(preset):
    task = mean_task(preset("bert"))
    inputs = families.inputs_of(task)
    inputs["padding_mask"] = inputs["padding_mask"] * np.array([[1], [0], [1]])
    logits = np.asarray(task(inputs))
    np.testing.assert_allclose(logits[1], task.output_dense.bias, atol=1e-6)
    assert np.isfinite(logits).all()


def test_long_texts_in_bfloat16_are_averaged_in_float32(preset):
    task = mean_task(preset("bert"), precision="mixed_bfloat16")
    states = tf.ones([1, 3000, 8], tf.bfloat16)
    mean = task.output_pooling(states, tf.ones([1, 3000], tf.int32))
    assert mean.dtype == tf.bfloat16
    # Adding 1 to 256 gives 256 in bfloat16.
    np.testing.assert_array_equal(tf.cast(mean, tf.float32), np.ones([1, 8]))


@pytest.mark.parametrize("pooling", ["cls", "mean"])
@pytest.mark.parametrize("name", families.NAMES)
def test_outputs_are_scaled_in_the_last_layer(preset, name, pooling, tmp_path):
    if pooling == "mean" and name not in MASKED:
        pytest.skip("no such head")
    task = encoder.build_task(preset(name), 3, pooling=pooling)
    before, others = logits_of(task), [weight.numpy() for weight in task.backbone.weights]
    factor, shift = np.array([0.5, 2.0, -3.0]), np.array([1.0, 0.0, -7.0])
    scale_outputs(task, factor, shift)
    expected = factor * before + shift
    np.testing.assert_allclose(logits_of(task), expected, atol=1e-5)
    scale_outputs(task, 0.25)
    np.testing.assert_allclose(logits_of(task), 0.25 * expected, atol=1e-5)
    for one, other in zip(task.backbone.weights, others, strict=True):
        np.testing.assert_array_equal(one, other)
    encoder.save_task(task, tmp_path)
    np.testing.assert_allclose(logits_of(encoder.load_task(tmp_path)), 0.25 * expected, atol=1e-5)


def test_scaling_reaches_the_packed_forward_pass(preset):
    model = bert_classifier(preset("bert"), labels=["a", "b"], pooling="mean", precision="float32")
    inputs = families.inputs_of(model.task)
    lengths = inputs["padding_mask"].sum(1).astype("int32")
    before = model.packed(inputs, lengths).numpy()
    scale_outputs(model.task, 2.0, [1.0, -1.0])
    found = model.packed(inputs, lengths)
    np.testing.assert_allclose(found, 2 * before + [1, -1], atol=1e-5)


def test_what_cannot_be_scaled_is_refused(preset):
    task = mean_task(preset("bert"))
    for factor, shift in ((np.ones(2), 0), (np.nan, 0), (1, np.ones([3, 3]))):
        with pytest.raises(ValueError, match="must be a finite number, or 3 of them"):
            scale_outputs(task, factor, shift)
    backbone = task.backbone
    softmax = keras_hub.models.BertTextClassifier(backbone, num_classes=2, activation="softmax")
    with pytest.raises(ValueError, match="without an activation"):
        scale_outputs(softmax, 2.0)
    task.output_dense.quantize("int8")
    with pytest.raises(ValueError, match="without adapters or quantization"):
        scale_outputs(task, 2.0)


@pytest.mark.parametrize("pooling", ["cls", "mean"])
def test_a_classifier_keeps_its_pooling(preset, pooling, tmp_path):
    model = bert_classifier(
        preset("roberta"), labels=["no", "yes"], pooling=pooling, precision="float32"
    )
    assert model.pooling == pooling
    model.save_to_preset(tmp_path)
    loaded = TextClassifier.from_preset(tmp_path, precision="float32")
    assert loaded.pooling == pooling and loaded.labels.names == ("no", "yes")
    np.testing.assert_allclose(logits_of(loaded.task), logits_of(model.task), atol=1e-6)
    # A new classifier from it pools as it did.
    assert bert_classifier(tmp_path, 4).pooling == pooling
