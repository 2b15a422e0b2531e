"""The Hugging Face `config.json` of a KerasHub decoder: what its numbers are computed with.

The other direction of `kerasllm.models.decoders.arguments`: one function a family.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras_hub

from kerasllm.data.tokenizers import TokenizerJson
from kerasllm.errors import PresetError
from kerasllm.models.decoders import family_of

Backbone = keras_hub.models.Backbone


def decoder_config(backbone: Backbone, tokenizer: TokenizerJson, max_length: int) -> dict:
    """Returns what `config.json` says of a decoder.

    Args:
        backbone: A KerasHub backbone of one of `kerasllm.models.decoders.FAMILIES`.
        tokenizer: Its tokenizer.
        max_length: The maximum number of tokens that it reads.

    Raises:
        PresetError: The backbone is of another family, or computes something that the family does
            not compute in transformers.
    """
    family = family_of(backbone)
    return {
        "architectures": [_ARCHITECTURES[family.model_type]],
        "model_type": family.model_type,
        "dtype": "float32",
        "vocab_size": backbone.vocabulary_size,
        "tie_word_embeddings": backbone.token_embedding.tie_weights,
        "use_cache": True,
        **token_ids(tokenizer),
        **_FAMILIES[family.model_type](backbone, max_length),
    }


def token_ids(tokenizer: TokenizerJson) -> dict[str, int | list[int]]:
    """Returns the ids that start, end and pad a text, where a tokenizer has them."""
    start = tokenizer.named_tokens.get("bos_token")
    stops = list(tokenizer.stop_token_ids)
    found = {
        "bos_token_id": None if start is None else tokenizer.token_to_id(start),
        "eos_token_id": stops[0] if len(stops) == 1 else stops or None,
        "pad_token_id": tokenizer.pad_token_id,
    }
    return {name: id for name, id in found.items() if id is not None}


def _gpt2(backbone: Backbone, max_length: int) -> dict:
    return {
        "n_embd": backbone.hidden_dim,
        "n_layer": backbone.num_layers,
        "n_head": backbone.num_heads,
        "n_inner": backbone.intermediate_dim,
        "n_positions": backbone.max_sequence_length,
        "activation_function": "gelu_new",
        "layer_norm_epsilon": 1e-5,
        **dict.fromkeys(("attn_pdrop", "embd_pdrop", "resid_pdrop"), backbone.dropout),
    }


def _blocks(backbone: Backbone, max_length: int) -> dict:
    """Returns what all families with rotary positions share."""
    return {
        "hidden_size": backbone.hidden_dim,
        "intermediate_size": backbone.intermediate_dim,
        "num_hidden_layers": backbone.num_layers,
        "num_attention_heads": backbone.num_query_heads,
        "num_key_value_heads": backbone.num_key_value_heads,
        "max_position_embeddings": max_length,
        "hidden_act": "silu",
        "rms_norm_eps": backbone.layer_norm_epsilon,
        "attention_dropout": backbone.dropout,
        "rope_theta": getattr(backbone, "rope_max_wavelength", 10_000.0),
    }


def _llama(backbone: Backbone, max_length: int) -> dict:
    config = {
        **_blocks(backbone, max_length),
        "head_dim": backbone.hidden_dim // backbone.num_query_heads,
        "attention_bias": False,
        "mlp_bias": False,
    }
    if backbone.rope_frequency_adjustment_factor is not None:
        config["rope_scaling"] = {
            "rope_type": "llama3",
            "factor": backbone.rope_frequency_adjustment_factor,
            "low_freq_factor": backbone.rope_low_freq_factor,
            "high_freq_factor": backbone.rope_high_freq_factor,
            "original_max_position_embeddings": int(backbone.rope_pretraining_sequence_length),
        }
    return config


def _mistral(backbone: Backbone, max_length: int) -> dict:
    return {
        **_blocks(backbone, max_length),
        **_linear(backbone),
        "head_dim": backbone.head_dim or backbone.hidden_dim // backbone.num_query_heads,
        "sliding_window": backbone.sliding_window,
    }


def _qwen2(backbone: Backbone, max_length: int) -> dict:
    if backbone.use_sliding_window_attention and backbone.sliding_window_size < max_length:
        raise _unlike(backbone, "sees a window of tokens only")
    return {
        **_blocks(backbone, max_length),
        **_linear(backbone),
        "use_sliding_window": False,
    }


def _qwen3(backbone: Backbone, max_length: int) -> dict:
    if (backbone.sliding_window_size or max_length) < max_length:
        raise _unlike(backbone, "sees a window of tokens only")
    return {
        **_blocks(backbone, max_length),
        **_linear(backbone),
        "head_dim": backbone.head_dim,
        "attention_bias": False,
        "use_sliding_window": False,
    }


def _gemma(backbone: Backbone, max_length: int) -> dict:
    # Gemma 2 is the same class of KerasHub with these set.
    other = (
        backbone.use_post_ffw_norm
        or backbone.use_post_attention_norm
        or backbone.use_sliding_window_attention
        or backbone.final_logit_soft_cap is not None
        or backbone.attention_logit_soft_cap is not None
        or not backbone.query_head_dim_normalize
    )
    if other:
        raise _unlike(backbone, "is a Gemma 2")
    return {
        **_blocks(backbone, max_length),
        "head_dim": backbone.head_dim,
        # KerasHub counts both halves of the gated layer.
        "intermediate_size": backbone.intermediate_dim // 2,
        "hidden_act": "gelu_pytorch_tanh",
        "attention_bias": False,
    }


def _phi3(backbone: Backbone, max_length: int) -> dict:
    config = {
        **_blocks(backbone, max_length),
        "max_position_embeddings": backbone.max_sequence_length,
        "resid_pdrop": backbone.dropout,
    }
    if backbone.rope_scaling_type == "su":
        config["original_max_position_embeddings"] = backbone.pretraining_sequence_length
        config["rope_scaling"] = {
            "rope_type": "longrope",
            "factor": backbone.max_sequence_length / backbone.pretraining_sequence_length,
            "short_factor": list(backbone.rope_scaling_short_factor),
            "long_factor": list(backbone.rope_scaling_long_factor),
        }
    return config


def _linear(backbone: Backbone) -> dict:
    factor = backbone.rope_scaling_factor
    return {} if factor == 1 else {"rope_scaling": {"rope_type": "linear", "factor": factor}}


def _unlike(backbone: Backbone, what: str) -> PresetError:
    return PresetError(
        f"This {type(backbone).__name__} {what}, which kerasllm cannot write as a folder of "
        "transformers",
        fix="use --format keras_hub",
    )


_FAMILIES: dict[str, Callable[[Any, int], dict]] = {
    "gemma": _gemma,
    "gpt2": _gpt2,
    "llama": _llama,
    "mistral": _mistral,
    "phi3": _phi3,
    "qwen2": _qwen2,
    "qwen3": _qwen3,
}
_ARCHITECTURES = {
    "gemma": "GemmaForCausalLM",
    "gpt2": "GPT2LMHeadModel",
    "llama": "LlamaForCausalLM",
    "mistral": "MistralForCausalLM",
    "phi3": "Phi3ForCausalLM",
    "qwen2": "Qwen2ForCausalLM",
    "qwen3": "Qwen3ForCausalLM",
}
