"""The tokenizer of a model as files beside a graph that takes token ids."""

from __future__ import annotations

import json
from pathlib import Path

import keras
import numpy as np
import tokenizers

from kerasllm.data.tokenizers.to_huggingface import save_huggingface_tokenizer
from kerasllm.data.tokenizers.tokenizer_json import TOKENIZER_FILE
from kerasllm.errors import PresetError
from kerasllm.export.source import Source
from kerasllm.export.token_rows import LONGEST_FIRST, TokenRows
from kerasllm.run import write_json

KERAS_HUB_FOLDER = "tokenizer"
"""The folder of a tokenizer of KerasHub's that Hugging Face's files cannot hold."""

_STRATEGIES = {"only_second": "OnlySecond"}


def write_tokenizer(source: Source, folder: Path) -> None:
    """Writes `tokenizer.json`; where there is none for a tokenizer, KerasHub's own files."""
    if not write_tokenizer_json(source, folder):
        task, folder = source.model.task, folder / KERAS_HUB_FOLDER
        task.preprocessor.tokenizer.save_to_preset(str(folder))
        # Without it KerasHub takes no folder for a preset.
        write_json(folder / "config.json", keras.saving.serialize_keras_object(task.backbone))


def read_tokens(source: Source, folder: Path) -> TokenRows:
    """Returns the tokens of the source's rows, by a folder's `tokenizer.json` if there is one."""
    file = folder / TOKENIZER_FILE
    if not file.is_file():
        return source.tokens
    encodings = tokenizers.Tokenizer.from_file(str(file)).encode_batch(list(source.rows))
    ids, segments = (
        [np.array(row[: source.max_length], np.int32) for row in rows]
        for rows in (
            [one.ids for one in encodings],
            [one.type_ids for one in encodings],
        )
    )
    return TokenRows(ids, segments, source.model.tokenizer.pad_token_id)


def write_tokenizer_json(source: Source, folder: Path) -> bool:
    """Writes Hugging Face's files, and returns whether there are such for the tokenizer."""
    if source.generates:
        source.model.tokenizer.save(folder)
        if source.model.chat_template is not None:
            source.model.chat_template.save(folder)
        return True
    if source.is_encoder_decoder:
        source.model.tokenizer.save(folder)
        return True
    try:
        write_encoder_tokenizer(source, folder)
    except PresetError:
        return False
    return True


def write_encoder_tokenizer(source: Source, folder: Path) -> None:
    """Writes Hugging Face's files, which cut texts and pairs as the model does.

    Raises:
        PresetError: If there are none for the tokenizer.
    """
    tokenizer = source.model.task.preprocessor.tokenizer
    save_huggingface_tokenizer(tokenizer, folder, source.max_length)
    if source.truncation != LONGEST_FIRST:
        file = folder / TOKENIZER_FILE
        content = json.loads(file.read_text(encoding="utf-8"))
        content["truncation"]["strategy"] = _STRATEGIES[source.truncation]
        file.write_text(json.dumps(content, ensure_ascii=False, indent=2) + "\n", encoding="utf-8")
