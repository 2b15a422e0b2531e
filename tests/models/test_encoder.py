"""Classifiers of every family: what trains, what drops out, and what is saved."""

import json

import families
import keras
import keras_hub
import numpy as np
import pytest
import tensorflow as tf

from kerasllm.data.tokenizers import from_keras_hub
from kerasllm.errors import PresetError, RecipeError
from kerasllm.models import encoder as bert
from kerasllm.models.adapters.low_rank import is_frozen
from kerasllm.models.layers import ignores_padding, parts_of, walk


@pytest.fixture(scope="module")
def preset(tmp_path_factory):
    """Makes the tiny preset of a family, once."""
    made = {}

    def make(name):
        if name not in made:
            made[name] = families.save_preset(name, tmp_path_factory.mktemp(name))
        return made[name]

    return make


def logits_of(task, **options):
    inputs = families.inputs_of(task, **options)
    return keras.ops.convert_to_numpy(task(inputs))


def train_one_step(task):
    """Trains with a large rate, and returns the paths of the weights that changed."""
    before = {w.path: keras.ops.convert_to_numpy(w) for w in task.weights}
    inputs = families.inputs_of(task, batch=6)
    # Written out, because Keras' `fit` takes seconds to trace what one step takes to run.
    loss_of = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    with tf.GradientTape() as tape:
        loss = loss_of(np.array([0, 1, 2, 0, 1, 2]), task(inputs, training=True))
    weights = task.trainable_weights
    gradients = tape.gradient(loss, [weight.value for weight in weights])
    for weight, gradient in zip(weights, gradients, strict=True):
        if gradient is not None:
            weight.assign_sub(tf.convert_to_tensor(gradient))
    return {w.path for w in task.weights if np.any(before[w.path] != keras.ops.convert_to_numpy(w))}


@pytest.mark.parametrize("name", families.NAMES)
def test_dropout_reaches_every_dropout_of_the_model(preset, name):
    task = bert.build_task(preset(name), 3, dropout=0.25, head_dropout=0.5)
    parts = parts_of(task)
    backbone = [x for x in walk([task.backbone]) if isinstance(x, keras.layers.Dropout)]
    head = [x for x in walk(parts.head) if isinstance(x, keras.layers.Dropout)]
    assert {layer.rate for layer in backbone} == {0.25}
    assert {layer.rate for layer in head} == {0.5}
    assert task.backbone.dropout == 0.25
    inputs = families.inputs_of(task)
    draws = [keras.ops.convert_to_numpy(task(inputs, training=True)) for _ in range(2)]
    assert not np.allclose(*draws)


def test_no_dropout_is_none_anywhere_and_the_head_has_its_own(preset):
    # DeBERTa, because its head takes one of its rates from the backbone.
    silent = bert.build_task(preset("deberta_v3"), 3, dropout=0.0)
    inputs = families.inputs_of(silent)
    draws = [keras.ops.convert_to_numpy(silent(inputs, training=True)) for _ in range(2)]
    np.testing.assert_array_equal(*draws)
    only_head = bert.build_task(preset("deberta_v3"), 3, dropout=0.0, head_dropout=0.5)
    rates = {layer.rate for layer in walk(parts_of(only_head).head) if hasattr(layer, "rate")}
    assert rates == {0.5} and only_head.backbone.dropout == 0.0
    draws = [keras.ops.convert_to_numpy(only_head(inputs, training=True)) for _ in range(2)]
    assert not np.allclose(*draws)


@pytest.mark.parametrize("name", families.NAMES)
def test_a_step_trains_and_the_saved_model_gives_the_same_logits(preset, name, tmp_path):
    task = bert.build_task(preset(name), 3, dropout=0.1)
    changed = train_one_step(task)
    # Of a table, only rows that were seen change; of attention, a key's bias has no gradient.
    assert len(changed) > 0.8 * len(task.weights)
    bert.save_task(task, tmp_path)
    alone = keras_hub.models.TextClassifier.from_preset(str(tmp_path))
    assert type(alone) is type(task)
    np.testing.assert_allclose(logits_of(alone), logits_of(task), atol=1e-6)
    ours = bert.load_task(tmp_path)
    np.testing.assert_allclose(logits_of(ours), logits_of(task), atol=1e-6)
    assert ours.preprocessor.tokenizer.get_vocabulary() == (
        task.preprocessor.tokenizer.get_vocabulary()
    )


@pytest.mark.parametrize("name", [n for n in families.NAMES if n != "albert"])
def test_frozen_layers_keep_their_weights_and_the_others_do_not(preset, name):
    task = bert.build_task(preset(name), 3, dropout=0.0, freeze=1)
    depths = bert.layer_depths(task)
    changed = train_one_step(task)
    assert min(depths[path] for path in changed) == 2
    assert {depths[path] for path in changed} >= {2, 3, 4}
    trainable, total = bert.trainable_share(task)
    assert 0 < trainable < total == task.count_params()


@pytest.mark.parametrize("name", families.NAMES)
def test_a_frozen_backbone_leaves_only_the_head(preset, name):
    task = bert.build_task(preset(name), 3, freeze="backbone")
    in_backbone = {weight.path for weight in task.backbone.weights}
    changed = train_one_step(task)
    assert changed and not changed & in_backbone


def test_a_saved_model_is_not_frozen(preset, tmp_path):
    task = bert.build_task(preset("bert"), 3, freeze="backbone")
    bert.save_task(task, tmp_path)
    loaded = keras_hub.models.TextClassifier.from_preset(str(tmp_path))
    assert len(loaded.trainable_weights) == len(loaded.weights)


def test_layers_that_share_weights_are_frozen_together_or_not_at_all(tmp_path):
    folder = families.save_preset(
        "albert", tmp_path, num_layers=4, num_groups=2, num_inner_repetitions=2
    )
    task = bert.build_task(folder, 3, freeze=2, dropout=0.0)
    changed = train_one_step(task)
    assert not [path for path in changed if path.startswith(("group_0", "token_emb"))]
    assert [path for path in changed if path.startswith("group_1_inner_layer_1")]
    with pytest.raises(RecipeError, match="layer 1 shares its weights with layer 2") as caught:
        bert.build_task(folder, 3, freeze=1)
    assert 'give one of 0, 2, 4, or "backbone"' in str(caught.value)


def test_more_frozen_layers_than_there_are_is_refused(preset):
    with pytest.raises(RecipeError, match="freeze is 9, but the model has 3") as caught:
        bert.build_task(preset("bert"), 3, freeze=9)
    assert caught.value.where == "model.freeze"


@pytest.mark.parametrize("name", families.NAMES)
def test_depths_rise_from_the_embeddings_to_the_head(preset, name):
    task = bert.build_task(preset(name), 3)
    depths = bert.layer_depths(task)
    assert depths.keys() == {weight.path for weight in task.weights}
    assert len(depths) == len(task.weights), "two weights have one path"
    top = families.NUM_LAYERS + 1
    assert set(depths.values()) == ({0, 3, 4} if name == "albert" else set(range(top + 1)))
    assert depths["logits/kernel"] == top
    assert {depths[path] for path in depths if path.startswith("pooled_dense")} <= {top}
    assert {depth for path, depth in depths.items() if "layer_2" in path} <= {3}
    table = next(path for path in depths if path.endswith("token_embedding/embeddings"))
    assert depths[table] == 0


@pytest.mark.parametrize("name", families.NAMES)
def test_it_is_known_whose_logits_depend_on_the_padding(preset, name):
    task = bert.build_task(preset(name), 3)
    inputs = families.inputs_of(task)
    longer = {key: np.pad(value, [(0, 0), (0, 5)]) for key, value in inputs.items()}
    change = np.abs(np.asarray(task(inputs)) - np.asarray(task(longer))).max()
    assert ignores_padding(task) == (change < 1e-6)
    assert ignores_padding(task) == (name not in ("f_net", "roformer_v2"))


TARGETS = {"f_net": ["ffn"]}


@pytest.mark.parametrize("name", families.NAMES)
def test_lora_trains_adapters_and_head_only_and_is_merged_when_saved(preset, name, tmp_path):
    lora = {"rank": 2, "alpha": 16, "targets": TARGETS.get(name, ["query", "value"])}
    task = bert.build_task(preset(name), 3, dropout=0.0, lora=lora)
    in_backbone = {weight.path for weight in task.backbone.weights}
    adapters = {path for path in in_backbone if "adapter_lora" in path}
    blocks = 1 if name == "albert" else families.NUM_LAYERS
    assert len(adapters) == 2 * 2 * blocks
    # An adapter starts as nothing: its second matrix is 0, so the first has no gradient yet.
    assert train_one_step(task) & in_backbone == {p for p in adapters if p.endswith("lora_b")}
    for weight in task.backbone.weights:
        if weight.path.endswith("adapter_lora_b"):
            weight.assign(np.random.default_rng(0).normal(0, 0.5, weight.shape))
    assert train_one_step(task) & in_backbone == adapters

    bert.save_task(task, tmp_path)
    alone = keras_hub.models.TextClassifier.from_preset(str(tmp_path))
    assert not [weight for weight in alone.weights if "lora" in weight.path]
    np.testing.assert_allclose(logits_of(alone), logits_of(task), atol=2e-6)


def test_lora_scales_by_alpha_over_rank(preset):
    lora = {"rank": 4, "alpha": 10, "targets": ["value"]}
    task = bert.build_task(preset("bert"), 2, dropout=0.0, lora=lora)
    layers = [x for x in walk([task.backbone]) if is_frozen(x)]
    for layer in layers:
        inputs = np.random.default_rng(0).normal(size=(1, 2, 8)).astype("float32")
        before = np.asarray(layer(inputs))
        update = layer.updates["adapter"]
        update.b.assign(np.ones(update.b.shape))
        added = (inputs @ update.a.numpy().T).sum(-1)[..., None, None]
        after = np.asarray(layer(inputs))
        np.testing.assert_allclose(after - before, np.broadcast_to(2.5 * added, after.shape), 1e-4)
    assert len(layers) == families.NUM_LAYERS


def test_lora_leaves_frozen_layers_alone(preset):
    task = bert.build_task(preset("bert"), 2, freeze=2, lora={"rank": 2, "targets": ["output"]})
    adapted = {w.path.split("/")[0] for w in task.trainable_weights if "lora" in w.path}
    assert adapted == {"transformer_layer_2"}
    for freeze in (3, "backbone"):
        with pytest.raises(RecipeError, match="LoRA adapts layers that are frozen"):
            bert.build_task(preset("bert"), 2, freeze=freeze, lora={"rank": 2})


def test_a_lora_target_that_matches_nothing_is_refused_with_the_names_there(preset):
    with pytest.raises(RecipeError, match="'qeury' matches no layer") as caught:
        bert.build_task(preset("bert"), 2, lora={"targets": ["value", "qeury"]})
    for name in ("query", "attention_output", "feedforward_intermediate_dense"):
        assert name in caught.value.fix
    with pytest.raises(RecipeError, match="'query' matches no layer"):
        bert.build_task(preset("f_net"), 2, lora={"rank": 2})


@pytest.mark.parametrize("precision", ["mixed_bfloat16", "bfloat16"])
def test_a_model_of_another_precision_is_saved_so_that_keras_hub_alone_can_load_it(
    preset, tmp_path, precision
):
    task = bert.build_task(preset("bert"), 2, precision=precision, lora={"rank": 2})
    assert task.dtype_policy.name == precision
    assert task.backbone.dtype_policy.name == precision
    bert.save_task(task, tmp_path)
    alone = keras_hub.models.TextClassifier.from_preset(str(tmp_path))
    assert alone.dtype_policy.name == "float32"
    np.testing.assert_allclose(logits_of(alone), logits_of(task).astype("float32"), atol=0.02)
    again = bert.load_task(tmp_path, precision="mixed_bfloat16")
    assert again.dtype_policy.name == "mixed_bfloat16"


def test_a_saved_classifier_can_be_trained_on_for_other_classes(preset, tmp_path):
    first = bert.build_task(preset("distil_bert"), 3, precision="mixed_bfloat16")
    first.save_to_preset(str(tmp_path))
    second = bert.build_task(tmp_path, 5, dropout=0.2)
    assert logits_of(second).shape == (3, 5)
    assert second.backbone.dropout == 0.2
    for old, new in zip(first.backbone.weights, second.backbone.weights, strict=True):
        np.testing.assert_array_equal(old, new)


def test_what_is_no_classifier_is_refused(preset, tmp_path):
    with pytest.raises(RecipeError, match="at least 1 output, got 0"):
        bert.build_task(preset("bert"), 0)
    with pytest.raises(PresetError, match="not a trained classifier"):
        bert.load_task(preset("bert"))
    backbone = keras_hub.models.GPT2Backbone(
        vocabulary_size=12, num_layers=1, num_heads=1, hidden_dim=4, intermediate_dim=4
    )
    backbone.save_to_preset(str(tmp_path))
    with pytest.raises(PresetError, match="GPT2Backbone"):
        bert.build_task(tmp_path, 2)


def test_broken_weights_are_one_readable_error(preset, tmp_path):
    families.save_preset("bert", tmp_path)
    (tmp_path / "model.weights.h5").write_bytes(b"not a file of hdf5")
    with pytest.raises(PresetError, match="cannot be loaded as a text classifier"):
        bert.build_task(tmp_path, 2)


def test_code_in_a_preset_is_not_run(tmp_path):
    families.save_preset("bert", tmp_path)
    proof = tmp_path / "proof"
    code = keras.layers.Lambda(lambda x: x).get_config()
    config = json.loads((tmp_path / "config.json").read_text())
    config["config"]["max_sequence_length"] = {
        "module": "keras.layers",
        "class_name": "Lambda",
        "config": code,
        "registered_name": None,
    }
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(PresetError):
        bert.build_task(tmp_path, 2)
    config["config"]["max_sequence_length"] = {
        "module": "pathlib",
        "class_name": "Path.touch",
        "config": {"self": str(proof)},
        "registered_name": None,
    }
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(PresetError):
        bert.build_task(tmp_path, 2)
    assert not proof.exists()


@pytest.mark.parametrize(("lowercase", "expected"), [(True, "cafe"), (False, "[UNK]")])
def test_a_hosted_uncased_tokenizer_strips_accents_as_the_reference_does(lowercase, expected):
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "cafe"]
    tokenizer = keras_hub.models.BertTokenizer(vocabulary=vocabulary, lowercase=lowercase)
    bert.strip_accents_as_the_reference(tokenizer)
    ids, _ = from_keras_hub(tokenizer).encode(["Café" if lowercase else "café"], 8)
    assert vocabulary[ids[1]] == expected
