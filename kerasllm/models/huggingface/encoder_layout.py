"""Hugging Face's names and shapes for the weights of a KerasHub encoder and its classifier's head.

One table a family: a module of transformers, and the Keras layer that it is, by its path. The
encoders are read by KerasHub's own importers (`weights` prepares the files); this table is for
what leaves, and for a head, which KerasHub does not read.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import keras
import keras_hub
import numpy as np

from kerasllm.errors import PresetError
from kerasllm.models.decoders.layout import Tensor, tensors_of
from kerasllm.models.heads import PooledTextClassifier
from kerasllm.models.layers import walk


@dataclass(frozen=True)
class Encoder:
    """Encoders of one `model_type`.

    Attributes:
        model_type: As Hugging Face spells it.
        stem: What the names of its classes in transformers begin with.
        backbone: The name of KerasHub's class.
        outside: Modules outside the transformer layers, with their Keras layers.
        block: The name of a transformer layer; `{}` stands for its number.
        layer: The Keras layer of it.
        inside: Modules inside, with their Keras layers.
        head: Modules of the classifier, with the attributes of KerasHub's task.
        offset: The rows of the position table before the first position. Defaults to `0`.
    """

    model_type: str
    stem: str
    backbone: str
    outside: Mapping[str, str]
    block: str
    layer: str
    inside: Mapping[str, str]
    head: Mapping[str, str]
    offset: int = 0

    @property
    def prefix(self) -> str:
        """What the names of the encoder's tensors begin with beside a head."""
        return self.model_type.replace("xlm-", "").replace("-", "") + "."


def encoder_family(backbone: keras_hub.models.Backbone) -> Encoder:
    """Returns the family of an encoder.

    Raises:
        PresetError: kerasllm does not know how Hugging Face lays this one out.
    """
    # By name and not by inheritance: XLM-RoBERTa's class is a RoBERTa's.
    for family in ENCODERS.values():
        if type(backbone).__name__ == family.backbone:
            return family
    known = sorted(family.backbone for family in ENCODERS.values())
    raise PresetError(
        f"{type(backbone).__name__} is not an encoder whose Hugging Face names kerasllm knows",
        fix=f"use a model of one of these: {', '.join(known)}",
    )


def encoder_arrays(backbone: keras_hub.models.Backbone) -> dict[str, np.ndarray | Tensor]:
    """Returns the tensors of an encoder by transformers' names, without a prefix.

    RoBERTa's first two positions are those of padding, and its token type is part of KerasHub's
    positions: both are zeros here.

    Args:
        backbone: A KerasHub backbone of one of `ENCODERS`.

    Raises:
        PresetError: The backbone is of another family.
    """
    family = encoder_family(backbone)
    layers = {layer.path: layer for layer in walk(backbone.layers)}
    named = {name: (layers[path],) for name, path in family.outside.items()}
    for number, start in _blocks(backbone, family):
        for name, inside in family.inside.items():
            named[f"{number}.{name}"] = (layers[f"{start}/{inside}"],)
    found: dict[str, np.ndarray | Tensor] = dict(tensors_of(named))
    if family.offset:
        name = "embeddings.position_embeddings.weight"
        positions = found[name].to_huggingface()
        before = np.zeros((family.offset, positions.shape[1]), positions.dtype)
        found[name] = np.concatenate([before, positions])
        found["embeddings.token_type_embeddings.weight"] = before[:1]
    return found


def head_tensors(task: keras_hub.models.TextClassifier) -> dict[str, Tensor]:
    """Returns the tensors of a classifier's head by transformers' names.

    Args:
        task: A KerasHub classifier on an encoder of one of `ENCODERS`.

    Raises:
        PresetError: The encoder is of another family, or the head is not the one that
            transformers has for it.
    """
    family = encoder_family(task.backbone)
    if isinstance(task, PooledTextClassifier):
        raise PresetError(
            "the classifier reads the mean of all tokens; transformers' classifiers read the first",
            fix="build the classifier with pooling=cls",
        )
    if task.activation is not keras.activations.linear:
        raise PresetError(
            f"the last layer has the activation {task.activation.__name__}; transformers' "
            "classifiers have none",
            fix="build the classifier with activation=None",
        )
    hidden = getattr(task, "hidden_dim", task.backbone.hidden_dim)
    if hidden != task.backbone.hidden_dim:
        raise PresetError(
            f"the head is {hidden} wide and the encoder {task.backbone.hidden_dim}; transformers "
            "has one width for both",
            fix="build the classifier without hidden_dim",
        )
    return tensors_of({name: (getattr(task, layer),) for name, layer in family.head.items()})


def _blocks(backbone: keras_hub.models.Backbone, family: Encoder) -> list[tuple[str, str]]:
    """Returns the names of the transformer layers, and the paths of their Keras layers."""
    if family.model_type != "albert":
        numbers = [(number,) for number in range(backbone.num_layers)]
    else:
        groups, inner = range(backbone.num_groups), range(backbone.num_inner_repetitions)
        numbers = [(group, layer) for group in groups for layer in inner]
    return [(family.block.format(*one), family.layer.format(*one)) for one in numbers]


_NUMBERED = "transformer_layer_{}"
_EMBEDDINGS = {
    "embeddings.word_embeddings": "token_embedding",
    "embeddings.position_embeddings": "position_embedding",
    "embeddings.token_type_embeddings": "segment_embedding",
    "embeddings.LayerNorm": "embeddings_layer_norm",
}
_BERT_BLOCK = {
    "attention.self.query": "self_attention_layer/query",
    "attention.self.key": "self_attention_layer/key",
    "attention.self.value": "self_attention_layer/value",
    "attention.output.dense": "self_attention_layer/attention_output",
    "attention.output.LayerNorm": "self_attention_layer_norm",
    "intermediate.dense": "feedforward_intermediate_dense",
    "output.dense": "feedforward_output_dense",
    "output.LayerNorm": "feedforward_layer_norm",
}
_ROBERTA = {
    "outside": {
        "embeddings.word_embeddings": "embeddings/token_embedding",
        "embeddings.position_embeddings": "embeddings/position_embedding",
        "embeddings.LayerNorm": "embeddings_layer_norm",
    },
    "block": "encoder.layer.{}",
    "layer": _NUMBERED,
    "inside": _BERT_BLOCK,
    "head": {"classifier.dense": "pooled_dense", "classifier.out_proj": "output_dense"},
    "offset": 2,
}

ENCODERS: dict[str, Encoder] = {
    family.model_type: family
    for family in (
        Encoder(
            "bert",
            "Bert",
            "BertBackbone",
            outside={**_EMBEDDINGS, "pooler.dense": "pooled_dense"},
            block="encoder.layer.{}",
            layer=_NUMBERED,
            inside=_BERT_BLOCK,
            head={"classifier": "output_dense"},
        ),
        Encoder(
            "distilbert",
            "DistilBert",
            "DistilBertBackbone",
            outside={
                "embeddings.word_embeddings": "token_and_position_embedding/token_embedding",
                "embeddings.position_embeddings": "token_and_position_embedding/position_embedding",
                "embeddings.LayerNorm": "embeddings_layer_norm",
            },
            block="transformer.layer.{}",
            layer=_NUMBERED,
            inside={
                "attention.q_lin": "self_attention_layer/query",
                "attention.k_lin": "self_attention_layer/key",
                "attention.v_lin": "self_attention_layer/value",
                "attention.out_lin": "self_attention_layer/attention_output",
                "sa_layer_norm": "self_attention_layer_norm",
                "ffn.lin1": "feedforward_intermediate_dense",
                "ffn.lin2": "feedforward_output_dense",
                "output_layer_norm": "feedforward_layer_norm",
            },
            head={"pre_classifier": "pooled_dense", "classifier": "output_dense"},
        ),
        Encoder("roberta", "Roberta", "RobertaBackbone", **_ROBERTA),
        Encoder("xlm-roberta", "XLMRoberta", "XLMRobertaBackbone", **_ROBERTA),
        Encoder(
            "albert",
            "Albert",
            "AlbertBackbone",
            outside={
                **_EMBEDDINGS,
                "encoder.embedding_hidden_mapping_in": "embedding_projection",
                "pooler": "pooled_dense",
            },
            block="encoder.albert_layer_groups.{}.albert_layers.{}",
            layer="group_{}_inner_layer_{}",
            inside={
                "attention.query": "self_attention_layer/query",
                "attention.key": "self_attention_layer/key",
                "attention.value": "self_attention_layer/value",
                "attention.dense": "self_attention_layer/attention_output",
                "attention.LayerNorm": "self_attention_layer_norm",
                "ffn": "feedforward_intermediate_dense",
                "ffn_output": "feedforward_output_dense",
                "full_layer_layer_norm": "feedforward_layer_norm",
            },
            head={"classifier": "output_dense"},
        ),
    )
}
"""The families by their `model_type`."""
