"""Families of decoders: a Hugging Face config.json becomes the arguments of KerasHub's backbone.

Every key is honoured or refused by name (see `kerasllm.models.huggingface.checks`). What KerasHub
0.32 computes otherwise than transformers, and so is refused, was found by comparing logits: `fixed`
and the functions of `arguments` name each case.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import keras_hub

from kerasllm.errors import PresetError
from kerasllm.models.decoders import arguments
from kerasllm.models.decoders.rope import KEYS as ROPE_KEYS
from kerasllm.models.decoders.rope import Rope, read_rope
from kerasllm.models.huggingface.checks import (
    Only,
    check_fixed,
    check_sizes,
    check_unknown,
)

# Dropouts are set by kerasllm; the rest concerns generation, training or other software.
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
        build: Makes the backbone's arguments of a checked configuration and its rotary
            positions; refuses what KerasHub would not honour.
        fixed: Keys for which KerasHub builds one thing only.
        read: Further keys that `build` reads.
        harmless: Keys of this family that do not change the numbers.
        tied: What transformers takes a missing `tie_word_embeddings` to mean.
        epsilon: What transformers takes a missing `rms_norm_eps` to mean.
        ropes: The kinds of rotary positions that KerasHub computes; none: learned positions.
    """

    model_type: str
    task: str
    sizes: tuple[str, ...]
    build: Callable[[dict, Rope | None, str], dict]
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
        arguments.refuse("tie_word_embeddings", filled, "it must be true or false", where)
    return family, family.build(filled, rope, where)


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


_TANH_GELU = ("gelu_new", "gelu_pytorch_tanh", "gelu_fast")

FAMILIES: dict[str, Family] = {
    family.model_type: family
    for family in (
        Family(
            "gpt2",
            "GPT2CausalLM",
            ("vocab_size", "n_embd", "n_layer", "n_head", "n_positions"),
            arguments.gpt2,
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
                "attn_pdrop embd_pdrop resid_pdrop n_ctx reorder_and_upcast_attn summary_type "
                "summary_activation summary_first_dropout summary_proj_to_labels "
                "summary_use_proj".split()
            ),
            tied=True,
            ropes=(),
        ),
        Family(
            "llama",
            "Llama3CausalLM",
            _BLOCK_SIZES,
            arguments.llama,
            fixed={"hidden_act": _SILU, "attention_bias": _NO, "mlp_bias": _NO},
            read=frozenset({"head_dim"}),
            ropes=("default", "llama3"),
        ),
        Family(
            "mistral",
            "MistralCausalLM",
            _BLOCK_SIZES,
            arguments.mistral,
            fixed={"hidden_act": _SILU, "tie_word_embeddings": Only((False,), False)},
            read=frozenset({"head_dim", "sliding_window"}),
            ropes=("default", "linear"),
        ),
        Family(
            "qwen2",
            "QwenCausalLM",
            _BLOCK_SIZES,
            arguments.qwen2,
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
            arguments.qwen3,
            fixed={"hidden_act": _SILU, "attention_bias": _NO},
            read=frozenset({"head_dim", "use_sliding_window", "layer_types"}),
            harmless=frozenset({"sliding_window", "max_window_layers"}),
            ropes=("default", "linear"),
        ),
        Family(
            "gemma",
            "GemmaCausalLM",
            _BLOCK_SIZES,
            arguments.gemma,
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
            arguments.phi3,
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
