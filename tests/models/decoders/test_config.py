"""What a decoder's config.json may say: every key is honoured or refused by name."""

import hypothesis.strategies as st
import pytest
import references
from hypothesis import given, settings

from kerasllm.errors import PresetError
from kerasllm.models import decoders
from kerasllm.models.decoders.families import backbone_arguments

SMALL = {
    "vocab_size": 128, "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2,
    "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 4096,
    "bos_token_id": 1, "eos_token_id": [1, 2], "torch_dtype": "bfloat16", "use_cache": True,
    "attention_dropout": 0.0, "initializer_range": 0.02, "transformers_version": "4.45.0",
}  # fmt: skip


def arguments_of(config):
    return backbone_arguments(config, "config.json")[1]


def refusal_of(config):
    with pytest.raises(PresetError) as caught:
        backbone_arguments(config, "folder/config.json")
    assert caught.value.where.startswith("folder/config.json") and caught.value.fix
    return str(caught.value)


# As older versions of transformers wrote them, and as they lie on the hub.
@pytest.mark.parametrize(
    ("config", "expected"),
    [
        (
            {"model_type": "gpt2", "vocab_size": 128, "n_embd": 64, "n_layer": 2, "n_head": 4,
             "n_positions": 32, "n_ctx": 32, "activation_function": "gelu_new",
             "layer_norm_epsilon": 1e-05, "resid_pdrop": 0.1, "summary_type": "cls_index",
             "summary_use_proj": True,
             "task_specific_params": {"text-generation": {"do_sample": True, "max_length": 50}}},
            {"intermediate_dim": 256, "max_sequence_length": 32},
        ),
        (
            {**SMALL, "model_type": "llama", "rope_theta": 500000.0, "head_dim": 16,
             "hidden_act": "silu", "rms_norm_eps": 1e-05, "tie_word_embeddings": True,
             "pretraining_tp": 1, "rope_scaling": {
                 "factor": 32.0, "high_freq_factor": 4.0, "low_freq_factor": 1.0,
                 "original_max_position_embeddings": 8192, "rope_type": "llama3"}},
            {"rope_max_wavelength": 5e5, "layer_norm_epsilon": 1e-5, "tie_word_embeddings": True,
             "rope_frequency_adjustment_factor": 32.0, "rope_pretraining_sequence_length": 8192.0},
        ),
        (
            {**SMALL, "model_type": "llama", "rope_theta": 100000, "rope_scaling": None,
             "rope_interleaved": False, "is_llama_config": True, "rms_norm_eps": 1e-05,
             "transformers.js_config": {"kv_cache_dtype": {"fp16": "float16"}}},
            {"rope_max_wavelength": 1e5, "tie_word_embeddings": False},
        ),
        (
            {**SMALL, "model_type": "mistral", "sliding_window": 4096, "rms_norm_eps": 1e-05},
            {"sliding_window": 4096, "head_dim": 16, "rope_scaling_factor": 1.0},
        ),
        ({**SMALL, "model_type": "mistral", "sliding_window": None}, {"sliding_window": None}),
        ({**SMALL, "model_type": "mistral"}, {"sliding_window": 4096}),
        (
            {**SMALL, "model_type": "qwen2", "rope_theta": 1000000.0, "sliding_window": 32768,
             "max_window_layers": 21, "use_mrope": False, "use_sliding_window": False,
             "tie_word_embeddings": True, "rms_norm_eps": 1e-06},
            {"rope_max_wavelength": 1e6, "tie_word_embeddings": True},
        ),
        (
            {**SMALL, "model_type": "qwen2", "use_sliding_window": True, "max_window_layers": 2},
            {"tie_word_embeddings": False},
        ),
        (
            {**SMALL, "model_type": "qwen3", "head_dim": 128, "rms_norm_eps": 1e-06},
            {"head_dim": 128, "sliding_window_size": None},
        ),
        (
            {**SMALL, "model_type": "gemma", "hidden_act": "gelu", "hidden_activation": None,
             "head_dim": 256, "rope_theta": 10000.0, "rms_norm_eps": 1e-06},
            {"head_dim": 256, "intermediate_dim": 192},
        ),
        (
            {**SMALL, "model_type": "phi3", "auto_map": {"AutoConfig": "x.Phi3Config"},
             "sliding_window": 262144, "original_max_position_embeddings": 1024,
             "rope_scaling": {"type": "su", "short_factor": [1.0] * 8, "long_factor": [2] * 8}},
            {"rope_scaling_type": "su", "pretraining_sequence_length": 1024,
             "layer_norm_epsilon": 1e-5, "rope_scaling_long_factor": [2.0] * 8},
        ),
    ],
)  # fmt: skip
def test_configurations_of_the_hub_are_honoured(config, expected):
    arguments = arguments_of(config)
    assert {key: arguments[key] for key in expected} == expected


@pytest.mark.parametrize(
    ("name", "key", "value", "instead"),
    [
        ("gpt2", "activation_function", "relu", "'gelu_new'"),
        ("gpt2", "activation_function", "gelu", "'gelu_new'"),
        ("gpt2", "layer_norm_epsilon", 1e-6, "1e-05"),
        ("gpt2", "tie_word_embeddings", False, "True"),
        ("gpt2", "scale_attn_weights", False, "True"),
        ("gpt2", "scale_attn_by_inverse_layer_idx", True, "False"),
        ("gpt2", "add_cross_attention", True, "False"),
        ("llama", "hidden_act", "gelu", "'silu'"),
        ("llama", "attention_bias", True, "False"),
        ("llama", "mlp_bias", True, "False"),
        ("llama", "head_dim", 16, "has 8 here"),
        ("mistral", "tie_word_embeddings", True, "False"),
        ("qwen2", "layer_types", ["full_attention", "sliding_attention"], "'full_attention'"),
        ("qwen2", "use_mrope", True, "False"),
        ("qwen3", "attention_bias", True, "False"),
        ("gemma", "rms_norm_eps", 1e-5, "1e-06"),
        ("gemma", "hidden_act", "relu", "'gelu_pytorch_tanh'"),
        ("gemma", "hidden_activation", "gelu", "'gelu_pytorch_tanh'"),
        ("gemma", "use_bidirectional_attention", True, "False"),
        ("gemma", "tie_word_embeddings", False, "True"),
        ("phi3", "tie_word_embeddings", True, "False"),
        ("phi3", "sliding_window", 8, "sees all 64 tokens"),
    ],
)
def test_what_kerashub_would_not_honour_is_refused_by_name(name, key, value, instead):
    message = refusal_of(references.config_of(name, **{key: value}))
    assert f"{key} is {value!r}" in message and instead in message


def rope(**values):
    return {"rope_parameters": {"rope_theta": 10000.0, **values}}


LLAMA_3 = dict(factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0)


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        ("llama", rope(rope_type="linear", factor=2.0), "rope_type is 'linear'"),
        ("llama", rope(rope_type="yarn", factor=2.0), "'default' or 'llama3'"),
        ("llama", rope(rope_type="llama3", **LLAMA_3), "original_max_position_embeddings must be"),
        ("llama", rope(rope_type="default", factor=2.0), "factor is 2.0"),
        ("llama", rope(partial_rotary_factor=0.5), "partial_rotary_factor is 0.5"),
        ("llama", rope(rope_theta="big"), "rope_theta must be a number above 0, got 'big'"),
        ("llama", rope(rope_theta=float("nan")), "rope_theta must be"),
        ("llama", {"rope_theta": 5.0}, "rope_theta is 5.0, and 100000.0 in rope_parameters"),
        ("llama", {"rope_scaling": {"type": "linear"}}, "are both present and differ"),
        ("llama", {"rope_parameters": "default"}, "must be an object"),
        ("mistral", rope(rope_type="dynamic", factor=2.0), "'default' or 'linear'"),
        ("mistral", rope(rope_type="linear"), "factor must be"),
        ("gemma", rope(rope_theta=20000.0), "rope_theta is 20000.0"),
        ("gemma", rope(rope_type="linear", factor=2.0), "rope_type is 'linear'"),
        ("qwen3", rope(rope_type="yarn", factor=4.0), "rope_type is 'yarn'"),
        ("phi3_long", rope(rope_type="longrope", long_factor=[1.0] * 4), "short_factor must be"),
        (
            "phi3_long",
            rope(rope_type="longrope", long_factor=[1.0] * 4, short_factor=[1.0] * 3),
            "short_factor has 3 numbers, where heads are 8 wide",
        ),
        (
            "phi3_long",
            rope(rope_type="longrope", long_factor=[1.0] * 4, short_factor=[1.0] * 4,
                 attention_factor=1.2),
            "attention_factor is 1.2",
        ),
    ],
)  # fmt: skip
def test_positions_that_kerashub_does_not_compute_are_refused(name, changes, message):
    assert message in refusal_of(references.config_of(name, **changes))


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        ("llama", {"model_type": "mamba"}, "model_type is 'mamba'"),
        ("llama", {"model_type": ...}, "model_type is None"),
        ("llama", {"vocab_size": "96"}, "vocab_size must be a whole number above 0, got '96'"),
        ("llama", {"hidden_size": ...}, "hidden_size must be"),
        ("llama", {"num_hidden_layers": 0}, "num_hidden_layers"),
        ("llama", {"max_position_embeddings": ...}, "max_position_embeddings"),
        ("llama", {"num_attention_heads": 3, "num_key_value_heads": 3}, "does not divide"),
        ("llama", {"num_key_value_heads": 3}, "num_key_value_heads (3) does not divide"),
        ("llama", {"rms_norm_eps": "small"}, "rms_norm_eps is 'small'"),
        ("llama", {"rms_norm_eps": 0.0}, "rms_norm_eps is 0.0"),
        ("llama", {"tie_word_embeddings": "yes"}, "tie_word_embeddings is 'yes'"),
        ("gpt2", {"n_head": 5}, "n_head (5) does not divide"),
        ("gpt2", {"n_inner": -4}, "n_inner must be"),
        ("mistral", {"sliding_window": 0}, "sliding_window must be"),
        ("qwen3", {"head_dim": 0}, "head_dim must be"),
        (
            "qwen2",
            {
                "layer_types": ...,
                "use_sliding_window": True,
                "max_window_layers": 1,
                "sliding_window": 8,
            },
            "use_sliding_window is True",
        ),
        ("phi3_long", {"original_max_position_embeddings": 16}, "original_max_position_embeddings"),
    ],
)
def test_what_cannot_be_built_is_refused(name, changes, message):
    assert message in refusal_of(references.config_of(name, **changes))


_VALUES = st.one_of(
    st.integers(1, 9),
    st.just(True),
    st.text(min_size=1, max_size=4),
    st.lists(st.integers(), min_size=1, max_size=2),
    st.dictionaries(st.text(max_size=3), st.integers(), min_size=1, max_size=2),
)


@settings(max_examples=40, deadline=None)
@given(
    name=st.sampled_from(references.FAMILIES),
    key=st.text("abcdefghijklmnopqrstuvwxyz", min_size=3, max_size=12).map("x_".__add__),
    value=_VALUES,
)
def test_no_unknown_key_is_dropped(name, key, value):
    message = refusal_of(references.config_of(name, **{key: value}))
    assert f"{key} is {value!r}; kerasllm does not know" in message
    for off in (None, False, "", [], {}):
        arguments_of(references.config_of(name, **{key: off}))


@pytest.mark.parametrize("name", references.FAMILIES)
def test_a_family_refuses_what_only_others_read(name):
    """A key that one family honours or ignores says something in another."""
    own = references.config_of(name)
    for other in references.FAMILIES:
        for key, value in references.config_of(other).items():
            if key in own or value in (None, False, 0.0) or (name == "gpt2") != (other == "gpt2"):
                continue
            try:
                arguments = arguments_of({**own, key: value})
            except PresetError as error:
                assert key in str(error)
            else:
                assert arguments == arguments_of(own), f"{key} of {other} changes {name}"


@settings(max_examples=60, deadline=None)
@given(
    name=st.sampled_from(references.FAMILIES),
    data=st.data(),
    value=st.one_of(_VALUES, st.none(), st.floats(), st.integers(-3, 0)),
)
def test_no_value_ends_in_anything_but_arguments_or_a_refusal(name, data, value):
    config = references.config_of(name)
    key = data.draw(st.sampled_from([key for key in sorted(config) if key != "model_type"]))
    try:
        assert arguments_of({**config, key: value})["vocabulary_size"] > 0
    except PresetError as error:
        assert error.where and error.fix


def test_a_refused_folder_is_named(tmp_path):
    folder = references.copy("llama", tmp_path, attention_bias=True)
    with pytest.raises(PresetError, match="attention_bias is True") as caught:
        decoders.load_backbone(folder)
    assert caught.value.where == f"{folder / 'config.json'}: attention_bias"
    encoder = references.FOLDER.parent / "bert"
    with pytest.raises(PresetError, match="model_type is 'bert'") as caught:
        decoders.load_backbone(encoder)
    assert "llama" in caught.value.fix
