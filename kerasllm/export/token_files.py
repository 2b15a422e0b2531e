"""The tokenizer of a model as files beside a graph that takes token ids."""

from __future__ import annotations

from pathlib import Path

import keras
import numpy as np
import tokenizers

from kerasllm.data.tokenizers.to_huggingface import save_huggingface_tokenizer
from kerasllm.data.tokenizers.tokenizer_json import TOKENIZER_FILE
from kerasllm.errors import PresetError
from kerasllm.export.source import Source
from kerasllm.run import write_json

KERAS_HUB_FOLDER = "tokenizer"
"""Where a tokenizer of KerasHub's stands that Hugging Face's files cannot hold."""


def write_tokenizer(source: Source, folder: Path) -> None:
    """Writes `tokenizer.json`; where there is none for a tokenizer, KerasHub's own files."""
    if not write_tokenizer_json(source, folder):
        task, folder = source.model.task, folder / KERAS_HUB_FOLDER
        task.preprocessor.tokenizer.save_to_preset(str(folder))
        # Without it KerasHub takes no folder for a preset.
        write_json(folder / "config.json", keras.saving.serialize_keras_object(task.backbone))


def token_ids(source: Source, folder: Path) -> list[np.ndarray]:
    """Returns the ids of the source's rows, by the `tokenizer.json` in a folder if there is one."""
    file = folder / TOKENIZER_FILE
    if not file.is_file():
        return source.token_ids
    encodings = tokenizers.Tokenizer.from_file(str(file)).encode_batch_fast(source.rows)
    return [np.array(one.ids[: source.max_length], np.int32) for one in encodings]


def write_tokenizer_json(source: Source, folder: Path) -> bool:
    """Writes Hugging Face's files, and returns whether there are such for the tokenizer."""
    if not source.is_classifier:
        source.model.tokenizer.save(folder)
        if source.model.chat_template is not None:
            source.model.chat_template.save(folder)
        return True
    tokenizer = source.model.task.preprocessor.tokenizer
    try:
        save_huggingface_tokenizer(tokenizer, folder, source.max_length)
    except PresetError:
        return False
    return True
