"""Encoders in Hugging Face's layout, read by KerasHub without losing what it would lose."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import keras_hub

from kerasllm.errors import PresetError
from kerasllm.json_files import read_json_file
from kerasllm.models.huggingface.config import check_config
from kerasllm.models.huggingface.tokenizer import build_tokenizer
from kerasllm.models.huggingface.weights import stage_weights

CONFIG = "config.json"
# Read by KerasHub for the length of a sentence encoder's inputs.
_LENGTHS = "sentence_bert_config.json"


@dataclass(frozen=True)
class Stage:
    """A checked folder, ready for `keras_hub.models.Backbone.from_preset`.

    Attributes:
        folder: The folder to give to KerasHub.
        backbone_options: Arguments that KerasHub's importer does not set itself.
        tokenizer: The tokenizer, built.
        fresh_pooler: Whether the pooler is new, because the folder had none.
    """

    folder: Path
    backbone_options: dict
    tokenizer: keras_hub.tokenizers.Tokenizer
    fresh_pooler: bool


def is_huggingface(folder: str | Path) -> bool:
    """Returns whether a folder is laid out as Hugging Face does it."""
    file = Path(folder) / CONFIG
    return file.is_file() and "model_type" in read_config(file)


def read_config(file: Path) -> dict:
    """Reads a `config.json`, of Hugging Face or of KerasHub."""
    try:
        config = read_json_file(file)
    except (ValueError, OSError) as error:
        raise PresetError(
            f"not a valid {CONFIG}: {error}", where=str(file), fix="download the file again"
        ) from error
    if not isinstance(config, dict):
        raise PresetError(
            f"not a valid {CONFIG}: not an object", where=str(file), fix="download the file again"
        )
    if not isinstance(config.get("architectures") or [], list):
        raise PresetError(
            f"not a valid {CONFIG}: architectures is not a list",
            where=str(file),
            fix="download it again",
        )
    return config


def load_tokenizer(folder: Path) -> keras_hub.tokenizers.Tokenizer:
    """Builds the tokenizer of a folder, after the checks of `staged` that concern it.

    Raises:
        PresetError: The folder holds something that KerasHub would not honour.
    """
    return build_tokenizer(folder, check_config(read_config(folder / CONFIG), str(folder / CONFIG)))


@contextmanager
def staged(
    folder: Path, tokenizer: keras_hub.tokenizers.Tokenizer | None = None
) -> Iterator[Stage]:
    """Checks an encoder's folder and lays it out the way KerasHub reads it right.

    The folder itself is not touched: what has to be otherwise is written to a temporary one,
    which is gone at the end.

    Args:
        folder: A folder with `config.json`, safetensors and a tokenizer.
        tokenizer: Its tokenizer, where it is built. Defaults to `None`: it is built.

    Raises:
        PresetError: The folder holds something that KerasHub would not honour.
    """
    config = check_config(read_config(folder / CONFIG), str(folder / CONFIG))
    tokenizer = tokenizer or build_tokenizer(folder, config)
    with tempfile.TemporaryDirectory(prefix="kerasllm-") as made:
        target = Path(made)
        (target / CONFIG).write_text(json.dumps(config), encoding="utf-8")
        if (folder / _LENGTHS).is_file():
            (target / _LENGTHS).write_bytes((folder / _LENGTHS).read_bytes())
        fresh_pooler = stage_weights(folder, config, target)
        options = {}
        if config["model_type"] == "bert":
            options["num_segments"] = config["type_vocab_size"]
        yield Stage(target, options, tokenizer, fresh_pooler)
