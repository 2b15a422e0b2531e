"""Small GGUF files of the reference decoders, laid out as llama.cpp's converter does it."""

from __future__ import annotations

from pathlib import Path

import gguf
import numpy as np
import references

_KEYS = {
    "block_count": ("num_hidden_layers", "n_layer"),
    "context_length": ("max_position_embeddings", "n_positions"),
    "embedding_length": ("hidden_size", "n_embd"),
    "feed_forward_length": ("intermediate_size", "n_inner"),
    "attention.head_count": ("num_attention_heads", "n_head"),
    "attention.head_count_kv": ("num_key_value_heads",),
    "attention.layer_norm_rms_epsilon": ("rms_norm_eps",),
    "attention.layer_norm_epsilon": ("layer_norm_epsilon",),
    "rope.scaling.original_context_length": ("original_max_position_embeddings",),
}
_NAMES = (
    ("transformer.h.", "blk."), ("model.layers.", "blk."),
    ("model.embed_tokens", "token_embd"), ("transformer.wte", "token_embd"),
    ("transformer.wpe", "position_embd"), ("model.norm", "output_norm"),
    ("transformer.ln_f", "output_norm"), ("lm_head", "output"),
    ("self_attn.q_proj", "attn_q"), ("self_attn.k_proj", "attn_k"),
    ("self_attn.v_proj", "attn_v"), ("self_attn.o_proj", "attn_output"),
    ("self_attn.qkv_proj", "attn_qkv"), ("self_attn.q_norm", "attn_q_norm"),
    ("self_attn.k_norm", "attn_k_norm"), ("input_layernorm", "attn_norm"),
    ("post_attention_layernorm", "ffn_norm"), ("mlp.gate_up_proj", "ffn_up"),
    ("mlp.gate_proj", "ffn_gate"), ("mlp.up_proj", "ffn_up"), ("mlp.down_proj", "ffn_down"),
    ("attn.c_attn", "attn_qkv"), ("attn.c_proj", "attn_output"), ("mlp.c_fc", "ffn_up"),
    ("mlp.c_proj", "ffn_down"), ("ln_1", "attn_norm"), ("ln_2", "ffn_norm"),
)  # fmt: skip


def permute(value: np.ndarray, heads: int) -> np.ndarray:
    """Puts the two halves of each head's rows side by side, as llama.cpp rotates them."""
    return value.reshape(heads, 2, -1, *value.shape[1:]).swapaxes(1, 2).reshape(value.shape)


def tensors_of(name: str) -> dict[str, np.ndarray]:
    """Returns a reference's tensors as they lie in a GGUF file."""
    config = references.config_of(name)
    made = {}
    for key, value in references.tensors_of(name).items():
        if config["model_type"] == "llama" and "q_proj" in key:
            value = permute(value, config["num_attention_heads"])
        if config["model_type"] == "llama" and "k_proj" in key:
            value = permute(value, config["num_key_value_heads"])
        if config["model_type"] == "gemma" and "norm" in key:
            value = value + 1
        if config["model_type"] == "gpt2" and value.ndim == 2 and ".h." in key:
            value = value.T
        for ours, theirs in _NAMES:
            key = key.replace(ours, theirs)
        made[key] = np.ascontiguousarray(value)
    return made


def write(
    file: Path,
    name: str,
    tensors: dict | None = None,
    *,
    architecture: str | None = None,
    types: dict | None = None,
    **metadata,
) -> Path:
    """Writes a reference as a GGUF file.

    Args:
        file: Where to.
        name: The reference.
        tensors: Its tensors. Defaults to `None`: as float32.
        architecture: Its name. Defaults to `None`: the family's.
        types: The types of tensors that are bytes already, by name. Defaults to `None`.
        **metadata: More keys, with `__` for a dot; those that begin with one get the
            architecture's name before it; a value of `...` takes a key out.
    """
    config = references.config_of(name)
    architecture = architecture or config["model_type"]
    writer = gguf.GGUFWriter(file, architecture)
    keys = {
        f"{architecture}.{key}": config[ours]
        for key, names in _KEYS.items()
        for ours in names
        if ours in config
    }
    if "num_key_value_heads" in config:
        keys[f"{architecture}.rope.freq_base"] = config["rope_parameters"]["rope_theta"]
        if "head_dim" in config:
            keys[f"{architecture}.attention.key_length"] = config["head_dim"]
            keys[f"{architecture}.attention.value_length"] = config["head_dim"]
    for key, value in metadata.items():
        key = key.replace("__", ".")
        keys[architecture + key if key.startswith(".") else key] = value
    for key, value in keys.items():
        if isinstance(value, str):
            writer.add_string(key, value)
        elif isinstance(value, float):
            writer.add_float32(key, value)
        elif isinstance(value, bool):
            writer.add_bool(key, value)
        elif isinstance(value, list):
            writer.add_array(key, value)
        elif value is not ...:
            writer.add_uint32(key, value)
    for key, value in (tensors_of(name) if tensors is None else tensors).items():
        writer.add_tensor(key, value, raw_dtype=(types or {}).get(key))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return file
