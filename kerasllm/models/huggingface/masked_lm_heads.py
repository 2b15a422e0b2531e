"""The masked-LM heads of transformers: their names, and how a folder's is read."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import keras
import keras_hub
import numpy as np

from kerasllm.errors import PresetError
from kerasllm.models.decoders.layout import Tensor, tensors_of
from kerasllm.models.huggingface import CONFIG, read_config
from kerasllm.models.huggingface.encoder_layout import encoder_family
from kerasllm.models.huggingface.stored import WEIGHTS, StoredTensor, list_tensors
from kerasllm.models.vocabulary_head import VocabularyHead

OF_VOCABULARY, WITH_PAIRS = "ForMaskedLM", "ForPreTraining"
"""The endings of the classes in transformers: of masked words alone, and with a head for pairs."""

_ENDINGS = (OF_VOCABULARY, WITH_PAIRS)
# What transformers has for pairs of texts, by the family and what is told of them.
_OF_PAIRS = {
    ("bert", "next"): "cls.seq_relationship",
    ("albert", "order"): "sop_classifier.classifier",
}
_OLD_NAMES = ((".weight", ".gamma"), (".bias", ".beta"))


class _Names(NamedTuple):
    """What the modules of a head are called.

    Attributes:
        dense: The dense layer.
        norm: Its norm.
        bias: The bias of the vocabulary.
        decoder: The layer of the vocabulary, whose matrix is that of the embeddings.
    """

    dense: str
    norm: str
    bias: str
    decoder: str


_ROBERTA = _Names("lm_head.dense", "lm_head.layer_norm", "lm_head.bias", "lm_head.decoder")
_HEADS = {
    "bert": _Names(
        "cls.predictions.transform.dense",
        "cls.predictions.transform.LayerNorm",
        "cls.predictions.bias",
        "cls.predictions.decoder",
    ),
    "distilbert": _Names(
        "vocab_transform", "vocab_layer_norm", "vocab_projector.bias", "vocab_projector"
    ),
    "roberta": _ROBERTA,
    "xlm-roberta": _ROBERTA,
    "albert": _Names(
        "predictions.dense", "predictions.LayerNorm", "predictions.bias", "predictions.decoder"
    ),
}


def has_vocabulary_head(folder: Path) -> bool:
    """Tells whether a folder in Hugging Face's layout says that it holds a masked-LM head."""
    config = read_config(folder / CONFIG)
    named = map(str, config.get("architectures") or ())
    return config.get("model_type") in _HEADS and any(one.endswith(_ENDINGS) for one in named)


def architecture_of(backbone: keras_hub.models.Backbone, sentence_task: str | None) -> str:
    """Returns the ending of the class that transformers has for a model.

    Args:
        backbone: The encoder.
        sentence_task: `"next"`, `"order"` or `None`. Where transformers has no head for it, the
            class is that of masked words alone.
    """
    return WITH_PAIRS if _module_of_pairs(backbone, sentence_task) else OF_VOCABULARY


def _module_of_pairs(backbone, sentence_task: str | None) -> str | None:
    try:
        return _OF_PAIRS.get((encoder_family(backbone).model_type, sentence_task))
    except PresetError:
        return None


def vocabulary_head_tensors(
    task: VocabularyHead,
    sentence_head: keras.layers.Dense | None = None,
    sentence_task: str | None = None,
) -> dict[str, np.ndarray | Tensor]:
    """Returns the tensors of a head by transformers' names; the embeddings are the encoder's.

    Args:
        task: The encoder with its head.
        sentence_head: The layer of pairs of texts. Defaults to `None`: it has none.
        sentence_task: What it tells of them. Defaults to `None`.
    """
    names = _HEADS[encoder_family(task.backbone).model_type]
    bias = np.asarray(task.head_weights()["bias"], "float32")
    layers = {names.dense: (task.dense,), names.norm: (task.norm,)}
    pairs = _module_of_pairs(task.backbone, sentence_task)
    if pairs and sentence_head is not None:
        layers[pairs] = (sentence_head,)
    return {**tensors_of(layers), names.bias: bias}


def read_sentence_head(
    folder: Path, backbone: keras_hub.models.Backbone, sentence_task: str | None
) -> dict[str, np.ndarray] | None:
    """Returns the `kernel` and the `bias` of a folder's layer of pairs; `None` if it has none."""
    module = _module_of_pairs(backbone, sentence_task)
    stored = {tensor.name: tensor for tensor in list_tensors(folder)}
    if module is None or f"{module}.weight" not in stored:
        return None
    kernel, bias = (stored[f"{module}.{name}"].read() for name in ("weight", "bias"))
    return {"kernel": kernel.astype("float32").T, "bias": bias.astype("float32")}


def read_vocabulary_head(folder: Path) -> dict[str, np.ndarray]:
    """Returns the weights of a folder's head, by the names of `VocabularyHead.head_weights`.

    Raises:
        PresetError: A tensor is missing, or the matrix of the logits is not that of the embeddings.
    """
    names = _HEADS[read_config(folder / CONFIG)["model_type"]]
    stored = {tensor.name: tensor for tensor in list_tensors(folder)}
    for new, old in _OLD_NAMES:
        for name in [name for name in stored if name.endswith(old)]:
            stored[name.removesuffix(old) + new] = stored[name]
    _refuse_own_matrix(folder, stored, names)
    wanted = {
        "kernel": f"{names.dense}.weight",
        "dense_bias": f"{names.dense}.bias",
        "gamma": f"{names.norm}.weight",
        "beta": f"{names.norm}.bias",
        "bias": names.bias if names.bias in stored else f"{names.decoder}.bias",
    }
    for name in wanted.values():
        if name not in stored:
            raise PresetError(
                f"tensor {name} is missing: the masked-LM head is not in the file",
                where=str(folder / WEIGHTS),
                fix="use a folder that holds the whole model",
            )
    found = {own: stored[name].read().astype("float32") for own, name in wanted.items()}
    return {**found, "kernel": found["kernel"].T}


def has_pooler(folder: Path) -> bool:
    """Tells whether a folder in Hugging Face's layout holds a pooler."""
    return any(".pooler." in f".{tensor.name}" for tensor in list_tensors(folder))


def _refuse_own_matrix(folder: Path, stored: dict[str, StoredTensor], names: _Names) -> None:
    own = stored.get(f"{names.decoder}.weight")
    table = next((stored[each] for each in stored if each.endswith("word_embeddings.weight")), None)
    if own is None or table is None or own is table:
        return
    if own.shape != table.shape or not np.array_equal(own.read(), table.read()):
        raise PresetError(
            f"tensor {own.name} is not the matrix of the embeddings; here a masked-LM head has no "
            "other",
            where=str(folder / WEIGHTS),
            fix="use a model with tie_word_embeddings",
        )
