"""TensorFlow checkpoints of BERT, read as presets.

A folder with a checkpoint (`.index` and `.data-...`), `vocab.txt` and `bert_config.json` or
`params.yaml`: the way google-research/bert (TensorFlow 1) and Model Garden (TensorFlow 2) publish
their models. The tensors are laid out as Hugging Face does it, and take the same path from there.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from kerasllm.errors import PresetError
from kerasllm.models.tensorflow_checkpoints.files import VOCABULARY, find_files, found_in

if TYPE_CHECKING:
    import keras_hub

    from kerasllm.models.huggingface import Stage

__all__ = ["find_files", "found_in", "load_tokenizer", "staged"]

# The Chinese model is uncased, and a few of its tokens have capitals; a third of a cased one's do.
_CASED = 0.02


def load_tokenizer(folder: Path) -> keras_hub.tokenizers.Tokenizer:
    """Builds the tokenizer of a folder.

    The folder's files do not say whether texts are lower-cased, only the name it was published
    under does (`uncased_L-12_H-768_A-12`), so the vocabulary decides: where it has words with
    capitals, case and accents are kept. A `tokenizer_config.json` beside it that has
    `do_lower_case` is followed instead.

    Args:
        folder: A folder for which `found_in` is true.

    Raises:
        PresetError: A file is missing, or cannot be honoured.
    """
    return _load_tokenizer(folder, _read_config(folder))


@contextmanager
def staged(
    folder: Path, tokenizer: keras_hub.tokenizers.Tokenizer | None = None
) -> Iterator[Stage]:
    """Checks a folder and lays it out the way KerasHub reads it right, as `huggingface.staged`.

    Args:
        folder: A folder for which `found_in` is true.
        tokenizer: Its tokenizer, where it is built. Defaults to `None`: it is built.

    Raises:
        PresetError: A file is missing or broken, or cannot be honoured.
    """
    from kerasllm.models.huggingface import CONFIG, Stage
    from kerasllm.models.huggingface.weights import stage_weights
    from kerasllm.models.tensorflow_checkpoints.weights import convert_weights

    config = _read_config(folder)
    tokenizer = tokenizer or _load_tokenizer(folder, config)
    with (
        tempfile.TemporaryDirectory(prefix="kerasllm-") as converted,
        tempfile.TemporaryDirectory(prefix="kerasllm-") as target,
    ):
        convert_weights(find_files(folder).checkpoint, config, Path(converted))
        fresh_pooler = stage_weights(Path(converted), config, Path(target))
        (Path(target) / CONFIG).write_text(json.dumps(config), encoding="utf-8")
        options = {"num_segments": config["type_vocab_size"]}
        yield Stage(Path(target), options, tokenizer, fresh_pooler)


def _read_config(folder: Path) -> dict:
    from kerasllm.models.tensorflow_checkpoints.config import read_config

    return read_config(find_files(folder).configs)


def _load_tokenizer(folder: Path, config: Mapping) -> keras_hub.tokenizers.Tokenizer:
    from kerasllm.models.huggingface.tokenizer import build_tokenizer

    tokens = _read_tokens(folder / VOCABULARY)
    if len(tokens) != config["vocab_size"]:
        raise PresetError(
            f"{VOCABULARY} has {len(tokens)} tokens, and the configuration says vocab_size "
            f"{config['vocab_size']}",
            where=str(folder / VOCABULARY),
            fix="take both from the same model; where its embeddings were padded, add as many "
            "lines to the vocabulary",
        )
    with_capitals = [t for t in tokens if t != t.lower() and not t.startswith("[")]
    uncased = len(with_capitals) < _CASED * len(tokens)
    return build_tokenizer(folder, config, {"do_lower_case": uncased})


def _read_tokens(file: Path) -> list[str]:
    try:
        return file.read_text(encoding="utf-8").removesuffix("\n").split("\n")
    except UnicodeDecodeError as error:
        raise PresetError("not UTF-8 text", where=str(file), fix="copy the file again") from error
