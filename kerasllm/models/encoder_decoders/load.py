"""A folder in Hugging Face's layout as an encoder-decoder's backbone, with nothing dropped."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import keras_hub
import numpy as np

from kerasllm.errors import PresetError
from kerasllm.models import huggingface
from kerasllm.models.decoders.layout import Tensor
from kerasllm.models.encoder_decoder_backbone import SINUSOIDAL, sinusoids
from kerasllm.models.encoder_decoders.families import ANOTHER, FAMILIES, Family, read_family
from kerasllm.models.encoder_decoders.layout import embedding_name, tensors
from kerasllm.models.huggingface import CONFIG
from kerasllm.models.huggingface.stored import StoredTensor, list_tensors
from kerasllm.models.presets import check_folder
from kerasllm.models.skip_initialization import weights_to_come

_HEAD = "lm_head.weight"
_BIAS = "final_logits_bias"
# Copies of the shared embeddings, under the names that transformers gives the places of their use.
_COPIES = (_HEAD, "encoder.embed_tokens.weight", "decoder.embed_tokens.weight")
# T5's first files hold this table, which no layer of theirs or ours reads.
_UNREAD = re.compile(r"decoder\.block\.\d+\.layer\.1\.EncDecAttention\.relative_.*_bias\.weight")
_POSITIONS = re.compile(r"(model\.)?(encoder|decoder)\.embed_positions\.weight")


@dataclass(frozen=True)
class Loaded:
    """What a folder holds beside its tokenizer.

    Attributes:
        backbone: The backbone, with its weights; `None` where only the configuration was read.
        family: Its family.
        facts: Fields of `EncoderDecoder` that the configuration and the weights decide.
        config: The content of `config.json`.
    """

    backbone: keras_hub.models.Backbone | None
    family: Family
    facts: dict
    config: dict


def is_encoder_decoder_folder(path: str | Path) -> bool:
    """Returns whether a path is a folder of Hugging Face's with a family that is read here."""
    path = Path(path)
    if not huggingface.is_huggingface(path):
        return False
    return huggingface.read_config(path / CONFIG).get("model_type") in FAMILIES


def read_folder(folder: Path) -> Loaded:
    """Checks the configuration of an encoder-decoder's folder, and reads no weights.

    Args:
        folder: A folder with `config.json` and safetensors.

    Raises:
        PresetError: The configuration holds something that would not be honoured.
    """
    check_folder(folder)
    config = huggingface.read_config(folder / CONFIG)
    family, built = read_family(config, str(folder / CONFIG))
    return Loaded(None, family, built.facts, config)


def load_backbone(folder: Path, *, dropout: float = 0.0, dtype: str = "float32") -> Loaded:
    """Loads an encoder-decoder's backbone.

    Args:
        folder: A folder with `config.json` and safetensors.
        dropout: Rate of every dropout. Defaults to `0.0`.
        dtype: A Keras dtype policy. Defaults to `"float32"`.

    Raises:
        PresetError: The configuration or the weights hold something that the backbone does not
            honour, or a tensor is missing, unknown or of another shape.
    """
    check_folder(folder)
    where = str(folder / CONFIG)
    config = huggingface.read_config(folder / CONFIG)
    family, built = read_family(config, where)
    found = _named(list_tensors(folder), family)
    arguments, facts = dict(built.arguments), dict(built.facts)
    rows = arguments["vocabulary_size"]
    shared = "shared.weight" if family.model_type == "t5" else "model.shared.weight"
    _settle_shared(found, shared, folder)
    if found[shared].shape[:1] != (rows,):
        raise PresetError(
            f"vocab_size is {rows}, but {found[shared].name} has the shape {found[shared].shape}",
            where=where,
            fix="take the configuration and the weights from the same model",
        )
    copies = [found.pop(name) for name in _full(_COPIES, family) if name in found]
    head = next((copy for copy in copies if copy.name.endswith(_HEAD)), None)
    for copy in copies:
        if copy is not head:
            _check_same(copy, found[shared], "encoder and decoder share their embeddings here")
    if family.model_type == "t5":
        untied = head is not None and not _same(head, found[shared])
        if untied and facts["hidden_scale"] != 1.0:
            _check_same(head, found[shared], "tie_word_embeddings is true")
        arguments["tie_embedding_weights"] = not untied
        if untied:
            found[_HEAD] = head
    elif head is not None:
        _check_same(head, found[shared], "tie_word_embeddings is true")
    if _BIAS in found:
        facts.update(_bias(found.pop(_BIAS), rows))
    if arguments.get("positions") == SINUSOIDAL:
        _check_sinusoids(found, arguments)
    with weights_to_come():
        backbone = built.backbone_cls(**arguments, dropout=dropout, dtype=dtype)
    _assign(tensors(backbone, family.positions_offset), found, folder)
    assert shared == embedding_name(backbone)
    return Loaded(backbone, family, facts, config)


def _full(names: Sequence[str], family: Family) -> list[str]:
    """Returns names as in the whole model: BART's stacks are in `model`, T5's are not."""
    if family.model_type == "t5":
        return list(names)
    return [name if name == _HEAD else f"model.{name}" for name in names]


def _named(stored: Sequence[StoredTensor], family: Family) -> dict[str, StoredTensor]:
    """Gives tensors the names of the whole model: a bare one is saved without its prefix."""
    found: dict[str, StoredTensor] = {}
    for tensor in stored:
        name = tensor.name
        if family.model_type != "t5" and name.startswith(("encoder.", "decoder.", "shared.")):
            name = f"model.{name}"
        if _UNREAD.fullmatch(name):
            continue
        if found.setdefault(name, tensor) is not tensor:
            raise PresetError(
                f"tensor {name} is there twice, as {found[name].name} and as {tensor.name}",
                where=str(tensor.file),
                fix="use a folder that holds one model",
            )
    return found


def _settle_shared(found: dict[str, StoredTensor], shared: str, folder: Path) -> None:
    """Finds the shared embeddings under the name of a place of their use, if they have no own."""
    prefix = shared.removesuffix("shared.weight")
    for name in (*(prefix + each for each in _COPIES[1:]), _HEAD):
        if shared not in found and name in found:
            found[shared] = found.pop(name)
    if shared not in found:
        raise PresetError(
            f"tensor {shared} is missing",
            where=str(folder),
            fix="use a folder that holds the whole model",
        )


def _same(one: StoredTensor, other: StoredTensor) -> bool:
    return one.shape == other.shape and np.array_equal(one.read(), other.read())


def _check_same(copy: StoredTensor, shared: StoredTensor, because: str) -> None:
    if not _same(copy, shared):
        raise PresetError(
            f"tensor {copy.name} differs from the embeddings, {shared.name}, where {because}",
            where=str(copy.file),
            fix=ANOTHER,
        )


def _bias(tensor: StoredTensor, rows: int) -> dict:
    value = tensor.read().astype("float32").reshape(-1)
    if value.shape != (rows,):
        raise PresetError(
            f"tensor {tensor.name} has the shape {tensor.shape}, where the vocabulary has {rows} "
            "tokens",
            where=str(tensor.file),
            fix="take the configuration and the weights from the same model",
        )
    return {"final_logits_bias": value} if value.any() else {}


def _check_sinusoids(found: dict[str, StoredTensor], arguments: Mapping) -> None:
    """Checks tables of positions that are computed here, and takes them out."""
    names = [name for name in found if _POSITIONS.fullmatch(name)]
    for tensor in [found.pop(name) for name in names]:
        computed = sinusoids(arguments["max_sequence_length"], arguments["hidden_dim"])
        if tensor.shape != computed.shape or np.abs(tensor.read() - computed).max() > 1e-3:
            raise PresetError(
                f"tensor {tensor.name} holds no sinusoids of {len(computed)} positions, and they "
                "are computed",
                where=str(tensor.file),
                fix=ANOTHER,
            )


def _assign(expected: Mapping[str, Tensor], found: dict[str, StoredTensor], folder: Path) -> None:
    for name, stored in found.items():
        if name not in expected:
            raise PresetError(
                f"tensor {stored.name} is not part of the model that the configuration describes",
                where=str(stored.file),
                fix=ANOTHER,
            )
    for name, tensor in expected.items():
        if name not in found:
            raise PresetError(
                f"tensor {name} is missing",
                where=str(folder),
                fix="use a folder that holds the whole model",
            )
        if found[name].shape != tensor.shape:
            raise PresetError(
                f"tensor {found[name].name} has the shape {found[name].shape}, where the "
                f"configuration says {tensor.shape}",
                where=str(found[name].file),
                fix="take the configuration and the weights from the same model",
            )
    for name, tensor in expected.items():
        tensor.assign(found[name].read())
