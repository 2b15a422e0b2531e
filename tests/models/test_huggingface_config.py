"""What a Hugging Face config.json may say, and how the rest is refused."""

import json
from pathlib import Path

import pytest

from kerasllm.errors import PresetError
from kerasllm.models import encoder as bert
from kerasllm.models.huggingface.config import FAMILIES, check_config

REFERENCE = Path(__file__).parents[1] / "reference"
FOLDERS = {
    "albert": "albert",
    "bert": "bert",
    "distilbert": "distilbert",
    "roberta": "roberta",
    "xlm-roberta": "xlm_roberta",
}


def config_of(model_type, /, **changes):
    config = json.loads((REFERENCE / FOLDERS[model_type] / "config.json").read_text())
    return {**config, **changes}


@pytest.mark.parametrize("model_type", sorted(FAMILIES))
def test_what_transformers_writes_passes(model_type):
    checked = check_config(config_of(model_type), "config.json")
    assert checked["model_type"] == model_type
    assert checked["architectures"]


@pytest.mark.parametrize(
    ("model_type", "key", "value", "supported"),
    [
        ("bert", "hidden_act", "relu", "'gelu'"),
        ("bert", "hidden_act", "quick_gelu", "'gelu_new'"),
        ("bert", "layer_norm_eps", 1e-5, "1e-12"),
        ("bert", "position_embedding_type", "relative_key", "'absolute'"),
        ("bert", "is_decoder", True, "False"),
        ("bert", "add_cross_attention", True, "False"),
        ("albert", "layer_norm_eps", 1e-5, "1e-12"),
        ("albert", "hidden_act", "silu", "'gelu_new'"),
        ("distilbert", "activation", "relu", "'gelu'"),
        ("roberta", "layer_norm_eps", 1e-12, "1e-05"),
        ("roberta", "pad_token_id", 0, "1"),
        ("xlm-roberta", "layer_norm_eps", 1e-12, "1e-05"),
        ("xlm-roberta", "pad_token_id", 0, "1"),
    ],
)
def test_a_value_that_kerashub_drops_is_refused_by_name(model_type, key, value, supported):
    with pytest.raises(PresetError) as caught:
        check_config(config_of(model_type, **{key: value}), "folder/config.json")
    assert caught.value.where == f"folder/config.json: {key}"
    assert f"{key} is {value!r}" in caught.value.what
    assert supported in caught.value.what


@pytest.mark.parametrize(
    ("model_type", "key"), [("roberta", "layer_norm_eps"), ("xlm-roberta", "layer_norm_eps")]
)
def test_a_missing_key_means_what_it_means_in_transformers(model_type, key):
    config = config_of(model_type)
    del config[key]
    with pytest.raises(PresetError, match="layer_norm_eps is 1e-12"):
        check_config(config, "config.json")


@pytest.mark.parametrize(
    ("model_type", "changes", "message"),
    [
        ("bert", {"model_type": "llama"}, "'llama'"),
        ("bert", {"model_type": None}, "None"),
        ("bert", {"hidden_size": None}, "hidden_size must be a whole number"),
        ("bert", {"num_hidden_layers": 0}, "num_hidden_layers"),
        ("bert", {"vocab_size": "60"}, "'60'"),
        ("bert", {"num_attention_heads": 5}, "5 heads do not divide"),
        ("bert", {"embedding_size": 16}, "embedding_size is 16"),
        ("distilbert", {"n_heads": 5}, "5 heads"),
        ("albert", {"num_hidden_groups": 3}, "num_hidden_groups"),
        ("albert", {"inner_group_num": True}, "inner_group_num"),
    ],
)
def test_sizes_that_cannot_be_built_are_refused(model_type, changes, message):
    with pytest.raises(PresetError, match=message):
        check_config(config_of(model_type, **changes), "config.json")


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("auto_map", {"AutoModel": "modeling.Model"}),
        ("feed_forward_type", "geglu"),
        ("pruned_heads", {"0": [1]}),
        ("quantization_config", {"bits": 8}),
        ("rope_theta", 10000.0),
    ],
)
def test_an_unknown_key_is_refused_unless_it_is_off(key, value):
    with pytest.raises(PresetError, match=key):
        check_config(config_of("bert", **{key: value}), "config.json")
    for off in (None, False, "", {}, []):
        check_config(config_of("bert", **{key: off}), "config.json")


def test_harmless_keys_pass():
    checked = check_config(
        config_of(
            "bert",
            id2label={"0": "no"},
            use_cache=True,
            gradient_checkpointing=True,
            _name_or_path="somewhere",
            hidden_dropout_prob=0.3,
            classifier_dropout=0.2,
            torch_dtype="float16",
        ),
        "config.json",
    )
    assert checked["model_type"] == "bert"


def test_a_refused_folder_is_named(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps(config_of("bert", hidden_act="relu")))
    (tmp_path / "model.safetensors").write_bytes(b"")
    with pytest.raises(PresetError, match="hidden_act is 'relu'") as caught:
        bert.build_task(tmp_path, 2)
    assert str(tmp_path) in caught.value.where
