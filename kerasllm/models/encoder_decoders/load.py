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
from kerasllm.models.encoder_decoders.built import ANOTHER
from kerasllm.models.encoder_decoders.families import FAMILIES, Family, read_family
from kerasllm.models.encoder_decoders.keras_hub_fixes import fix_backbone, quiet_masks
from kerasllm.models.encoder_decoders.layout import Names, names_of, tensors
from kerasllm.models.huggingface import CONFIG
from kerasllm.models.huggingface.stored import StoredTensor, list_tensors
from kerasllm.models.presets import check_folder
from kerasllm.models.skip_initialization import skip_initialization

_BIAS = "final_logits_bias"
# T5's first files hold this table, which no layer of theirs or ours reads.
_UNREAD = re.compile(r"decoder\.block\.\d+\.layer\.1\.EncDecAttention\.relative_.*_bias\.weight")
# Arguments that are rates of dropout, where they are not called so.
_RATES = {keras_hub.models.T5GemmaBackbone: ("dropout_rate", "attention_dropout")}
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
    names = names_of(built.backbone_cls)
    found = _named(list_tensors(folder), names)
    arguments, facts = dict(built.arguments), dict(built.facts)
    rows = arguments["vocabulary_size"]
    embeddings = _embeddings(found, names, folder)
    if embeddings.shape[:1] != (rows,):
        raise PresetError(
            f"vocab_size is {rows}, but {embeddings.name} has the shape {embeddings.shape}",
            where=where,
            fix="take the configuration and the weights from the same model",
        )
    for copy in [found.pop(name) for name in names.copies if name in found]:
        _check_same(copy, embeddings, "encoder and decoder share their embeddings here")
    if _is_tied(found.get(names.head), embeddings, arguments, facts):
        head = found.pop(names.head, None)
        if head is not None:
            _check_same(head, embeddings, "tie_word_embeddings is true")
    if _BIAS in found:
        facts.update(_bias(found.pop(_BIAS), rows))
    if arguments.get("positions") == SINUSOIDAL:
        _check_sinusoids(found, arguments)
    rates = _RATES.get(built.backbone_cls, ("dropout",))
    with skip_initialization(), quiet_masks():
        backbone = built.backbone_cls(**arguments, **dict.fromkeys(rates, dropout), dtype=dtype)
    fix_backbone(backbone)
    _assign(tensors(backbone, family.positions_offset), found, folder)
    return Loaded(backbone, family, facts, config)


def _is_tied(
    head: StoredTensor | None, embeddings: StoredTensor, arguments: dict, facts: Mapping
) -> bool:
    """Returns whether the output layer is the embeddings; completes the arguments of a T5."""
    if "use_gated_activation" not in arguments:
        return arguments.get("tie_word_embeddings", True)
    # transformers 5 writes of every T5 that it is tied: what is in the file decides, except where
    # hidden states are scaled, as those of tied ones are.
    tied = head is None or facts["hidden_scale"] != 1.0 or _same(head, embeddings)
    arguments["tie_embedding_weights"] = tied
    return tied


def _named(stored: Sequence[StoredTensor], names: Names) -> dict[str, StoredTensor]:
    """Gives tensors the names of the whole model: a bare one is saved without its prefix."""
    found: dict[str, StoredTensor] = {}
    for tensor in stored:
        name = tensor.name
        if name.startswith(("encoder.", "decoder.", "shared.")):
            name = names.prefix + name
        if _UNREAD.fullmatch(name):
            continue
        if found.setdefault(name, tensor) is not tensor:
            raise PresetError(
                f"tensor {name} occurs twice, as {found[name].name} and as {tensor.name}",
                where=str(tensor.file),
                fix="use a folder that holds one model",
            )
    return found


def _embeddings(found: dict[str, StoredTensor], names: Names, folder: Path) -> StoredTensor:
    """Returns the embeddings, which a file may hold under one of the places of their use alone."""
    for name in (*names.copies, names.head):
        if names.embeddings not in found and name in found:
            found[names.embeddings] = found.pop(name)
    if names.embeddings not in found:
        raise PresetError(
            f"tensor {names.embeddings} is missing",
            where=str(folder),
            fix="use a folder that holds the whole model",
        )
    return found[names.embeddings]


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
                f"tensor {tensor.name} holds no sinusoids of {len(computed)} positions, but "
                "sinusoids are computed",
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
