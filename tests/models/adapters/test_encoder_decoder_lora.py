"""Low-rank adapters on the encoder, the decoder and the attention between them."""

import sys
from pathlib import Path

import keras
import keras_hub
import numpy as np
import pytest
import safetensors.numpy

from kerasllm.errors import RecipeError
from kerasllm.models.adapters.encoder_decoder_adapter import can_be_saved, save_adapter
from kerasllm.models.adapters.encoder_lora import add_lora
from kerasllm.models.adapters.low_rank import is_frozen
from kerasllm.models.encoder_decoders import load_backbone, modules
from kerasllm.models.layers import walk

REFERENCE = Path(__file__).parents[2] / "reference" / "encoder_decoders"
sys.path.insert(0, str(REFERENCE.parent))
import make_encoder_decoder_adapters as made


def task_of(name):
    backbone = load_backbone(REFERENCE / name).backbone
    hidden = backbone(backbone.input)["decoder_sequence_output"]
    task = keras.Model(backbone.input, hidden)
    task.backbone = backbone
    return task


def inputs_of(expected) -> dict:
    return {
        f"{theirs}_{ours}": expected[f"{side}{ending}"]
        for theirs, side in (("encoder", "source"), ("decoder", "target"))
        for ours, ending in (("token_ids", ""), ("padding_mask", "_mask"))
    }


def adapted(task) -> set[str]:
    """Returns the modules of transformers that got an adapter."""
    named = {id(module.layers[0]): name for name, module in modules(task.backbone).items()}
    return {named[id(layer)] for layer in walk([task]) if is_frozen(layer)}


@pytest.mark.parametrize("name", ["bart_uneven", "t5_gated", "t5gemma"])
def test_targets_name_the_same_layers_in_every_family(name):
    task, known = task_of(name), set()
    every = set(modules(task.backbone))
    for target, ends in (
        ("query", {"q_proj", "q"}),
        ("key", {"k_proj", "k"}),
        ("value", {"v_proj", "v"}),
        ("output", {"out_proj", "o_proj", "o"}),
        ("mlp", {"fc1", "fc2", "wi_0", "wi_1", "wo", "gate_proj", "up_proj", "down_proj"}),
    ):
        add_lora(task, targets=[target], rank=2)
        found = adapted(task)
        assert found - known == {each for each in every if each.rpartition(".")[2] in ends}
        known = found
    assert known == every


@pytest.mark.parametrize("name", ["bart", "mbart", "t5_gated"])
def test_adapters_alone_train_and_are_merged_when_saved(name, tmp_path):
    task = task_of(name)
    expected = np.load(REFERENCE / name / "expected.npz")
    inputs = inputs_of(expected)
    before = np.asarray(task(inputs))
    add_lora(task, rank=2, targets=["cross_attention"] if name == "bart" else ["attention"])
    if name == "bart":
        assert adapted(task) == {each for each in modules(task.backbone) if "encoder_attn" in each}
    np.testing.assert_allclose(task(inputs), before, atol=1e-5)
    assert all("lora" in variable.path for variable in task.trainable_variables)
    random = np.random.default_rng(0)
    for variable in task.trainable_variables:
        variable.assign(random.normal(0, 0.5, variable.shape))
    learned = np.asarray(task(inputs))
    assert np.abs(learned - before).max() > 0.01
    task.backbone.save_to_preset(str(tmp_path))
    again = keras_hub.models.Backbone.from_preset(str(tmp_path))
    merged = again(inputs)["decoder_sequence_output"]
    np.testing.assert_allclose(merged, learned, atol=1e-3)


def test_norms_train_whole_where_they_are_named():
    task = task_of("t5_gated")
    with pytest.raises(RecipeError, match="'queries' matches no layer"):
        add_lora(task, targets=["queries"])
    add_lora(task, train=["norm"], rank=2)
    whole = [v for v in task.trainable_variables if "lora" not in v.path]
    # Two norms of the encoder's layer, three of the decoder's, and one at the end of each.
    assert len(whole) == 2 + 3 + 2


@pytest.mark.parametrize("name", list(made.ADAPTERS))
def test_what_peft_opened_is_what_is_saved_and_has_the_same_logits(name, tmp_path):
    """`logits.npy` is what peft computes with the stored adapter, on the model of transformers."""
    task, stored = made.build(name), REFERENCE / name / "adapter"
    save_adapter(task.backbone, tmp_path, base_name=f"tiny {name}")
    assert (tmp_path / "adapter_config.json").read_text() == (
        stored / "adapter_config.json"
    ).read_text()
    now, then = (
        safetensors.numpy.load_file(each / "adapter_model.safetensors")
        for each in (tmp_path, stored)
    )
    assert now.keys() == then.keys()
    for key, value in now.items():
        np.testing.assert_allclose(value, then[key], atol=1e-6)
    expected = np.load(REFERENCE / name / "expected.npz")
    hidden = task(inputs_of(expected))
    facts = load_backbone(REFERENCE / name).facts
    hidden = hidden * facts.get("hidden_scale", 1.0)
    logits = np.asarray(task.backbone.token_embedding(hidden, reverse=True))
    logits = logits + facts.get("final_logits_bias", 0)
    counted = expected["target_mask"].astype(bool)
    wanted = np.load(stored / "logits.npy")
    np.testing.assert_allclose(logits[counted], wanted[counted], atol=1e-4)
    assert np.abs(wanted - expected["logits"])[counted].max() > 0.01


def test_embeddings_that_train_whole_go_into_no_adapter():
    task = task_of("t5_gated")
    add_lora(task, rank=2)
    assert can_be_saved(task.backbone)
    add_lora(task, rank=2, targets=["key"], train=["embeddings"])
    assert not can_be_saved(task.backbone)
