"""A folder in Hugging Face's layout, or a GGUF file, as a KerasHub backbone with its weights.

Weights are assigned tensor by tensor through the table of `layout`, not by KerasHub's importers:
what a file holds is used, or it is refused, and memory never holds the model twice.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import keras_hub
import numpy as np

from kerasllm.errors import PresetError
from kerasllm.models import huggingface
from kerasllm.models.decoders.families import backbone_arguments
from kerasllm.models.decoders.gguf import GGUFFile
from kerasllm.models.decoders.layout import Tensor, tensors
from kerasllm.models.decoders.mend import mend
from kerasllm.models.decoders.source import Source
from kerasllm.models.huggingface import CONFIG
from kerasllm.models.huggingface.stored import WEIGHTS, list_tensors

_EMBEDDING = "model.embed_tokens.weight"
_HEAD = "lm_head.weight"
# What older files hold besides: tables that are computed anew.
_BUFFERS = re.compile(r"(.*\.)?(rotary_emb\.inv_freq|attn\.(masked_)?bias)")


def load_backbone(
    path: str | Path, *, dropout: float = 0.0, dtype: str = "float32"
) -> keras_hub.models.Backbone:
    """Loads a decoder as KerasHub's backbone, with nothing dropped.

    Args:
        path: A folder with `config.json` and safetensors, or a GGUF file.
        dropout: Rate of every dropout. Defaults to `0.0`.
        dtype: A Keras dtype policy. Defaults to `"float32"`.

    Raises:
        PresetError: The configuration or the weights hold something that KerasHub's backbone does
            not honour, or a tensor is missing, unknown or of another shape.

    Example:

    ```python
    backbone = load_backbone("SmolLM2-135M-Instruct")
    ```
    """
    path = Path(path)
    config, sources = _open(path)
    where = str(path if path.is_file() else path / CONFIG)
    family, arguments = backbone_arguments(config, where)
    embedding = "transformer.wte.weight" if family.model_type == "gpt2" else _EMBEDDING
    _check_vocabulary(_named(sources, [embedding]), embedding, arguments, where)
    backbone = mend(family.backbone_cls(**arguments, dropout=dropout, dtype=dtype))
    _assign(tensors(backbone), sources, embedding, path)
    return backbone


def read_config(path: str | Path) -> dict:
    """Returns the configuration of a decoder in Hugging Face's layout, also of a GGUF file.

    It is as it was found: `load_backbone` checks it. `max_position_embeddings` (GPT-2:
    `n_positions`), `bos_token_id` and `eos_token_id` are in no KerasHub backbone.

    Args:
        path: A folder with `config.json`, or a GGUF file.

    Raises:
        PresetError: There is no readable configuration.
    """
    path = Path(path)
    if path.is_file():
        return GGUFFile(path).config()
    return huggingface.read_config(path / CONFIG)


def _open(path: Path) -> tuple[dict, list[Source]]:
    if path.is_file():
        opened = GGUFFile(path)
        config = opened.config()
        return config, list(opened.sources(config))
    return huggingface.read_config(path / CONFIG), _folder_sources(path)


def _folder_sources(folder: Path) -> list[Source]:
    if not any(folder.glob("*.safetensors")):
        pickles = sorted(p.name for p in folder.iterdir() if p.suffix in (".bin", ".pt", ".pth"))
        raise PresetError(
            f"{folder} has no {WEIGHTS}"
            + (f"; its weights are in {pickles[0]}, a pickle, which could run code"
               if pickles else ""),
            where=str(folder),
            fix="convert it where you trust it: `AutoModelForCausalLM.from_pretrained(FOLDER)"
            ".save_pretrained(OUTPUT)` of transformers writes safetensors",
        )  # fmt: skip
    return [
        Source(stored.name, stored.name, stored.file, stored.shape, stored.read)
        for stored in list_tensors(folder)
    ]


def _named(sources: list[Source], names: list[str]) -> dict[str, Source]:
    """Gives sources the names of the whole model: a bare one is saved without its prefix."""
    found = {}
    for source in sources:
        for name in (source.name, f"model.{source.name}", f"transformer.{source.name}"):
            if name in names:
                found[name] = source
    return found


def _check_vocabulary(
    found: Mapping[str, Source], name: str, arguments: Mapping, where: str
) -> None:
    rows = found[name].shape[0] if name in found and found[name].shape else None
    if rows is not None and rows != arguments["vocabulary_size"]:
        raise PresetError(
            f"vocab_size is {arguments['vocabulary_size']}, but {found[name].stored_name} has {rows} rows",
            where=where,
            fix="take config.json and the weights from the same model",
        )


def _assign(
    expected: Mapping[str, Tensor], sources: list[Source], embedding: str, path: Path
) -> None:
    found = _named(sources, [*expected, _HEAD])
    known = {id(source) for source in found.values()}
    for source in sources:
        if id(source) not in known and not _BUFFERS.fullmatch(source.name):
            raise PresetError(
                f"tensor {source.stored_name} is not part of KerasHub's model",
                where=str(source.file),
                fix="use another model: this one would load and compute something else",
            )
    for name, tensor in expected.items():
        if name not in found:
            raise PresetError(
                f"tensor {name} is missing",
                where=str(path),
                fix="use a folder that holds the whole model; a bare model without its "
                "output layer is not enough where tie_word_embeddings is false",
            )
        if found[name].shape != tensor.shape:
            raise PresetError(
                f"tensor {found[name].stored_name} has shape {found[name].shape}, where config.json says "
                f"{tensor.shape}",
                where=str(found[name].file),
                fix="take config.json and the weights from the same model",
            )
    for name, tensor in expected.items():
        tensor.assign(found[name].read())
    if _HEAD in found and _HEAD not in expected:
        _check_tied(found[_HEAD], found[embedding])


def _check_tied(head: Source, embedding: Source) -> None:
    if head.shape != embedding.shape or not np.array_equal(head.read(), embedding.read()):
        raise PresetError(
            f"tensor {head.stored_name} differs from the embeddings, where the model ties the two",
            where=str(head.file),
            fix="set tie_word_embeddings to false in a local copy, if the family allows it",
        )
