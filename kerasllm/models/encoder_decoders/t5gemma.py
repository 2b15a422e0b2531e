"""T5Gemma, whose configuration holds one of the encoder and one of the decoder."""

from __future__ import annotations

from collections.abc import Mapping

import keras_hub

from kerasllm.errors import PresetError
from kerasllm.models.decoders.rope import KEYS as ROPE_KEYS
from kerasllm.models.decoders.rope import read_rope
from kerasllm.models.encoder_decoders.built import HARMLESS, Built, refuse
from kerasllm.models.huggingface.checks import check_sizes, check_unknown

_SIZES = {
    "hidden_size": "hidden_dim",
    "intermediate_size": "intermediate_dim",
    "num_hidden_layers": "num_layers",
    "num_attention_heads": "num_attention_heads",
    "num_key_value_heads": "num_key_value_heads",
    "head_dim": "head_dim",
}
# KerasHub has one value for both sides.
_SHARED = {
    "vocab_size": "vocabulary_size",
    "rms_norm_eps": "rms_norm_eps",
    "query_pre_attn_scalar": "query_pre_attn_scalar",
    "attention_bias": "attention_bias",
    "attn_logit_softcapping": "attn_logit_softcapping",
    "final_logit_softcapping": "final_logit_softcapping",
    "sliding_window": "sliding_window",
}
_DEFAULTS = {
    "hidden_size": 2304,
    "intermediate_size": 9216,
    "num_hidden_layers": 26,
    "num_attention_heads": 8,
    "num_key_value_heads": 4,
    "head_dim": 256,
    "vocab_size": 256000,
    "rms_norm_eps": 1e-6,
    "query_pre_attn_scalar": 256,
    "attention_bias": False,
    "attn_logit_softcapping": 50.0,
    "final_logit_softcapping": 30.0,
    "sliding_window": 4096,
    "max_position_embeddings": 8192,
    "hidden_activation": "gelu_pytorch_tanh",
}
_ACTIVATIONS = {
    "gelu_pytorch_tanh": "gelu_approximate",
    "gelu_new": "gelu_approximate",
    "gelu": "gelu",
    "silu": "silu",
    "relu": "relu",
}
_SLIDING, _FULL = "sliding_attention", "full_attention"
_READ = {"is_decoder", "layer_types", "cross_attention_hidden_size", "hidden_act"}


def build_t5gemma(config: dict, where: str) -> Built:
    """Returns what a configuration of T5Gemma becomes.

    Args:
        config: The content of `config.json`.
        where: The file, for messages.

    Raises:
        PresetError: A value that KerasHub would not honour.
    """
    sides = {side: _side(config, side, where) for side in ("encoder", "decoder")}
    encoder, decoder = sides["encoder"], sides["decoder"]
    for key in (*_SHARED, "hidden_activation", "rope_theta"):
        # The encoder makes no logits.
        if encoder[key] != decoder[key] and key != "final_logit_softcapping":
            because = f"KerasHub's t5gemma has one, and that of the decoder is {decoder[key]!r}"
            raise refuse(key, encoder, because, f"{where}: encoder")
    if config.get("vocab_size", decoder["vocab_size"]) != decoder["vocab_size"]:
        raise refuse("vocab_size", config, f"the decoder's is {decoder['vocab_size']}", where)
    crossed = decoder.get("cross_attention_hidden_size")
    if crossed not in (None, encoder["hidden_size"]):
        because = f"the encoder's hidden_size is {encoder['hidden_size']}"
        raise refuse("cross_attention_hidden_size", decoder, because, f"{where}: decoder")
    tied = config["tie_word_embeddings"]
    if not isinstance(tied, bool):
        raise refuse("tie_word_embeddings", config, "it must be true or false", where)
    arguments = {
        f"{side}_{ours}": found[theirs]
        for side, found in sides.items()
        for theirs, ours in _SIZES.items()
    }
    arguments |= {f"{side}_layer_types": found["layer_types"] for side, found in sides.items()}
    arguments |= {ours: decoder[theirs] for theirs, ours in _SHARED.items()}
    arguments |= {
        "hidden_activation": _ACTIVATIONS[decoder["hidden_activation"]],
        "rope_max_wavelength": decoder["rope_theta"],
        "tie_word_embeddings": tied,
    }
    longest = min(found["max_position_embeddings"] for found in sides.values())
    if any(_SLIDING in found["layer_types"] for found in sides.values()):
        # KerasHub has no window in the encoder, and one token more in that of the decoder.
        longest = min(longest, decoder["sliding_window"])
    facts = {
        "max_source_length": longest,
        "max_target_length": longest,
        "logits_soft_cap": decoder["final_logit_softcapping"],
    }
    return Built(keras_hub.models.T5GemmaBackbone, arguments, facts)


def _side(config: Mapping, side: str, where: str) -> dict:
    """Returns the checked configuration of a side, with missing values filled in."""
    given = config.get(side)
    if not isinstance(given, dict):
        raise PresetError(
            f"{side} must be an object",
            where=f"{where}: {side}",
            fix="use the file from the model's own repository",
        )
    where = f"{where}: {side}"
    found = {**_DEFAULTS, **given}
    check_sizes((*_SIZES, "vocab_size", "max_position_embeddings"), found, where)
    rope = read_rope(found, "t5gemma", ("default",), where)
    known = {*_SIZES, *_SHARED, *_DEFAULTS, *_READ, *ROPE_KEYS, *HARMLESS}
    check_unknown(known, found, where)
    if found.get("is_decoder") not in (None, side == "decoder"):
        raise refuse("is_decoder", found, f"it is the {side}", where)
    if found["hidden_activation"] not in _ACTIVATIONS:
        because = f"KerasHub's t5gemma computes {', '.join(_ACTIVATIONS)}"
        raise refuse("hidden_activation", found, because, where)
    if not isinstance(found["attention_bias"], bool):
        raise refuse("attention_bias", found, "it must be true or false", where)
    for key in ("rms_norm_eps", "query_pre_attn_scalar"):
        _check_number(key, found, where)
    for key in ("attn_logit_softcapping", "final_logit_softcapping"):
        if found[key] is not None:
            _check_number(key, found, where)
    layers = found["num_hidden_layers"]
    kinds = found.get("layer_types")
    if kinds is None:
        kinds = [_FULL if number % 2 else _SLIDING for number in range(layers)]
    if not isinstance(kinds, list) or len(kinds) != layers or {*kinds} - {_SLIDING, _FULL}:
        because = f"it must be {layers} times {_SLIDING!r} or {_FULL!r}"
        raise refuse("layer_types", found, because, where)
    if _SLIDING in kinds:
        check_sizes(["sliding_window"], found, where)
    return {**found, "layer_types": kinds, "rope_theta": rope.theta}


def _check_number(key: str, config: Mapping, where: str) -> None:
    value = config[key]
    if isinstance(value, bool) or not isinstance(value, (int, float)) or value <= 0:
        raise refuse(key, config, "it must be a number above 0", where)
