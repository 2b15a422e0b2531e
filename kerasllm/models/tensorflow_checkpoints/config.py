"""The configuration beside a TensorFlow checkpoint, in the words of Hugging Face's `config.json`.

Each value is then honoured or refused by name in `huggingface.config`, as for any other encoder.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import yaml

from kerasllm.errors import PresetError
from kerasllm.json_files import parse_json
from kerasllm.models.huggingface.checks import Only, check_fixed
from kerasllm.models.huggingface.config import FAMILIES, check_config

# What a missing key means to the code that wrote the file: `BertConfig` of google-research/bert,
# and `BertEncoderConfig` of Model Garden.
_GOOGLE = {
    "hidden_size": 768,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "intermediate_size": 3072,
    "hidden_act": "gelu",
    "max_position_embeddings": 512,
    "type_vocab_size": 16,
}
_GARDEN = {**_GOOGLE, "vocab_size": 30522, "type_vocab_size": 2}
# How the variables of an early Model Garden are shaped; their shapes are checked in any case.
_GOOGLE_HARMLESS = ("backward_compatible",)
_GARDEN_NAMES = {
    "num_layers": "num_hidden_layers",
    "hidden_activation": "hidden_act",
    "dropout_rate": "hidden_dropout_prob",
    "attention_dropout_rate": "attention_probs_dropout_prob",
}
# What a call returns besides the last hidden states.
_GARDEN_HARMLESS = (
    "return_all_encoder_outputs",
    "return_attention_scores",
    "return_word_embeddings",
)
_GARDEN_FIXED = {"norm_first": Only((False,), False), "output_range": Only((None,), None)}


def read_config(files: Sequence[Path]) -> dict:
    """Reads `bert_config.json` or `params.yaml`, or both.

    Args:
        files: The files that are there, the one that counts first.

    Returns:
        A checked configuration of a BERT, as `huggingface.config.check_config` returns it.

    Raises:
        PresetError: A file cannot be read, is of another model, has a value that KerasHub would
            not honour, or the files differ.
    """
    readers = {".json": _from_google, ".yaml": _from_garden}
    first, *others = (check_config(readers[file.suffix](file), str(file)) for file in files)
    for other in others:
        for key in FAMILIES["bert"].sizes:
            if first[key] != other[key]:
                raise PresetError(
                    f"{key} is {first[key]} in {files[0].name}, but {other[key]} in "
                    f"{files[1].name}",
                    where=str(files[0].parent),
                    fix="keep the file that belongs to the checkpoint",
                )
    return first


def _from_google(file: Path) -> dict:
    config = _read(file, parse_json)
    if config.get("model_type", "bert") != "bert":
        raise PresetError(
            f"model_type is {config['model_type']!r}; of TensorFlow's checkpoints kerasllm reads "
            "BERT's",
            where=f"{file}: model_type",
            fix="use the model in Hugging Face's or KerasHub's layout",
        )
    honoured = {key: value for key, value in config.items() if key not in _GOOGLE_HARMLESS}
    return {"model_type": "bert", **_GOOGLE, **honoured}


def _from_garden(file: Path) -> dict:
    found = _find_encoder(_read(file, yaml.safe_load))
    if found is None:
        raise PresetError(
            "there is no `encoder` with a `type` in this file",
            where=str(file),
            fix="add the bert_config.json of the model, or the params.yaml it was trained with",
        )
    kind = found["type"]
    if kind != "bert":
        raise PresetError(
            f"the encoder is of the type {kind!r}; of Model Garden's encoders kerasllm reads "
            "'bert'",
            where=f"{file}: encoder.type",
            fix="use the model in Hugging Face's or KerasHub's layout",
        )
    config = found.get(kind) or {}
    if not isinstance(config, Mapping):
        raise PresetError(f"encoder.{kind} is not a mapping", where=str(file), fix="copy it again")
    check_fixed(kind, _GARDEN_FIXED, config, str(file))
    passed = {*_GARDEN_HARMLESS, *_GARDEN_FIXED}
    # null: as wide as the hidden states.
    if config.get("embedding_size") is None:
        passed.add("embedding_size")
    named = {
        _GARDEN_NAMES.get(key, key): value for key, value in config.items() if key not in passed
    }
    return {"model_type": "bert", **_GARDEN, **named}


def _find_encoder(params: Mapping) -> Mapping | None:
    """Finds `encoder: {type: ..., bert: {...}}`, which lies deeper in an experiment's file."""
    for key, value in params.items():
        if not isinstance(value, Mapping):
            continue
        if key == "encoder" and "type" in value:
            return value
        if (found := _find_encoder(value)) is not None:
            return found
    return None


def _read(file: Path, parse) -> dict:
    try:
        config = parse(file.read_text(encoding="utf-8"))
    except (ValueError, OSError, yaml.YAMLError) as error:
        first_line = str(error).splitlines()[0]
        raise PresetError(
            f"{file.name} cannot be read: {first_line}", where=str(file), fix="copy it again"
        ) from error
    if not isinstance(config, dict):
        raise PresetError(f"{file.name} is not a mapping", where=str(file), fix="copy it again")
    return config
