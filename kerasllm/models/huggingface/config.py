"""What a Hugging Face `config.json` may say for KerasHub to compute the same numbers.

KerasHub's importers read the sizes and drop most other values, so a model that differs in one of
them would load without a word and compute something else. Here every key is one of these:

- sizes: read by KerasHub, or handed to it by kerasllm;
- fixed: KerasHub always computes one value; another one is refused;
- harmless: it does not change what the encoder computes;
- unknown: refused, unless it is null, false or empty, which means that a feature is off.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

from kerasllm.errors import PresetError

# KerasHub computes BERT and ALBERT with the tanh form and the others with the exact one, whatever
# this key says, and its own presets do so too. Measured on all-MiniLM-L6-v2, the tanh form moves a
# hidden state (values up to 5.7) by up to 3e-3 and a pooled output by 1.5e-4; all else is within
# 2e-6 of transformers.
GELU = ("gelu", "gelu_new", "gelu_python", "gelu_pytorch_tanh", "gelu_fast")


class Only(NamedTuple):
    """What KerasHub builds, whatever a key says.

    Attributes:
        built: The values that give the numbers of what is built.
        missing: What transformers takes a missing key to mean.
    """

    built: tuple
    missing: object


@dataclass(frozen=True)
class Family:
    """What KerasHub builds for one `model_type`.

    Attributes:
        sizes: Keys that must be there and be whole numbers above 0.
        fixed: Keys for which KerasHub builds one thing only.
        harmless: Keys of this family that do not change the numbers of the encoder.
        defaults: Keys that KerasHub's importer insists on, though kerasllm decides their value.
    """

    sizes: tuple[str, ...]
    fixed: Mapping[str, Only]
    harmless: frozenset[str]
    defaults: Mapping[str, object]


_BERT_SIZES = (
    "vocab_size",
    "hidden_size",
    "num_hidden_layers",
    "num_attention_heads",
    "intermediate_size",
    "max_position_embeddings",
    "type_vocab_size",
)
_ALL_FIXED = {
    "hidden_act": Only(GELU, "gelu"),
    "layer_norm_eps": Only((1e-12,), 1e-12),
    "position_embedding_type": Only(("absolute",), "absolute"),
    "is_decoder": Only((False,), False),
    "add_cross_attention": Only((False,), False),
}
_DROPOUTS = frozenset(
    {"hidden_dropout_prob", "attention_probs_dropout_prob", "classifier_dropout"}
)

FAMILIES: dict[str, Family] = {
    "bert": Family(
        sizes=_BERT_SIZES,
        fixed=_ALL_FIXED,
        harmless=_DROPOUTS
        | {
            "directionality",
            "pooler_fc_size",
            "pooler_num_attention_heads",
            "pooler_num_fc_layers",
            "pooler_size_per_head",
            "pooler_type",
        },
        defaults={},
    ),
    "roberta": Family(
        sizes=_BERT_SIZES,
        fixed={
            **_ALL_FIXED,
            "layer_norm_eps": Only((1e-5,), 1e-12),
            # Positions are counted from the padding's id on.
            "pad_token_id": Only((1,), 1),
        },
        harmless=_DROPOUTS,
        defaults={"hidden_dropout_prob": 0.1},
    ),
    "distilbert": Family(
        sizes=("vocab_size", "dim", "n_layers", "n_heads", "hidden_dim", "max_position_embeddings"),
        fixed={"activation": Only(GELU, "gelu")},
        # The sinusoids are in the file as a table; only whether they train differs.
        harmless=frozenset(
            {
                "sinusoidal_pos_embds",
                "dropout",
                "attention_dropout",
                "qa_dropout",
                "seq_classif_dropout",
                "tie_weights_",
            }
        ),
        defaults={"dropout": 0.1},
    ),
    "albert": Family(
        sizes=(*_BERT_SIZES, "embedding_size", "num_hidden_groups", "inner_group_num"),
        fixed=_ALL_FIXED,
        harmless=_DROPOUTS
        | {
            "classifier_dropout_prob",
            "down_scale_factor",
            "gap_size",
            "net_structure_type",
            "num_memory_blocks",
        },
        defaults={"attention_probs_dropout_prob": 0.1},
    ),
}
FAMILIES["xlm-roberta"] = FAMILIES["roberta"]

_HARMLESS = frozenset(
    """
    architectures model_type transformers_version torch_dtype dtype name_or_path initializer_range
    initializer_factor use_cache pad_token_id bos_token_id eos_token_id sep_token_id cls_token_id
    mask_token_id decoder_start_token_id tie_word_embeddings tie_encoder_decoder id2label label2id
    num_labels problem_type finetuning_task task_specific_params return_dict output_attentions
    output_hidden_states output_past chunk_size_feed_forward gradient_checkpointing torchscript
    use_bfloat16 tf_legacy_loss is_encoder_decoder language vocab_type attn_implementation
    classifier_bias model_max_length license sentence_transformers tokenizer_class xla_device
    eos_token_ids vocab_size_or_config_json_file max_length min_length do_sample early_stopping
    num_beams num_beam_groups num_return_sequences diversity_penalty temperature top_k top_p
    typical_p repetition_penalty length_penalty no_repeat_ngram_size prefix output_scores
    encoder_no_repeat_ngram_size return_dict_in_generate remove_invalid_values
    """.split()
)


def check_config(config: Mapping, where: str) -> dict:
    """Checks that KerasHub computes what a Hugging Face encoder's configuration describes.

    Args:
        config: The content of `config.json`.
        where: The file, for messages.

    Returns:
        The configuration, with what KerasHub's importer insists on filled in.

    Raises:
        PresetError: A value that KerasHub would not honour, named with what it does instead.
    """
    model_type = config.get("model_type")
    if model_type not in FAMILIES:
        raise PresetError(
            f"model_type is {model_type!r}, which kerasllm cannot read as a text classifier",
            where=where,
            fix=f"use a folder of one of these: {', '.join(sorted(FAMILIES))}; "
            "or a KerasHub preset",
        )
    family = FAMILIES[model_type]
    filled = {**family.defaults, **config}
    _check_sizes(family, filled, where)
    _check_fixed(model_type, family, filled, where)
    _check_shape(model_type, filled, where)
    _check_unknown(family, filled, where)
    # KerasHub looks at the first entry without asking whether there is one.
    filled["architectures"] = filled.get("architectures") or [model_type]
    return filled


def _check_sizes(family: Family, config: dict, where: str) -> None:
    for key in family.sizes:
        value = config.get(key, 2 if key == "type_vocab_size" else None)
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise PresetError(
                f"{key} must be a whole number above 0, got {value!r}",
                where=where,
                fix="take the file from the model's own repository",
            )
        config[key] = value


def _check_fixed(model_type: str, family: Family, config: dict, where: str) -> None:
    for key, only in family.fixed.items():
        value = config.get(key, only.missing)
        if value not in only.built:
            raise PresetError(
                f"{key} is {value!r}; KerasHub's {model_type} computes only "
                f"{' or '.join(map(repr, only.built))}",
                where=f"{where}: {key}",
                fix="use another model: this one would load and compute something else",
            )


def _check_shape(model_type: str, config: dict, where: str) -> None:
    width, heads = ("dim", "n_heads") if model_type == "distilbert" else (
        "hidden_size",
        "num_attention_heads",
    )
    if config[width] % config[heads]:
        raise PresetError(
            f"{width} is {config[width]}, which {config[heads]} heads do not divide", where=where
        )
    if model_type == "albert" and config["num_hidden_layers"] % config["num_hidden_groups"]:
        raise PresetError(
            f"num_hidden_layers is {config['num_hidden_layers']}, which num_hidden_groups "
            f"({config['num_hidden_groups']}) does not divide; KerasHub's ALBERT needs that",
            where=f"{where}: num_hidden_groups",
            fix="use another model",
        )
    embedding_size = config.get("embedding_size", config[width])
    if model_type != "albert" and embedding_size != config[width]:
        raise PresetError(
            f"embedding_size is {embedding_size!r}, and {width} {config[width]}; KerasHub's "
            f"{model_type} has no projection between them",
            where=f"{where}: embedding_size",
            fix="use another model",
        )


def _check_unknown(family: Family, config: dict, where: str) -> None:
    known = {*family.sizes, *family.fixed, *family.harmless, *_HARMLESS, "embedding_size"}
    for key, value in config.items():
        off = value is None or value is False or value in ("", [], {})
        if key in known or key.startswith("_") or off:
            continue
        raise PresetError(
            f"{key} is {value!r}; kerasllm does not know whether it changes what the model "
            "computes, and KerasHub does not read it",
            where=f"{where}: {key}",
            fix="use another model; or, if the key has no effect on the encoder, take it out of "
            "config.json in a local copy",
        )
