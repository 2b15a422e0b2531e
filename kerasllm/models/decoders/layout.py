"""Hugging Face's names and shapes for the weights of a KerasHub decoder, in both directions.

One table a family: a module of transformers, and the Keras layers that make it up, by their paths.
From it come the tensors of a file and the linear layers that adapters name.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import keras
import keras_hub
import numpy as np

from kerasllm.models.decoders.families import family_of
from kerasllm.models.layers import walk


@dataclass(frozen=True)
class Module:
    """A linear layer of transformers, and the Keras layers that compute it.

    Attributes:
        layers: The Keras layers (`Dense` or `EinsumDense`). Where transformers fuses several into
            one (GPT-2's `c_attn`, Phi-3's `qkv_proj`), in the order of its outputs.
        transposed: Whether transformers keeps the weight as `[inputs, outputs]` (GPT-2's Conv1D),
            and not as `[outputs, inputs]`.
    """

    layers: tuple[keras.Layer, ...]
    transposed: bool = False


@dataclass(frozen=True)
class Part:
    """One weight of a Keras layer, as a piece of a tensor.

    Attributes:
        layer: The layer.
        attribute: The name of its weight: `"kernel"`, `"bias"`, `"scale"`, ...
        outputs_first: Whether the kernel's matrix stands as `[outputs, inputs]` in the file.
    """

    layer: keras.Layer
    attribute: str
    outputs_first: bool = False

    @property
    def variable(self) -> keras.Variable:
        return getattr(self.layer, self.attribute)

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the piece in the file."""
        shape = tuple(self.variable.shape)
        if self.attribute == "kernel":
            inputs, outputs = kernel_axes(self.layer)
            matrix = (_size(shape, inputs), _size(shape, outputs))
        else:
            matrix = (math.prod(shape),) if self.attribute == "bias" else shape
        return matrix[::-1] if self.outputs_first else matrix

    def to_huggingface(self) -> np.ndarray:
        value = keras.ops.convert_to_numpy(self.variable)
        if self.attribute == "kernel":
            value = as_matrix(self.layer, value)
        elif self.attribute == "bias":
            value = value.reshape(-1)
        return value.T if self.outputs_first else value

    def from_huggingface(self, value: np.ndarray) -> np.ndarray:
        value = value.T if self.outputs_first else value
        if self.attribute == "kernel":
            return as_kernel(self.layer, value)
        return value.reshape(tuple(self.variable.shape))


@dataclass(frozen=True)
class Tensor:
    """A tensor of a Hugging Face file, and the Keras weights that it holds.

    Attributes:
        parts: The weights, in the order in which they stand side by side.
        axis: The axis of the file's tensor along which they do.
    """

    parts: tuple[Part, ...]
    axis: int = 0

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape in the file."""
        shapes = [part.shape for part in self.parts]
        whole = list(shapes[0])
        whole[self.axis] = sum(shape[self.axis] for shape in shapes)
        return tuple(whole)

    def to_huggingface(self) -> np.ndarray:
        """Returns the weights as the file has them."""
        return np.concatenate([part.to_huggingface() for part in self.parts], self.axis)

    def from_huggingface(self, value: np.ndarray) -> list[np.ndarray]:
        """Returns the value of each part's weight, out of the file's tensor."""
        ends = np.cumsum([part.shape[self.axis] for part in self.parts])[:-1]
        pieces = np.split(value, ends, self.axis)
        return [part.from_huggingface(piece) for part, piece in zip(self.parts, pieces)]

    def assign(self, value: np.ndarray) -> None:
        """Gives the weights the values of the file's tensor."""
        for part, piece in zip(self.parts, self.from_huggingface(value)):
            part.variable.assign(piece)


def kernel_axes(layer: keras.Layer) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Returns which axes of a dense layer's kernel are inputs, and which are outputs.

    Args:
        layer: A built `Dense`, or an `EinsumDense` that multiplies by a matrix.
    """
    if not isinstance(layer, keras.layers.EinsumDense):
        return (0,), (1,)
    operands, result = layer.equation.split("->")
    inputs, kernel = operands.split(",")
    return (
        tuple(kernel.index(axis) for axis in inputs if axis in kernel),
        tuple(kernel.index(axis) for axis in result if axis in kernel),
    )


def as_matrix(layer: keras.Layer, kernel: np.ndarray) -> np.ndarray:
    """Returns a dense layer's kernel as a matrix of shape `[inputs, outputs]`."""
    inputs, outputs = kernel_axes(layer)
    return kernel.transpose(inputs + outputs).reshape(_size(kernel.shape, inputs), -1)


def as_kernel(layer: keras.Layer, matrix: np.ndarray) -> np.ndarray:
    """Returns a matrix of shape `[inputs, outputs]` as a dense layer's kernel."""
    shape = tuple(layer.kernel.shape)
    order = sum(kernel_axes(layer), ())
    return matrix.reshape([shape[axis] for axis in order]).transpose(np.argsort(order))


def tensors(backbone: keras_hub.models.Backbone) -> dict[str, Tensor]:
    """Returns where each tensor of a Hugging Face file lives in a backbone.

    Args:
        backbone: A KerasHub backbone of one of `FAMILIES`.

    Returns:
        For each name, as in transformers' `...ForCausalLM`, its weights. A tied `lm_head.weight`
        is not among them.

    Raises:
        PresetError: The backbone is of another family.
    """
    found = tensors_of(_layers_of(backbone), transposed=_names_of(backbone).transposed)
    embedding = backbone.token_embedding
    if not embedding.tie_weights:
        found["lm_head.weight"] = Tensor((Part(embedding, "reverse_embeddings", True),))
    return found


def tensors_of(
    named: Mapping[str, tuple[keras.Layer, ...]], *, transposed: bool = False
) -> dict[str, Tensor]:
    """Returns the tensors of named layers: `NAME.weight`, `NAME.bias`.

    Args:
        named: The Keras layers by the name of the module in transformers.
        transposed: See `Module`. Defaults to `False`.
    """
    found = {}
    for name, layers in named.items():
        for suffix, attributes in _SUFFIXES.items():
            held = next((a for a in attributes if _has(layers[0], a)), None)
            if held is None:
                continue
            kernel = held == "kernel"
            parts = tuple(Part(layer, held, kernel and not transposed) for layer in layers)
            found[f"{name}.{suffix}"] = Tensor(parts, axis=int(kernel and transposed))
    return found


def modules(backbone: keras_hub.models.Backbone) -> dict[str, Module]:
    """Returns the linear layers of a backbone by the names of transformers' modules.

    Args:
        backbone: A KerasHub backbone of one of `FAMILIES`.

    Raises:
        PresetError: The backbone is of another family.

    Example:

    ```python
    modules(backbone)["model.layers.0.self_attn.q_proj"].layers[0]  # the EinsumDense "query"
    ```
    """
    transposed = _names_of(backbone).transposed
    return {
        name: Module(layers, transposed)
        for name, layers in _layers_of(backbone).items()
        if _has(layers[0], "kernel")
    }


# Which weight of a layer is called what: the first that it has. (A Keras LayerNormalization has a
# `gamma`, and a flag that is called `scale`.)
_SUFFIXES = {
    "weight": ("kernel", "gamma", "scale", "embeddings", "position_embeddings", "weight"),
    "bias": ("bias", "beta"),
}


@dataclass(frozen=True)
class _Names:
    """A family's table: `{}` stands for the number of a transformer layer."""

    outside: Mapping[str, tuple[str, ...]]
    block: str
    layer: str
    inside: Mapping[str, tuple[str, ...]]
    transposed: bool = False


_OUTSIDE = {
    "model.embed_tokens": ("token_embedding",),
    "model.norm": ("sequence_output_layernorm",),
}
_LLAMA = _Names(
    outside=_OUTSIDE,
    block="model.layers.{}.",
    layer="transformer_layer_{}/",
    inside={
        "input_layernorm": ("self_attention_layernorm",),
        "self_attn.q_proj": ("self_attention/query",),
        "self_attn.k_proj": ("self_attention/key",),
        "self_attn.v_proj": ("self_attention/value",),
        "self_attn.o_proj": ("self_attention/attention_output",),
        "post_attention_layernorm": ("feedforward_layernorm",),
        "mlp.gate_proj": ("feedforward_gate_dense",),
        "mlp.up_proj": ("feedforward_intermediate_dense",),
        "mlp.down_proj": ("feedforward_output_dense",),
    },
)
_NAMES = {
    "gpt2": _Names(
        outside={
            "transformer.wte": ("token_embedding",),
            "transformer.wpe": ("position_embedding",),
            "transformer.ln_f": ("layer_norm",),
        },
        block="transformer.h.{}.",
        layer="transformer_layer_{}/",
        inside={
            "ln_1": ("self_attention_layer_norm",),
            "attn.c_attn": (
                "self_attention/query",
                "self_attention/key",
                "self_attention/value",
            ),
            "attn.c_proj": ("self_attention/attention_output",),
            "ln_2": ("feedforward_layer_norm",),
            "mlp.c_fc": ("feedforward_intermediate_dense",),
            "mlp.c_proj": ("feedforward_output_dense",),
        },
        transposed=True,
    ),
    "llama": _LLAMA,
    "mistral": _LLAMA,
    "qwen2": _LLAMA,
    "qwen3": _Names(
        outside=_OUTSIDE,
        block=_LLAMA.block,
        layer=_LLAMA.layer,
        inside={
            **_LLAMA.inside,
            "self_attn.q_norm": ("self_attention/query_dense_layernorm",),
            "self_attn.k_norm": ("self_attention/key_dense_layernorm",),
        },
    ),
    "gemma": _Names(
        outside={**_OUTSIDE, "model.norm": ("final_normalization",)},
        block=_LLAMA.block,
        layer="decoder_block_{}/",
        inside={
            "input_layernorm": ("pre_attention_norm",),
            "self_attn.q_proj": ("attention/query",),
            "self_attn.k_proj": ("attention/key",),
            "self_attn.v_proj": ("attention/value",),
            "self_attn.o_proj": ("attention/attention_output",),
            "post_attention_layernorm": ("pre_ffw_norm",),
            "mlp.gate_proj": ("ffw_gating",),
            "mlp.up_proj": ("ffw_gating_2",),
            "mlp.down_proj": ("ffw_linear",),
        },
    ),
    "phi3": _Names(
        outside=_OUTSIDE,
        block=_LLAMA.block,
        layer=_LLAMA.layer,
        inside={
            "input_layernorm": ("pre_attention_layernorm",),
            "self_attn.qkv_proj": ("attention/query", "attention/key", "attention/value"),
            "self_attn.o_proj": ("attention/attention_output",),
            "post_attention_layernorm": ("post_attention_layernorm",),
            "mlp.gate_up_proj": ("feedforward_gate_dense", "feedforward_intermediate_dense"),
            "mlp.down_proj": ("feedforward_output_dense",),
        },
    ),
}


def _layers_of(backbone: keras_hub.models.Backbone) -> dict[str, tuple[keras.Layer, ...]]:
    names = _names_of(backbone)
    paths = dict(names.outside)
    for number in range(backbone.num_layers):
        start = names.layer.format(number)
        for name, inside in names.inside.items():
            paths[names.block.format(number) + name] = tuple(start + path for path in inside)
    layers = {layer.path: layer for layer in walk(backbone.layers)}
    return {name: tuple(layers[path] for path in found) for name, found in paths.items()}


def _names_of(backbone: keras_hub.models.Backbone) -> _Names:
    return _NAMES[family_of(backbone).model_type]


def _has(layer: keras.Layer, attribute: str) -> bool:
    return getattr(layer, attribute, None) is not None


def _size(shape: tuple[int, ...], axes: tuple[int, ...]) -> int:
    return math.prod(shape[axis] for axis in axes)
