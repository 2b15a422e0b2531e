"""Families of encoder-decoders: a Hugging Face config.json becomes a backbone's arguments.

Every key is honoured or refused by name (see `kerasllm.models.huggingface.checks`). Where
KerasHub's own backbone computes one value only, `EncoderDecoderBackbone` takes the others.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import keras_hub

from kerasllm.errors import PresetError
from kerasllm.models.encoder_decoder_backbone import LEARNED, SINUSOIDAL, EncoderDecoderBackbone
from kerasllm.models.encoder_decoders.built import HARMLESS, Built, activation, refuse
from kerasllm.models.encoder_decoders.t5gemma import build_t5gemma
from kerasllm.models.huggingface.checks import (
    Only,
    check_fixed,
    check_sizes,
    check_unknown,
)


@dataclass(frozen=True)
class Family:
    """Encoder-decoders of one `model_type`.

    Attributes:
        model_type: As Hugging Face spells it.
        sizes: Keys that must be whole numbers above 0.
        build: Makes `Built` of a checked configuration; refuses what would not be honoured.
        defaults: What transformers takes missing keys to mean.
        fixed: Keys for which one thing only is computed.
        read: Further keys that `build` reads.
        harmless: Keys of this family that do not change the numbers.
        positions_offset: The rows of a table of positions before that of the first position.
    """

    model_type: str
    sizes: tuple[str, ...]
    build: Callable[[dict, str], Built]
    defaults: Mapping[str, object] = field(default_factory=dict)
    fixed: Mapping[str, Only] = field(default_factory=dict)
    read: frozenset[str] = frozenset()
    harmless: frozenset[str] = frozenset()
    positions_offset: int = 0


def read_family(config: Mapping, where: str) -> tuple[Family, Built]:
    """Checks a config.json and returns what it describes.

    Args:
        config: The content of `config.json`.
        where: The file, for messages.

    Raises:
        PresetError: A value that would not be honoured, named with what is computed instead.
    """
    model_type = config.get("model_type")
    if model_type not in FAMILIES:
        raise PresetError(
            f"model_type is {model_type!r}, which kerasllm cannot read as an encoder-decoder",
            where=where,
            fix=f"use a folder of one of these: {', '.join(sorted(FAMILIES))}; "
            "or a KerasHub preset",
        )
    family = FAMILIES[model_type]
    filled = {**family.defaults, **config}
    check_sizes(family.sizes, filled, where)
    check_fixed(model_type, family.fixed, filled, where)
    known = {*family.sizes, *family.fixed, *family.read, *family.harmless, *HARMLESS}
    check_unknown(known | {*family.defaults}, filled, where)
    return family, family.build(filled, where)


def _stacks(config: dict, where: str) -> dict:
    """Returns what the families after BART share, as arguments of `EncoderDecoderBackbone`."""
    for heads in ("encoder_attention_heads", "decoder_attention_heads"):
        if config["d_model"] % config[heads]:
            raise refuse(heads, config, f"it does not divide d_model ({config['d_model']})", where)
    scaled = config["scale_embedding"]
    if not isinstance(scaled, bool):
        raise refuse("scale_embedding", config, "it must be true or false", where)
    function = config["activation_function"]
    return {
        "vocabulary_size": config["vocab_size"],
        "num_encoder_layers": config["encoder_layers"],
        "num_decoder_layers": config["decoder_layers"],
        "num_heads": config["encoder_attention_heads"],
        "num_decoder_heads": config["decoder_attention_heads"],
        "hidden_dim": config["d_model"],
        "intermediate_dim": config["encoder_ffn_dim"],
        "decoder_intermediate_dim": config["decoder_ffn_dim"],
        "max_sequence_length": config["max_position_embeddings"],
        "activation": activation("activation_function", function, config, where),
        "scale_embeddings": scaled,
    }


def _lengths(config: dict) -> dict:
    longest = config["max_position_embeddings"]
    return {"max_source_length": longest, "max_target_length": longest}


def _bart(config: dict, where: str) -> Built:
    found = _stacks(config, where)
    alike = all(
        config[f"encoder_{name}"] == config[f"decoder_{name}"]
        for name in ("layers", "attention_heads", "ffn_dim")
    )
    if not alike or found["scale_embeddings"] or found["activation"] != "gelu":
        # DistilBART has fewer layers in its decoder.
        arguments = {
            **found,
            "normalize_first": False,
            "embedding_norm": True,
            "positions": LEARNED,
        }
        return Built(EncoderDecoderBackbone, arguments, _lengths(config))
    names = "vocabulary_size num_heads hidden_dim intermediate_dim max_sequence_length".split()
    arguments = {name: found[name] for name in names}
    arguments["num_layers"] = found["num_encoder_layers"]
    return Built(keras_hub.models.BartBackbone, arguments, _lengths(config))


def _mbart(config: dict, where: str) -> Built:
    arguments = {
        **_stacks(config, where),
        "normalize_first": True,
        "embedding_norm": True,
        "positions": LEARNED,
    }
    return Built(EncoderDecoderBackbone, arguments, _lengths(config))


def _marian(config: dict, where: str) -> Built:
    if config.get("decoder_vocab_size") not in (None, config["vocab_size"]):
        because = f"kerasllm has one vocabulary, of {config['vocab_size']} tokens"
        raise refuse("decoder_vocab_size", config, because, where)
    arguments = {
        **_stacks(config, where),
        "normalize_first": False,
        "embedding_norm": False,
        "positions": SINUSOIDAL,
    }
    return Built(EncoderDecoderBackbone, arguments, _lengths(config))


def _pegasus(config: dict, where: str) -> Built:
    arguments = {
        **_stacks(config, where),
        "normalize_first": True,
        "embedding_norm": False,
        "positions": SINUSOIDAL,
    }
    return Built(EncoderDecoderBackbone, arguments, _lengths(config))


def _t5(config: dict, where: str) -> Built:
    if config.get("num_decoder_layers") not in (None, config["num_layers"]):
        because = f"KerasHub's T5 has as many as in its encoder: {config['num_layers']}"
        raise refuse("num_decoder_layers", config, because, where)
    kind = str(config["feed_forward_proj"])
    gate, _, function = kind.rpartition("-")
    if gate not in ("", "gated"):
        because = "it must be ACTIVATION or gated-ACTIVATION"
        raise refuse("feed_forward_proj", config, because, where)
    if kind == "gated-gelu":
        # Only so does transformers read it as the tanh form.
        function = "gelu_new"
    for key, meant in (("is_gated_act", bool(gate)), ("dense_act_fn", function)):
        if config.get(key, meant) != meant:
            raise refuse(key, config, f"feed_forward_proj is {kind!r}", where)
    epsilon = config["layer_norm_epsilon"]
    if not isinstance(epsilon, float) or not 0 < epsilon < 1:
        raise refuse("layer_norm_epsilon", config, "it must be a number between 0 and 1", where)
    # transformers 5 writes the second; older files mean it by the first.
    scaled = config.get("scale_decoder_outputs", config.get("tie_word_embeddings") is not False)
    if not isinstance(scaled, bool):
        raise refuse("scale_decoder_outputs", config, "it must be true or false", where)
    arguments = {
        "vocabulary_size": config["vocab_size"],
        "num_layers": config["num_layers"],
        "num_heads": config["num_heads"],
        "hidden_dim": config["d_model"],
        "intermediate_dim": config["d_ff"],
        "key_value_dim": config["d_kv"],
        "activation": activation("feed_forward_proj", function, config, where),
        "use_gated_activation": bool(gate),
        "layer_norm_epsilon": epsilon,
    }
    facts = {
        "hidden_scale": config["d_model"] ** -0.5 if scaled else 1.0,
        "prefixes": _prefixes(config),
    }
    return Built(keras_hub.models.T5Backbone, arguments, facts)


def _prefixes(config: Mapping) -> dict[str, str]:
    """Returns what the model was told before a source, by task."""
    tasks = config.get("task_specific_params")
    found = {}
    for name, settings in tasks.items() if isinstance(tasks, Mapping) else ():
        prefix = settings.get("prefix") if isinstance(settings, Mapping) else None
        if isinstance(prefix, str) and prefix.strip():
            found[name] = prefix
    return found


_STACK_SIZES = (
    "vocab_size",
    "d_model",
    "encoder_layers",
    "decoder_layers",
    "encoder_attention_heads",
    "decoder_attention_heads",
    "encoder_ffn_dim",
    "decoder_ffn_dim",
    "max_position_embeddings",
)
_STACK_READ = frozenset({"activation_function", "scale_embedding"})
_STACK_DEFAULTS = {"activation_function": "gelu", "scale_embedding": False}
_TIED = Only((True,), True)
_NO, _YES = Only((False,), False), Only((True,), True)
# Keys of the first versions of transformers, which later ones do not read.
_POST_NORM = {
    "normalize_before": _NO,
    "add_final_layer_norm": _NO,
    "add_bias_logits": _NO,
    "static_position_embeddings": _NO,
    "normalize_embedding": _YES,
}
_PRE_NORM = {
    "normalize_before": _YES,
    "add_final_layer_norm": _YES,
    "add_bias_logits": _NO,
    "static_position_embeddings": _NO,
    "normalize_embedding": _YES,
}

FAMILIES: dict[str, Family] = {
    family.model_type: family
    for family in (
        Family(
            "bart",
            _STACK_SIZES,
            _bart,
            defaults=_STACK_DEFAULTS,
            fixed={**_POST_NORM, "tie_word_embeddings": _TIED},
            read=_STACK_READ,
            positions_offset=2,
        ),
        Family(
            "mbart",
            _STACK_SIZES,
            _mbart,
            defaults=_STACK_DEFAULTS,
            fixed={**_PRE_NORM, "tie_word_embeddings": _TIED},
            read=_STACK_READ,
            positions_offset=2,
        ),
        Family(
            "marian",
            _STACK_SIZES,
            _marian,
            defaults=_STACK_DEFAULTS,
            fixed={
                **_POST_NORM,
                "static_position_embeddings": _YES,
                "normalize_embedding": _NO,
                "share_encoder_decoder_embeddings": _YES,
                "tie_word_embeddings": _TIED,
            },
            read=_STACK_READ | {"decoder_vocab_size"},
        ),
        Family(
            "pegasus",
            _STACK_SIZES,
            _pegasus,
            defaults=_STACK_DEFAULTS,
            fixed={
                **_PRE_NORM,
                "static_position_embeddings": _YES,
                "normalize_embedding": _NO,
                "tie_word_embeddings": _TIED,
            },
            read=_STACK_READ,
        ),
        Family(
            "t5",
            ("vocab_size", "d_model", "d_kv", "d_ff", "num_layers", "num_heads"),
            _t5,
            defaults={
                "d_kv": 64,
                "feed_forward_proj": "relu",
                "layer_norm_epsilon": 1e-6,
            },
            fixed={
                "relative_attention_num_buckets": Only((32,), 32),
                "relative_attention_max_distance": Only((128,), 128),
                "is_decoder": _NO,
            },
            read=frozenset(
                "num_decoder_layers is_gated_act dense_act_fn scale_decoder_outputs".split()
            ),
            # Positions are relative: texts may be longer than those it was trained on.
            harmless=frozenset({"n_positions"}),
        ),
        Family(
            "t5gemma",
            (),
            build_t5gemma,
            defaults={"tie_word_embeddings": True},
            read=frozenset({"encoder", "decoder", "vocab_size"}),
            harmless=frozenset({"classifier_dropout_rate"}),
        ),
    )
}
