"""What a Hugging Face `config.json` may say for KerasHub to compute the same numbers.

KerasHub's importers read the sizes and drop most other values; `checks` says what happens to each
key.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from kerasllm.errors import PresetError
from kerasllm.models.huggingface.checks import (
    Only,
    check_fixed,
    check_sizes,
    check_unknown,
)

# KerasHub computes BERT and ALBERT with the tanh form and the others with the exact one, regardless
# of this key, and its own presets do so too. Measured on all-MiniLM-L6-v2, the tanh form moves a
# hidden state (values up to 5.7) by up to 3e-3 and a pooled output by 1.5e-4; all else is within
# 2e-6 of transformers.
GELU = ("gelu", "gelu_new", "gelu_python", "gelu_pytorch_tanh", "gelu_fast")


@dataclass(frozen=True)
class Family:
    """What KerasHub builds for one `model_type`.

    Attributes:
        sizes: Keys that must be there and be whole numbers above 0.
        fixed: Keys for which KerasHub builds one thing only.
        harmless: Keys of this family that do not change the numbers of the encoder.
        defaults: Values of keys that may be missing: transformers' own, or any one where KerasHub's
            importer insists on a key and kerasllm decides its value.
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
_TWO_SEGMENTS = {"type_vocab_size": 2}
_ALL_FIXED = {
    "hidden_act": Only(GELU, "gelu"),
    "layer_norm_eps": Only((1e-12,), 1e-12),
    "position_embedding_type": Only(("absolute",), "absolute"),
    "is_decoder": Only((False,), False),
    "add_cross_attention": Only((False,), False),
}
_DROPOUTS = frozenset({"hidden_dropout_prob", "attention_probs_dropout_prob", "classifier_dropout"})

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
        defaults=_TWO_SEGMENTS,
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
        defaults={**_TWO_SEGMENTS, "hidden_dropout_prob": 0.1},
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
        defaults={**_TWO_SEGMENTS, "attention_probs_dropout_prob": 0.1},
    ),
}
FAMILIES["xlm-roberta"] = FAMILIES["roberta"]


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
    check_sizes(family.sizes, filled, where)
    check_fixed(model_type, family.fixed, filled, where)
    _check_shape(model_type, filled, where)
    known = {*family.sizes, *family.fixed, *family.harmless, "embedding_size"}
    check_unknown(known, filled, where)
    # KerasHub looks at the first entry without asking whether there is one.
    filled["architectures"] = filled.get("architectures") or [model_type]
    return filled


def _check_shape(model_type: str, config: dict, where: str) -> None:
    width, heads = (
        ("dim", "n_heads")
        if model_type == "distilbert"
        else (
            "hidden_size",
            "num_attention_heads",
        )
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
