"""The families of decoders: a Hugging Face config.json becomes the arguments of KerasHub's backbone.

Every key is honoured or refused by name (see `kerasllm.models.huggingface.checks`). What KerasHub
0.32 computes otherwise than transformers, and so is refused here, was found by comparing logits:
`fixed` and the functions below name each case.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import keras_hub

from kerasllm.errors import PresetError
from kerasllm.models.decoders.rope import KEYS as ROPE_KEYS
from kerasllm.models.decoders.rope import Rope, read_rope
from kerasllm.models.huggingface.checks import Only, check_fixed, check_sizes, check_unknown

_ANOTHER = "use another model: this one would load and compute something else"
# Dropouts are what kerasllm is asked for; the rest concerns generation, training or other software.
_HARMLESS = frozenset(
    """
    unk_token_id attention_dropout pretraining_tp max_new_tokens min_new_tokens cache_implementation
    bad_words_ids begin_suppress_tokens suppress_tokens forced_bos_token_id forced_eos_token_id
    exponential_decay_length_penalty renormalize_logits is_llama_config transformers.js_config
    """.split()
)
_BLOCK_SIZES = (
    "vocab_size",
    "hidden_size",
    "num_hidden_layers",
    "num_attention_heads",
    "num_key_value_heads",
    "intermediate_size",
    "max_position_embeddings",
)
_SILU = Only(("silu", "swish"), "silu")
_NO = Only((False, None), False)


@dataclass(frozen=True)
class Family:
    """Decoders of one `model_type`.

    Attributes:
        model_type: As Hugging Face spells it.
        task: The name of KerasHub's class.
        sizes: Keys that must be whole numbers above 0.
        arguments: Makes the backbone's arguments of a checked configuration and its rotary
            positions; refuses what KerasHub would not honour.
        fixed: Keys for which KerasHub builds one thing only.
        read: Further keys that `arguments` reads.
        harmless: Keys of this family that do not change the numbers.
        tied: What transformers takes a missing `tie_word_embeddings` to mean.
        epsilon: What transformers takes a missing `rms_norm_eps` to mean.
        ropes: The kinds of rotary positions that KerasHub computes; none: learned positions.
    """

    model_type: str
    task: str
    sizes: tuple[str, ...]
    arguments: Callable[[dict, Rope | None, str], dict]
    fixed: Mapping[str, Only] = field(default_factory=dict)
    read: frozenset[str] = frozenset()
    harmless: frozenset[str] = frozenset()
    tied: bool = False
    epsilon: float = 1e-6
    ropes: tuple[str, ...] = ("default",)

    @property
    def task_cls(self) -> type[keras_hub.models.CausalLM]:
        return getattr(keras_hub.models, self.task)

    @property
    def backbone_cls(self) -> type[keras_hub.models.Backbone]:
        return self.task_cls.backbone_cls


def backbone_arguments(config: Mapping, where: str) -> tuple[Family, dict]:
    """Checks a config.json and makes the arguments of KerasHub's backbone.

    Args:
        config: The content of `config.json`.
        where: The file, for messages.

    Returns:
        The family, and all arguments but `dropout` and `dtype`.

    Raises:
        PresetError: A value that KerasHub would not honour, named with what it does instead.
    """
    model_type = config.get("model_type")
    if model_type not in FAMILIES:
        raise PresetError(
            f"model_type is {model_type!r}, which kerasllm cannot read as a causal language model",
            where=where,
            fix=f"use a folder of one of these: {', '.join(sorted(FAMILIES))}; "
            "or a KerasHub preset",
        )
    family = FAMILIES[model_type]
    filled = dict(config)
    for key, meant in (
        ("num_key_value_heads", filled.get("num_attention_heads")),
        ("tie_word_embeddings", family.tied),
        ("rms_norm_eps", family.epsilon),
    ):
        if filled.get(key) is None:
            filled[key] = meant
    check_sizes(family.sizes, filled, where)
    check_fixed(model_type, family.fixed, filled, where)
    rope = read_rope(filled, model_type, family.ropes, where) if family.ropes else None
    keys = {*family.sizes, *family.fixed, *family.read, *family.harmless, *_HARMLESS}
    keys |= {"rms_norm_eps", "tie_word_embeddings", "num_key_value_heads"}
    check_unknown(keys | set(ROPE_KEYS if family.ropes else ()), filled, where)
    if not isinstance(filled["tie_word_embeddings"], bool):
        _refuse("tie_word_embeddings", filled, "it must be true or false", where)
    return family, family.arguments(filled, rope, where)


def family_of(backbone: keras_hub.models.Backbone) -> Family:
    """Returns the family of a backbone.

    Raises:
        PresetError: kerasllm does not know how Hugging Face lays this one out.
    """
    for family in FAMILIES.values():
        if isinstance(backbone, family.backbone_cls):
            return family
    known = sorted(family.backbone_cls.__name__ for family in FAMILIES.values())
    raise PresetError(
        f"{type(backbone).__name__} is not a decoder whose Hugging Face names kerasllm knows",
        fix=f"use a model of one of these: {', '.join(known)}",
    )


def _gpt2(config: dict, rope: None, where: str) -> dict:
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
        _refuse("rms_norm_eps", config, "it must be a number between 0 and 1", where)
    return {
        "vocabulary_size": config["vocab_size"],
        "num_layers": config["num_hidden_layers"],
        "num_query_heads": config["num_attention_heads"],
        "num_key_value_heads": config["num_key_value_heads"],
        "hidden_dim": config["hidden_size"],
        "intermediate_dim": config["intermediate_size"],
        "layer_norm_epsilon": epsilon,
    }


def _llama(config: dict, rope: Rope, where: str) -> dict:
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


def _mistral(config: dict, rope: Rope, where: str) -> dict:
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


def _qwen2(config: dict, rope: Rope, where: str) -> dict:
    _whole_heads(config, where)
    _no_window(config, where)
    return {
        **_blocks(config, where),
        "rope_max_wavelength": rope.theta,
        "rope_scaling_factor": rope.values.get("factor", 1.0),
        "tie_word_embeddings": config["tie_word_embeddings"],
    }


def _qwen3(config: dict, rope: Rope, where: str) -> dict:
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


def _gemma(config: dict, rope: Rope, where: str) -> dict:
    if rope.theta != 10_000:
        _refuse("rope_theta", {"rope_theta": rope.theta}, "KerasHub's gemma has 10000", where)
    arguments = _blocks(config, where)
    # KerasHub counts both halves of the gated layer.
    return {
        **arguments,
        "intermediate_dim": 2 * arguments["intermediate_dim"],
        "head_dim": _head_dim(config, where, missing=256),
    }


def _phi3(config: dict, rope: Rope, where: str) -> dict:
    _whole_heads(config, where)
    longest = config["max_position_embeddings"]
    window = config.get("sliding_window")
    if window is not None and not (isinstance(window, int) and window >= longest):
        _refuse("sliding_window", config, f"KerasHub's phi3 sees all {longest} tokens", where)
    arguments = {**_blocks(config, where), "rope_max_wavelength": rope.theta}
    if rope.kind == "default":
        return {**arguments, "max_sequence_length": longest, "pretraining_sequence_length": longest}
    trained = config.get("original_max_position_embeddings", 4096)
    check_sizes(["original_max_position_embeddings"], {"original_max_position_embeddings": trained},
                where)  # fmt: skip
    if rope.values.get("original_max_position_embeddings", trained) != trained:
        _refuse("original_max_position_embeddings", config, "rope_parameters says another", where)
    half = config["hidden_size"] // config["num_attention_heads"] // 2
    for name in ("short_factor", "long_factor"):
        if len(rope.values[name]) != half:
            raise PresetError(
                f"{name} has {len(rope.values[name])} numbers, where heads are {2 * half} wide",
                where=where,
                fix="take the file from the model's own repository",
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
            fix="take the file from the model's own repository",
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
        _refuse("head_dim", config, f"KerasHub's {config['model_type']} has {width} here", where)


def _no_window(config: dict, where: str) -> None:
    """Refuses windows: KerasHub gives all layers of Qwen one, transformers the upper ones only."""
    kinds = config.get("layer_types")
    if kinds is not None:
        if not isinstance(kinds, list) or any(kind != "full_attention" for kind in kinds):
            _refuse("layer_types", config, "kerasllm reads only 'full_attention' here", where)
    elif config.get("use_sliding_window") and config.get("sliding_window", 4096):
        from_layer = config.get("max_window_layers", 28)
        if not isinstance(from_layer, int) or from_layer < config["num_hidden_layers"]:
            _refuse("use_sliding_window", config, "kerasllm reads Qwen without a window", where)


def _refuse(key: str, config: Mapping, because: str, where: str) -> None:
    raise PresetError(f"{key} is {config.get(key)!r}; {because}", where=f"{where}: {key}",
                      fix=_ANOTHER)  # fmt: skip


_TANH_GELU = ("gelu_new", "gelu_pytorch_tanh", "gelu_fast")

FAMILIES: dict[str, Family] = {
    family.model_type: family
    for family in (
        Family(
            "gpt2",
            "GPT2CausalLM",
            ("vocab_size", "n_embd", "n_layer", "n_head", "n_positions"),
            _gpt2,
            fixed={
                "activation_function": Only(_TANH_GELU, "gelu_new"),
                "layer_norm_epsilon": Only((1e-5,), 1e-5),
                "scale_attn_weights": Only((True,), True),
                "scale_attn_by_inverse_layer_idx": _NO,
                "add_cross_attention": _NO,
                "tie_word_embeddings": Only((True,), True),
            },
            read=frozenset({"n_inner"}),
            harmless=frozenset(
                "attn_pdrop embd_pdrop resid_pdrop n_ctx reorder_and_upcast_attn summary_activation "
                "summary_first_dropout summary_proj_to_labels summary_type summary_use_proj".split()
            ),
            tied=True,
            ropes=(),
        ),
        Family(
            "llama",
            "Llama3CausalLM",
            _BLOCK_SIZES,
            _llama,
            fixed={"hidden_act": _SILU, "attention_bias": _NO, "mlp_bias": _NO},
            read=frozenset({"head_dim"}),
            ropes=("default", "llama3"),
        ),
        Family(
            "mistral",
            "MistralCausalLM",
            _BLOCK_SIZES,
            _mistral,
            fixed={"hidden_act": _SILU, "tie_word_embeddings": Only((False,), False)},
            read=frozenset({"head_dim", "sliding_window"}),
            ropes=("default", "linear"),
        ),
        Family(
            "qwen2",
            "QwenCausalLM",
            _BLOCK_SIZES,
            _qwen2,
            fixed={"hidden_act": _SILU, "use_mrope": _NO},
            read=frozenset({"head_dim", "use_sliding_window", "layer_types"}),
            # Without a window, these say nothing.
            harmless=frozenset({"sliding_window", "max_window_layers"}),
            ropes=("default", "linear"),
        ),
        Family(
            "qwen3",
            "Qwen3CausalLM",
            _BLOCK_SIZES,
            _qwen3,
            fixed={"hidden_act": _SILU, "attention_bias": _NO},
            read=frozenset({"head_dim", "use_sliding_window", "layer_types"}),
            harmless=frozenset({"sliding_window", "max_window_layers"}),
            ropes=("default", "linear"),
        ),
        Family(
            "gemma",
            "GemmaCausalLM",
            _BLOCK_SIZES,
            _gemma,
            fixed={
                # transformers reads "gelu" of this family as the tanh form.
                "hidden_act": Only((*_TANH_GELU, "gelu"), "gelu_pytorch_tanh"),
                "hidden_activation": Only((None, *_TANH_GELU), None),
                "attention_bias": _NO,
                "use_bidirectional_attention": _NO,
                "tie_word_embeddings": Only((True,), True),
                # KerasHub hands its argument to the last norm only.
                "rms_norm_eps": Only((1e-6,), 1e-6),
            },
            read=frozenset({"head_dim"}),
            tied=True,
        ),
        Family(
            "phi3",
            "Phi3CausalLM",
            _BLOCK_SIZES,
            _phi3,
            fixed={
                "hidden_act": _SILU,
                "attention_bias": _NO,
                "tie_word_embeddings": Only((False,), False),
            },
            read=frozenset({"head_dim", "sliding_window", "original_max_position_embeddings"}),
            # The classes of `auto_map` are in transformers itself by now.
            harmless=frozenset({"resid_pdrop", "embd_pdrop", "auto_map"}),
            epsilon=1e-5,
            ropes=("default", "longrope"),
        ),
    )
}
