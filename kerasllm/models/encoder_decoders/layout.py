"""Hugging Face's names and shapes for the weights of an encoder-decoder, in both directions."""

from __future__ import annotations

from dataclasses import dataclass

import keras
import keras_hub
import numpy as np

from kerasllm.errors import PresetError
from kerasllm.models.decoders.layout import Module, Part, Tensor, tensors_of
from kerasllm.models.encoder_decoder_backbone import EncoderDecoderBackbone, SinusoidalPositions
from kerasllm.models.layers import walk


@dataclass(frozen=True)
class OffsetTable(Tensor):
    """A table of positions with rows before that of the first position, which nothing reads.

    Attributes:
        offset: The number of these rows.
    """

    offset: int = 0

    @property
    def shape(self) -> tuple[int, ...]:
        rows, width = super().shape
        return rows + self.offset, width

    def to_huggingface(self) -> np.ndarray:
        table = super().to_huggingface()
        return np.concatenate([np.zeros((self.offset, table.shape[1]), table.dtype), table])

    def from_huggingface(self, value: np.ndarray) -> list[np.ndarray]:
        return super().from_huggingface(value[self.offset :])


def is_encoder_decoder(backbone: keras_hub.models.Backbone) -> bool:
    """Returns whether a backbone is one whose Hugging Face names are known here."""
    return isinstance(
        backbone,
        (
            EncoderDecoderBackbone,
            keras_hub.models.BartBackbone,
            keras_hub.models.T5Backbone,
            keras_hub.models.T5GemmaBackbone,
        ),
    )


def tensors(backbone: keras_hub.models.Backbone, positions_offset: int = 2) -> dict[str, Tensor]:
    """Returns where each tensor of a Hugging Face file lives in a backbone.

    Args:
        backbone: One that `is_encoder_decoder`.
        positions_offset: The rows of a learned table of positions before that of the first
            position. Defaults to `2`: BART's.

    Returns:
        For each name, as in transformers' `...ForConditionalGeneration`, its weights. A tied
        `lm_head.weight` and computed positions are not among them.

    Raises:
        PresetError: The backbone is of another family.
    """
    found = tensors_of(_layers_of(backbone))
    for name, tensor in found.items():
        if name.endswith("embed_positions.weight"):
            found[name] = OffsetTable(tensor.parts, offset=positions_offset)
    if isinstance(backbone, keras_hub.models.T5Backbone):
        for stack, layers in _t5_stacks(backbone):
            name = f"{stack}.block.0.layer.0.SelfAttention.relative_attention_bias.weight"
            part = Part(layers[0].self_attention, "relative_attention_bias")
            found[name] = Tensor((part,))
    embedding = getattr(backbone, "decoder_token_embedding", backbone.token_embedding)
    if not embedding.tie_weights:
        head = names_of(backbone).head
        found[head] = Tensor((Part(embedding, "reverse_embeddings", True),))
    return found


def modules(backbone: keras_hub.models.Backbone) -> dict[str, Module]:
    """Returns the linear layers of a backbone by the names of transformers' modules.

    Args:
        backbone: One that `is_encoder_decoder`.

    Raises:
        PresetError: The backbone is of another family.
    """
    return {
        name: Module(layers)
        for name, layers in _layers_of(backbone).items()
        if getattr(layers[0], "kernel", None) is not None
    }


@dataclass(frozen=True)
class Names:
    """The names of the tensors of embeddings in a family.

    Attributes:
        embeddings: Those of the decoder, which the output layer may share.
        head: That of the output layer.
        copies: Further names under which a file may hold `embeddings`, because it is shared.
        prefix: What names of the encoder and the decoder begin with in the whole model.
    """

    embeddings: str
    head: str
    copies: tuple[str, ...]
    prefix: str


_COPIES = ("encoder.embed_tokens.weight", "decoder.embed_tokens.weight")
_T5_NAMES = Names("shared.weight", "lm_head.weight", _COPIES, "")
_T5GEMMA_NAMES = Names("model.decoder.embed_tokens.weight", "lm_head.out_proj.weight", (), "model.")
_BART_NAMES = Names(
    "model.shared.weight", "lm_head.weight", tuple(f"model.{name}" for name in _COPIES), "model."
)


def names_of(kind: keras_hub.models.Backbone | type[keras_hub.models.Backbone]) -> Names:
    """Returns the names of the embeddings of a backbone, or of its class."""
    kind = kind if isinstance(kind, type) else type(kind)
    if issubclass(kind, keras_hub.models.T5GemmaBackbone):
        return _T5GEMMA_NAMES
    return _T5_NAMES if issubclass(kind, keras_hub.models.T5Backbone) else _BART_NAMES


def _layers_of(backbone: keras_hub.models.Backbone) -> dict[str, tuple[keras.Layer, ...]]:
    if isinstance(backbone, keras_hub.models.T5Backbone):
        found = _t5(backbone)
    elif isinstance(backbone, keras_hub.models.T5GemmaBackbone):
        found = _t5gemma(backbone)
    elif is_encoder_decoder(backbone):
        found = _bart(backbone)
    else:
        raise PresetError(
            f"{type(backbone).__name__} is not an encoder-decoder whose Hugging Face names "
            "kerasllm knows",
            fix="use BART, T5, T5Gemma, or a model that kerasllm made",
        )
    return {name: (layer,) for name, layer in found.items()}


_ATTENTION = {
    "q_proj": "query",
    "k_proj": "key",
    "v_proj": "value",
    "out_proj": "attention_output",
}
_FEEDFORWARD = {
    "fc1": "feedforward_intermediate_dense",
    "fc2": "feedforward_output_dense",
    "final_layer_norm": "feedforward_layer_norm",
}
# transformers' module to KerasHub's layer, within a transformer layer.
_BART_LAYERS = {
    "encoder": {
        **{f"self_attn.{ours}": f"self_attention_layer/{its}" for ours, its in _ATTENTION.items()},
        "self_attn_layer_norm": "self_attention_layer_norm",
        **_FEEDFORWARD,
    },
    "decoder": {
        **{f"self_attn.{ours}": f"self_attention/{its}" for ours, its in _ATTENTION.items()},
        "self_attn_layer_norm": "self_attention_layer_norm",
        **{f"encoder_attn.{ours}": f"cross_attention/{its}" for ours, its in _ATTENTION.items()},
        "encoder_attn_layer_norm": "cross_attention_layer_norm",
        **_FEEDFORWARD,
    },
}


def _bart(backbone: keras_hub.models.Backbone) -> dict[str, keras.Layer]:
    by_path = {layer.path: layer for layer in walk(backbone.layers)}
    found = {"model.shared": backbone.token_embedding}
    for stack, inside in _BART_LAYERS.items():
        positions = getattr(backbone, f"{stack}_position_embedding")
        if not isinstance(positions, SinusoidalPositions):
            found[f"model.{stack}.embed_positions"] = positions
        embedding_norm = getattr(backbone, f"{stack}_embeddings_layer_norm")
        if embedding_norm is not None:
            found[f"model.{stack}.layernorm_embedding"] = embedding_norm
        for number, layer in enumerate(getattr(backbone, f"{stack}_transformer_layers")):
            for name, path in inside.items():
                found[f"model.{stack}.layers.{number}.{name}"] = by_path[f"{layer.path}/{path}"]
        final_norm = getattr(backbone, f"{stack}_layer_norm", None)
        if final_norm is not None:
            found[f"model.{stack}.layer_norm"] = final_norm
    return found


def _t5_stacks(backbone: keras_hub.models.T5Backbone) -> tuple[tuple[str, list], ...]:
    return (
        ("encoder", backbone.encoder_transformer_layers),
        ("decoder", backbone.decoder_transformer_layers),
    )


def _t5(backbone: keras_hub.models.T5Backbone) -> dict[str, keras.Layer]:
    found = {"shared": backbone.token_embedding}
    for stack, layers in _t5_stacks(backbone):
        for number, layer in enumerate(layers):
            block = f"{stack}.block.{number}.layer"
            parts = [("SelfAttention", layer.self_attention, layer.self_attention_layer_norm)]
            if layer.is_decoder:
                cross = layer.cross_attention, layer.cross_attention_layer_norm
                parts.append(("EncDecAttention", *cross))
            for place, (name, attention, norm) in enumerate(parts):
                found[f"{block}.{place}.{name}.q"] = attention.query_projector
                found[f"{block}.{place}.{name}.k"] = attention.key_projector
                found[f"{block}.{place}.{name}.v"] = attention.value_projector
                found[f"{block}.{place}.{name}.o"] = attention.output_projector
                found[f"{block}.{place}.layer_norm"] = norm
            dense = f"{block}.{len(parts)}.DenseReluDense"
            if layer.use_gated_activation:
                found[f"{dense}.wi_0"] = layer.input_projector
                found[f"{dense}.wi_1"] = layer.gate_projector
            else:
                found[f"{dense}.wi"] = layer.input_projector
            found[f"{dense}.wo"] = layer.output_projector
            found[f"{block}.{len(parts)}.layer_norm"] = layer.layer_norm
        found[f"{stack}.final_layer_norm"] = getattr(backbone, f"{stack}_layer_norm")
    return found


def _t5gemma(backbone: keras_hub.models.T5GemmaBackbone) -> dict[str, keras.Layer]:
    found = {
        "model.encoder.embed_tokens": backbone.token_embedding,
        "model.decoder.embed_tokens": backbone.decoder_token_embedding,
    }
    for stack in ("encoder", "decoder"):
        for number, layer in enumerate(getattr(backbone, f"{stack}_layers")):
            block = f"model.{stack}.layers.{number}"
            attentions = ("self_attn",) if stack == "encoder" else ("self_attn", "cross_attn")
            for name in attentions:
                attention = getattr(layer, name)
                for letter, part in zip("qkvo", ("query", "key", "value", "output")):
                    found[f"{block}.{name}.{letter}_proj"] = getattr(attention, f"{part}_dense")
            for name in (*attentions, "feedforward"):
                for norm in (f"pre_{name}_layernorm", f"post_{name}_layernorm"):
                    found[f"{block}.{norm}"] = getattr(layer, norm)
            for name in ("gate_proj", "up_proj", "down_proj"):
                found[f"{block}.mlp.{name}"] = getattr(layer.mlp, name)
        found[f"model.{stack}.norm"] = getattr(backbone, f"{stack}_norm")
    return found
