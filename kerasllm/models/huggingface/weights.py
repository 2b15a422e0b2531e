"""The tensors of a Hugging Face encoder, put the way KerasHub's importers want them.

What the importers of KerasHub 0.32 get wrong, and what is done here about it:

- RoBERTa's token type vector is dropped without a word (hidden states of a fine-tuned model are
  off by more than 1): it is added to every position, as KerasHub does for XLM-RoBERTa.
- DistilBERT, RoBERTa and ALBERT are only read when every name starts with the model's own name,
  which is not so in a file that was saved from the bare encoder: names are completed.
- BERT and ALBERT without a pooler (saved from a masked language model) are not read: they get a
  new one, as in transformers, and it is said that it is new.
- A tensor that KerasHub has no use for is skipped: here it is refused, because it is part of
  what the model computes.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import numpy as np

from kerasllm.errors import PresetError
from kerasllm.models.huggingface.stored import WEIGHTS, StoredTensor, list_tensors
from kerasllm.safetensors_file import save_tensors

# Names that KerasHub's importer asks for, before it looks for a longer name with the same end.
_PREFIXES = {
    "albert": "albert.",
    "bert": "",
    "distilbert": "distilbert.",
    "roberta": "roberta.",
    "xlm-roberta": "",
}
_ENCODER = ("embeddings.", "encoder.", "transformer.", "pooler.")
# Layers on top of an encoder, which a new head replaces.
_HEADS = re.compile(
    r"(cls|classifier|lm_head|predictions|qa_outputs|sop_classifier|score|pre_classifier"
    r"|vocab_transform|vocab_layer_norm|vocab_projector|dropout)\."
)
_BUFFERS = ("embeddings.position_ids", "embeddings.token_type_ids")
_OLD_NAMES = ((".gamma", ".weight"), (".beta", ".bias"))


def stage_weights(folder: Path, config: Mapping, target: Path) -> bool:
    """Puts the weights of a checked folder where KerasHub reads them right.

    Args:
        folder: The Hugging Face folder.
        config: What `check_config` returned.
        target: The folder to put `model.safetensors` in: a link where the file is right as it is.

    Returns:
        Whether the pooler is new, because the folder has none.

    Raises:
        PresetError: A tensor is missing, unknown or of another shape than the configuration says.
    """
    model_type = config["model_type"]
    found = _encoder_tensors(folder)
    expected = expected_tensors(config)
    poolers = {name for name in expected if name.startswith("pooler.")}
    fresh_pooler = bool(poolers) and not poolers & found.keys()
    _check_tensors(found, expected, poolers if fresh_pooler else set(), model_type, folder)

    changes = _changes(found, model_type)
    prefix = _PREFIXES[model_type]
    wanted = {prefix + name for name in found}
    as_it_is = (
        not changes
        and not fresh_pooler
        and {tensor.file.name for tensor in found.values()} == {WEIGHTS}
        and (not prefix or wanted == {tensor.name for tensor in found.values()})
        and all(tensor.dtype == "F32" for tensor in found.values())
        and not any(old in tensor.name for tensor in found.values() for old, _ in _OLD_NAMES)
    )
    if as_it_is:
        (target / WEIGHTS).symlink_to((folder / WEIGHTS).resolve())
        return False
    tensors = dict(_read(found))
    for name, change in changes.items():
        tensors[name] = change(tensors)
    if fresh_pooler:
        tensors.update(_new_pooler(expected, poolers))
    save_tensors({prefix + name: tensor for name, tensor in tensors.items()}, target / WEIGHTS)
    return fresh_pooler


def expected_tensors(config: Mapping) -> dict[str, tuple[int, ...]]:
    """Returns the shape of every tensor of an encoder, by its name without a prefix."""
    if config["model_type"] == "distilbert":
        return _distilbert_tensors(config)
    if config["model_type"] == "albert":
        return _albert_tensors(config)
    width, inner = config["hidden_size"], config["intermediate_size"]
    layer = {
        **_dense("attention.self.query", width, width),
        **_dense("attention.self.key", width, width),
        **_dense("attention.self.value", width, width),
        **_dense("attention.output.dense", width, width),
        **_norm("attention.output.LayerNorm", width),
        **_dense("intermediate.dense", width, inner),
        **_dense("output.dense", inner, width),
        **_norm("output.LayerNorm", width),
    }
    tensors = _embeddings(config, width)
    for number in range(config["num_hidden_layers"]):
        tensors.update({f"encoder.layer.{number}.{name}": s for name, s in layer.items()})
    # KerasHub's RoBERTa has no pooler in its encoder: what is in the file belongs to another head.
    if config["model_type"] == "bert":
        tensors.update(_dense("pooler.dense", width, width))
    return tensors


def _distilbert_tensors(config: Mapping) -> dict[str, tuple[int, ...]]:
    width, inner = config["dim"], config["hidden_dim"]
    layer = {
        **_dense("attention.q_lin", width, width),
        **_dense("attention.k_lin", width, width),
        **_dense("attention.v_lin", width, width),
        **_dense("attention.out_lin", width, width),
        **_norm("sa_layer_norm", width),
        **_dense("ffn.lin1", width, inner),
        **_dense("ffn.lin2", inner, width),
        **_norm("output_layer_norm", width),
    }
    tensors = _embeddings(config, width, segments=False)
    for number in range(config["n_layers"]):
        tensors.update({f"transformer.layer.{number}.{name}": s for name, s in layer.items()})
    return tensors


def _albert_tensors(config: Mapping) -> dict[str, tuple[int, ...]]:
    width, inner = config["hidden_size"], config["intermediate_size"]
    layer = {
        **_dense("attention.query", width, width),
        **_dense("attention.key", width, width),
        **_dense("attention.value", width, width),
        **_dense("attention.dense", width, width),
        **_norm("attention.LayerNorm", width),
        **_dense("ffn", width, inner),
        **_dense("ffn_output", inner, width),
        **_norm("full_layer_layer_norm", width),
    }
    tensors = {
        **_embeddings(config, config["embedding_size"]),
        **_dense("encoder.embedding_hidden_mapping_in", config["embedding_size"], width),
        **_dense("pooler", width, width),
    }
    for group in range(config["num_hidden_groups"]):
        for number in range(config["inner_group_num"]):
            start = f"encoder.albert_layer_groups.{group}.albert_layers.{number}."
            tensors.update({start + name: shape for name, shape in layer.items()})
    return tensors


def _embeddings(config: Mapping, width: int, segments: bool = True) -> dict:
    tensors = {
        "embeddings.word_embeddings.weight": (config["vocab_size"], width),
        "embeddings.position_embeddings.weight": (config["max_position_embeddings"], width),
        **_norm("embeddings.LayerNorm", width),
    }
    if segments:
        tensors["embeddings.token_type_embeddings.weight"] = (config["type_vocab_size"], width)
    return tensors


def _dense(name: str, inputs: int, outputs: int) -> dict:
    return {f"{name}.weight": (outputs, inputs), f"{name}.bias": (outputs,)}


def _norm(name: str, width: int) -> dict:
    return {f"{name}.weight": (width,), f"{name}.bias": (width,)}


def _encoder_tensors(folder: Path) -> dict[str, StoredTensor]:
    """Finds the encoder's tensors, by their names without a prefix and in today's spelling."""
    listed = list_tensors(folder)
    tables = [t.name for t in listed if t.name.endswith("embeddings.word_embeddings.weight")]
    if len(tables) != 1:
        raise PresetError(
            f"{WEIGHTS} has {len(tables)} tables of word embeddings: {', '.join(tables) or 'none'}",
            where=str(folder),
            fix="use a folder that holds one encoder",
        )
    prefix = tables[0].removesuffix("embeddings.word_embeddings.weight")
    found = {}
    for tensor in listed:
        name = tensor.name.removeprefix(prefix)
        if not tensor.name.startswith(prefix) or _HEADS.match(name):
            continue
        for old, new in _OLD_NAMES:
            name = name.removesuffix(old) + new if name.endswith(old) else name
        if name not in _BUFFERS:
            found[name] = tensor
    return found


def _check_tensors(
    found: Mapping[str, StoredTensor],
    expected: Mapping[str, tuple[int, ...]],
    may_miss: set[str],
    model_type: str,
    folder: Path,
) -> None:
    ignored = "pooler." if model_type in ("roberta", "xlm-roberta") else None
    for name, tensor in found.items():
        if name not in expected and not (ignored and name.startswith(ignored)):
            raise PresetError(
                f"tensor {tensor.name} is not part of KerasHub's {model_type}",
                where=str(tensor.file),
                fix="use another model: this one would load but compute something else",
            )
    for name, shape in expected.items():
        if name in may_miss:
            continue
        if name not in found:
            raise PresetError(
                f"tensor {name} is missing",
                where=str(folder / WEIGHTS),
                fix="use a folder that holds the whole encoder",
            )
        if found[name].shape != shape:
            raise PresetError(
                f"tensor {found[name].name} has shape {found[name].shape}, where config.json says "
                f"{shape}",
                where=str(found[name].file),
                fix="take config.json and the weights from the same model",
            )


def _changes(found: Mapping[str, StoredTensor], model_type: str) -> dict[str, Callable]:
    """Returns how to compute the tensors that KerasHub needs otherwise than they are."""
    if model_type != "roberta":
        return {}
    types = "embeddings.token_type_embeddings.weight"
    positions = "embeddings.position_embeddings.weight"
    if not np.any(dict(_read({types: found[types]}))[types][0]):
        return {}
    return {positions: lambda tensors: tensors[positions] + tensors[types][0]}


def _read(found: Mapping[str, StoredTensor]) -> Iterator[tuple[str, np.ndarray]]:
    for name, tensor in found.items():
        yield name, tensor.read().astype("float32")


def _new_pooler(expected: Mapping[str, tuple[int, ...]], names: set[str]) -> dict:
    # A fixed seed: the same preset is the same model each time it is loaded.
    rng = np.random.default_rng(0)
    return {
        name: np.zeros(expected[name], "float32")
        if name.endswith(".bias")
        else rng.normal(0, 0.02, expected[name]).astype("float32")
        for name in sorted(names)
    }
