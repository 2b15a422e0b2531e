"""Each value of a config.json is honoured or refused by name."""

import pytest
import references_of_pairs as references

from kerasllm.errors import PresetError
from kerasllm.models.encoder_decoders.families import read_family


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        ("bart", {"normalize_before": True}, "normalize_before is True"),
        ("bart", {"tie_word_embeddings": False}, "tie_word_embeddings is False"),
        ("bart", {"activation_function": "mish"}, "activation_function is 'mish'"),
        ("bart", {"scale_embedding": 2}, "scale_embedding is 2"),
        ("bart", {"d_model": 18}, "encoder_attention_heads is 4"),
        ("bart", {"encoder_layers": 0}, "encoder_layers must be"),
        ("bart", {"new_feature": 3}, "new_feature is 3"),
        ("marian", {"decoder_vocab_size": 50}, "decoder_vocab_size is 50"),
        ("marian", {"share_encoder_decoder_embeddings": False}, "share_encoder_decoder"),
        ("t5", {"relative_attention_num_buckets": 16}, "relative_attention_num_buckets is 16"),
        ("t5", {"relative_attention_max_distance": 64}, "relative_attention_max_distance is 64"),
        ("t5", {"num_decoder_layers": 3}, "num_decoder_layers is 3"),
        ("t5", {"feed_forward_proj": "gated-mish"}, "feed_forward_proj is 'gated-mish'"),
        ("t5", {"feed_forward_proj": "other-relu"}, "feed_forward_proj is 'other-relu'"),
        ("t5", {"dense_act_fn": "gelu"}, "dense_act_fn is 'gelu'"),
        ("t5", {"layer_norm_epsilon": 2}, "layer_norm_epsilon is 2"),
        ("t5", {"model_type": "led"}, "model_type is 'led'"),
    ],
)
def test_a_value_that_would_not_be_honoured_is_named(name, changes, message):
    with pytest.raises(PresetError, match=message):
        read_family(references.config_of(name, **changes), "config.json")


@pytest.mark.parametrize(
    ("side", "changes", "message"),
    [
        ("encoder", {"rms_norm_eps": 1e-5}, "rms_norm_eps is 1e-05"),
        ("encoder", {"rope_parameters": {"rope_theta": 5.0}}, "rope_theta is 5.0"),
        ("decoder", {"hidden_activation": "mish"}, "hidden_activation is 'mish'"),
        ("decoder", {"layer_types": ["full_attention"]}, "layer_types is"),
        ("decoder", {"cross_attention_hidden_size": 8}, "cross_attention_hidden_size is 8"),
        ("decoder", {"head_dim": None}, "head_dim must be"),
        ("decoder", {"another": 1}, "another is 1"),
        ("decoder", {"rope_parameters": {"rope_type": "linear", "factor": 2.0}}, "rope_type"),
    ],
)
def test_both_sides_of_a_t5gemma_are_checked(side, changes, message):
    config = references.config_of("t5gemma")
    config[side] = {**config[side], **changes}
    with pytest.raises(PresetError, match=message):
        read_family(config, "config.json")


def test_a_t5gemma_reads_no_more_than_its_window():
    config = references.config_of("t5gemma")
    facts = read_family(config, "config.json")[1].facts
    assert facts["max_source_length"] == facts["max_target_length"] == 20
    assert facts["logits_soft_cap"] == 3.0
    for side in ("encoder", "decoder"):
        layers = config[side]["num_hidden_layers"]
        config[side] = {**config[side], "layer_types": ["full_attention"] * layers}
    assert read_family(config, "config.json")[1].facts["max_source_length"] == 8192


def test_a_t5_is_read_as_transformers_means_it():
    def built(**changes):
        return read_family(references.config_of("t5", **changes), "config.json")[1]

    assert built().facts["hidden_scale"] == 16**-0.5
    assert built().facts["prefixes"] == {"summarization": "summarize: "}
    old = {"scale_decoder_outputs": ..., "is_gated_act": ..., "dense_act_fn": ...}
    assert built(**old, tie_word_embeddings=False).facts["hidden_scale"] == 1.0
    assert built(**old, tie_word_embeddings=...).facts["hidden_scale"] == 16**-0.5
    gated = built(**old, feed_forward_proj="gated-gelu").arguments
    assert gated["use_gated_activation"] and gated["activation"].__name__ == "gelu_approximate"
    exact = built(**old, feed_forward_proj="gelu").arguments
    assert not exact["use_gated_activation"] and exact["activation"] == "gelu"


_OLD_BART = {
    "_num_labels": 3,
    "activation_dropout": 0.0,
    "activation_function": "gelu",
    "add_bias_logits": False,
    "add_final_layer_norm": False,
    "attention_dropout": 0.0,
    "classif_dropout": 0.0,
    "d_model": 1024,
    "decoder_attention_heads": 16,
    "decoder_ffn_dim": 4096,
    "decoder_layerdrop": 0.0,
    "decoder_layers": 12,
    "decoder_start_token_id": 2,
    "dropout": 0.1,
    "early_stopping": True,
    "encoder_attention_heads": 16,
    "encoder_ffn_dim": 4096,
    "encoder_layerdrop": 0.0,
    "encoder_layers": 12,
    "extra_pos_embeddings": 2,
    "force_bos_token_to_be_generated": True,
    "forced_eos_token_id": 2,
    "gradient_checkpointing": False,
    "init_std": 0.02,
    "is_encoder_decoder": True,
    "length_penalty": 2.0,
    "max_length": 142,
    "max_position_embeddings": 1024,
    "min_length": 56,
    "model_type": "bart",
    "no_repeat_ngram_size": 3,
    "normalize_before": False,
    "normalize_embedding": True,
    "num_beams": 4,
    "num_hidden_layers": 12,
    "output_past": True,
    "prefix": " ",
    "replacing_rate": 0,
    "save_step": 58,
    "scale_embedding": False,
    "static_position_embeddings": False,
    "task_specific_params": {"summarization": {"num_beams": 4}},
    "vocab_size": 50264,
}
_OF_MARIAN = {
    "activation_function": "swish",
    "bad_words_ids": [[58100]],
    "decoder_vocab_size": 58101,
    "d_model": 512,
    "model_type": "marian",
    "normalize_embedding": False,
    "scale_embedding": True,
    "share_encoder_decoder_embeddings": True,
    "static_position_embeddings": True,
    "vocab_size": 58101,
}
_OF_PEGASUS = {
    "activation_function": "relu",
    "add_final_layer_norm": True,
    "do_blenderbot_90_layernorm": False,
    "extra_pos_embeddings": 1,
    "model_type": "pegasus",
    "normalize_before": True,
    "normalize_embedding": False,
    "scale_embedding": True,
    "static_position_embeddings": True,
}
_OF_MBART = {
    "add_final_layer_norm": True,
    "model_type": "mbart",
    "normalize_before": True,
    "scale_embedding": True,
    "tokenizer_class": "MBart50Tokenizer",
}


@pytest.mark.parametrize(
    ("changes", "backbone"),
    [
        ({}, "BartBackbone"),
        ({"decoder_layers": 6}, "EncoderDecoderBackbone"),
        (_OF_MARIAN, "EncoderDecoderBackbone"),
        (_OF_PEGASUS, "EncoderDecoderBackbone"),
        (_OF_MBART, "EncoderDecoderBackbone"),
    ],
)
def test_configurations_as_the_first_transformers_wrote_them_are_read(changes, backbone):
    _family, built = read_family({**_OLD_BART, **changes}, "config.json")
    assert built.backbone_cls.__name__ == backbone
    assert built.facts == {"max_source_length": 1024, "max_target_length": 1024}
