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
from kerasllm.models.decoders.keras_hub_fixes import fix_backbone
from kerasllm.models.decoders.layout import Tensor, tensors
from kerasllm.models.decoders.source import Source
from kerasllm.models.huggingface import CONFIG
from kerasllm.models.huggingface.stored import list_tensors
from kerasllm.models.presets import check_folder
from kerasllm.models.skip_initialization import skip_initialization

_EMBEDDING = "model.embed_tokens.weight"
_HEAD = "lm_head.weight"
# What older files hold besides: tables that are computed again.
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
    with skip_initialization():
        backbone = fix_backbone(family.backbone_cls(**arguments, dropout=dropout, dtype=dtype))
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
    check_folder(path)
    stored = list_tensors(path)
    sources = [Source(one.name, one.name, one.file, one.shape, one.read) for one in stored]
    return huggingface.read_config(path / CONFIG), sources


def is_decoder(path: str | Path) -> bool:
    """Returns whether a path is of a kind that `load_backbone` reads.

    That is a GGUF file or a folder in Hugging Face's layout; the family is not checked.

    Args:
        path: A path, or a handle that only KerasHub understands.
    """
    return Path(path).is_file() or huggingface.is_huggingface(path)


def max_length(path: str | Path) -> int | None:
    """Returns how many tokens a decoder was made to read at most.

    Args:
        path: As for `read_config`.

    Raises:
        PresetError: There is no readable configuration.
    """
    config = read_config(path)
    longest = config.get("max_position_embeddings", config.get("n_positions"))
    return longest if isinstance(longest, int) else None


def _named(sources: list[Source], names: list[str]) -> dict[str, Source]:
    """Gives sources the names of the whole model: a bare one is saved without its prefix."""
    found = {}
    for source in sources:
        for name in (source.name, f"model.{source.name}", f"transformer.{source.name}"):
            if name in names and found.setdefault(name, source) is not source:
                raise PresetError(
                    f"tensor {name} occurs twice, as {found[name].stored_name} and as "
                    f"{source.stored_name}",
                    where=str(source.file),
                    fix="use a folder that holds one model",
                )
    return found


def _check_vocabulary(
    found: Mapping[str, Source], name: str, arguments: Mapping, where: str
) -> None:
    stored, size = found.get(name), arguments["vocabulary_size"]
    if stored and stored.shape and stored.shape[0] != size:
        raise PresetError(
            f"vocab_size is {size}, but {stored.stored_name} has {stored.shape[0]} rows",
            where=where,
            fix="take the configuration and the weights from the same model",
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
                fix="use another model: this one would load but compute something else",
            )
    for name, tensor in expected.items():
        stored = found.get(name)
        if stored is None:
            raise PresetError(
                f"tensor {name} is missing",
                where=str(path),
                fix="use a folder that holds the whole model; a bare model without its "
                "output layer is not enough where tie_word_embeddings is false",
            )
        if stored.shape != tensor.shape:
            raise PresetError(
                f"tensor {stored.stored_name} has shape {stored.shape}, where the configuration "
                f"says {tensor.shape}",
                where=str(stored.file),
                fix="take the configuration and the weights from the same model",
            )
    for name, tensor in expected.items():
        tensor.assign(found[name].read())
    if _HEAD in found and _HEAD not in expected:
        _check_tied(found[_HEAD], found[embedding])


def _check_tied(head: Source, embedding: Source) -> None:
    if head.shape != embedding.shape or not np.array_equal(head.read(), embedding.read()):
        raise PresetError(
            f"tensor {head.stored_name} differs from the embeddings, although the model ties the "
            "two",
            where=str(head.file),
            fix="set tie_word_embeddings to false in a local copy, if the family allows it",
        )
