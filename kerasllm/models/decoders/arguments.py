"""The arguments of KerasHub's backbones, out of checked Hugging Face configurations.

One function a family. Each takes the configuration with missing values filled in, its rotary
positions and the file's name for messages; what KerasHub would not honour is refused by name.
"""

from __future__ import annotations

from collections.abc import Mapping

from kerasllm.errors import PresetError
from kerasllm.models.decoders.rope import Rope
from kerasllm.models.huggingface.checks import check_sizes

ANOTHER = "use another model: this one would load but compute something else"


def gpt2(config: dict, rope: None, where: str) -> dict:
    """Returns the arguments of KerasHub\'s GPT-2, or refuses what it would not honour."""
    _divides("n_embd", "n_head", config, where)
    inner = config.get("n_inner") or 4 * config["n_embd"]
    check_sizes(["n_inner"], {"n_inner": inner}, where)
    return {
        "vocabulary_size": config["vocab_size"],
        "num_layers": config["n_layer"],
        "num_heads": config["n_head"],
        "hidden_dim": config["n_embd"],
        "intermediate_dim": inner,
        "max_sequence_length": config["n_positions"],
    }


def _blocks(config: dict, where: str) -> dict:
    """Returns the arguments that all families with rotary positions share."""
    _divides("num_attention_heads", "num_key_value_heads", config, where)
    epsilon = config["rms_norm_eps"]
    if not isinstance(epsilon, float) or not 0 < epsilon < 1:
        refuse("rms_norm_eps", config, "it must be a number between 0 and 1", where)
    return {
        "vocabulary_size": config["vocab_size"],
        "num_layers": config["num_hidden_layers"],
        "num_query_heads": config["num_attention_heads"],
        "num_key_value_heads": config["num_key_value_heads"],
        "hidden_dim": config["hidden_size"],
        "intermediate_dim": config["intermediate_size"],
        "layer_norm_epsilon": epsilon,
    }


def llama(config: dict, rope: Rope, where: str) -> dict:
    """Returns the arguments of KerasHub\'s Llama, or refuses what it would not honour."""
    _whole_heads(config, where)
    arguments = {
        **_blocks(config, where),
        "rope_max_wavelength": rope.theta,
        "tie_word_embeddings": config["tie_word_embeddings"],
    }
    # KerasHub takes a `rope_position_scaling_factor` too, and Llama's rotary layer drops it: that
    # is why "linear" is not among the kinds of this family.
    if rope.kind == "llama3":
        arguments.update(
            rope_frequency_adjustment_factor=rope.values["factor"],
            rope_low_freq_factor=rope.values["low_freq_factor"],
            rope_high_freq_factor=rope.values["high_freq_factor"],
            rope_pretraining_sequence_length=rope.values["original_max_position_embeddings"],
        )
    return arguments


def mistral(config: dict, rope: Rope, where: str) -> dict:
    """Returns the arguments of KerasHub\'s Mistral, or refuses what it would not honour."""
    window = config.get("sliding_window", 4096)
    if window is not None:
        check_sizes(["sliding_window"], config | {"sliding_window": window}, where)
    return {
        **_blocks(config, where),
        "rope_max_wavelength": rope.theta,
        "rope_scaling_factor": rope.values.get("factor", 1.0),
        "sliding_window": window,
        "head_dim": _head_dim(config, where),
    }


def qwen2(config: dict, rope: Rope, where: str) -> dict:
    """Returns the arguments of KerasHub\'s Qwen 2, or refuses what it would not honour."""
    _whole_heads(config, where)
    _no_window(config, where)
    return {
        **_blocks(config, where),
        "rope_max_wavelength": rope.theta,
        "rope_scaling_factor": rope.values.get("factor", 1.0),
        "tie_word_embeddings": config["tie_word_embeddings"],
    }


def qwen3(config: dict, rope: Rope, where: str) -> dict:
    """Returns the arguments of KerasHub\'s Qwen 3, or refuses what it would not honour."""
    _no_window(config, where)
    return {
        **_blocks(config, where),
        "rope_max_wavelength": rope.theta,
        "rope_scaling_factor": rope.values.get("factor", 1.0),
        "tie_word_embeddings": config["tie_word_embeddings"],
        "head_dim": _head_dim(config, where, missing=128),
        # KerasHub's own default is a window of 32,768 tokens.
        "sliding_window_size": None,
    }


def gemma(config: dict, rope: Rope, where: str) -> dict:
    """Returns the arguments of KerasHub\'s Gemma, or refuses what it would not honour."""
    if rope.theta != 10_000:
        refuse("rope_theta", {"rope_theta": rope.theta}, "KerasHub's gemma has 10000", where)
    arguments = _blocks(config, where)
    # KerasHub counts both halves of the gated layer.
    return {
        **arguments,
        "intermediate_dim": 2 * arguments["intermediate_dim"],
        "head_dim": _head_dim(config, where, missing=256),
    }


def phi3(config: dict, rope: Rope, where: str) -> dict:
    """Returns the arguments of KerasHub\'s Phi-3, or refuses what it would not honour."""
    _whole_heads(config, where)
    longest = config["max_position_embeddings"]
    window = config.get("sliding_window")
    if window is not None and not (isinstance(window, int) and window >= longest):
        refuse("sliding_window", config, f"KerasHub's phi3 sees all {longest} tokens", where)
    arguments = {**_blocks(config, where), "rope_max_wavelength": rope.theta}
    if rope.kind == "default":
        return {**arguments, "max_sequence_length": longest, "pretraining_sequence_length": longest}
    trained = config.get("original_max_position_embeddings", 4096)
    check_sizes(
        ["original_max_position_embeddings"], {"original_max_position_embeddings": trained}, where
    )
    if rope.values.get("original_max_position_embeddings", trained) != trained:
        refuse(
            "original_max_position_embeddings", config, "rope_parameters has another value", where
        )
    half = config["hidden_size"] // config["num_attention_heads"] // 2
    for name in ("short_factor", "long_factor"):
        if len(rope.values[name]) != half:
            raise PresetError(
                f"{name} has {len(rope.values[name])} numbers, where heads are {2 * half} wide",
                where=where,
                fix="use the file from the model's own repository",
            )
    return {
        **arguments,
        "max_sequence_length": longest,
        "pretraining_sequence_length": trained,
        "rope_scaling_type": "su",
        "rope_scaling_short_factor": rope.values["short_factor"],
        "rope_scaling_long_factor": rope.values["long_factor"],
    }


def _divides(whole: str, part: str, config: dict, where: str) -> None:
    if config[whole] % config[part]:
        raise PresetError(
            f"{whole} is {config[whole]}, which {part} ({config[part]}) does not divide",
            where=where,
            fix="use the file from the model's own repository",
        )


def _head_dim(config: dict, where: str, missing: int | None = None) -> int:
    if config.get("head_dim") is not None:
        check_sizes(["head_dim"], config, where)
        return config["head_dim"]
    if missing is not None:
        return missing
    _divides("hidden_size", "num_attention_heads", config, where)
    return config["hidden_size"] // config["num_attention_heads"]


def _whole_heads(config: dict, where: str) -> None:
    """Refuses heads that do not together have the width of the model."""
    _divides("hidden_size", "num_attention_heads", config, where)
    width = config["hidden_size"] // config["num_attention_heads"]
    if config.get("head_dim") not in (None, width):
        refuse("head_dim", config, f"KerasHub's {config['model_type']} has {width} here", where)


def _no_window(config: dict, where: str) -> None:
    """Refuses windows: KerasHub gives all layers of Qwen one, transformers the upper ones only."""
    kinds = config.get("layer_types")
    if kinds is not None:
        if not isinstance(kinds, list) or any(kind != "full_attention" for kind in kinds):
            refuse("layer_types", config, "kerasllm reads only 'full_attention' here", where)
    elif config.get("use_sliding_window") and config.get("sliding_window", 4096):
        from_layer = config.get("max_window_layers", 28)
        if not isinstance(from_layer, int) or from_layer < config["num_hidden_layers"]:
            refuse("use_sliding_window", config, "kerasllm reads Qwen without a window", where)


def refuse(key: str, config: Mapping, because: str, where: str) -> None:
    """Raises the error about a value that KerasHub would not honour."""
    raise PresetError(
        f"{key} is {config.get(key)!r}; {because}", where=f"{where}: {key}", fix=ANOTHER
    )
