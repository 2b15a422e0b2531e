"""Which layers of a decoder an adapter's targets name."""

from __future__ import annotations

from collections.abc import Sequence

import keras
import keras_hub

from kerasllm.errors import RecipeError
from kerasllm.models import decoders

ALL_LINEAR = "all-linear"
# The part of a transformer layer, by the module of transformers that holds it.
_ROLES = {"attention": ("self_attn", "attn"), "mlp": ("mlp",), "ffn": ("mlp",)}
# What recipes of encoders call the parts of the attention.
_SYNONYMS = {"query": "q_proj", "key": "k_proj", "value": "v_proj", "output": "o_proj"}
_EMBEDDINGS = ("embed_tokens", "wte", "wpe", "lm_head")


def find_targets(
    backbone: keras_hub.models.Backbone, targets: Sequence[str]
) -> dict[str, tuple[keras.Layer, ...]]:
    """Finds the linear layers that targets name.

    Args:
        backbone: A KerasHub backbone of a family in `decoders.FAMILIES`.
        targets: Each a module of transformers or the end of its name (`q_proj`,
            `self_attn.q_proj`), a layer of KerasHub (`query`), a role (`attention`, `mlp`), or
            `all-linear`.

    Returns:
        By the name of the module, those of its Keras layers that are named: all of them, but where
        transformers fuses several and a target is one of them.

    Raises:
        RecipeError: A target that names nothing.
    """
    modules = decoders.modules(backbone)
    layers = [(name, layer) for name, module in modules.items() for layer in module.layers]
    chosen = set()
    for target in targets:
        named = {id(layer) for name, layer in layers if _names(target, name, layer)}
        if not named:
            raise RecipeError(
                f"LoRA target '{target}' matches no layer of this model",
                where="model.lora.targets",
                fix=f"use {_listed(modules)}",
            )
        chosen |= named
    found = {}
    for name, layer in layers:
        if id(layer) in chosen:
            found[name] = (*found.get(name, ()), layer)
    return found


def find_whole(backbone: keras_hub.models.Backbone, train: Sequence[str]) -> list[str]:
    """Finds the tensors of layers that train whole.

    Args:
        backbone: A KerasHub backbone of a family in `decoders.FAMILIES`.
        train: Each `norm` (all norms), `embeddings`, or what `find_targets` takes.

    Returns:
        Names of `decoders.tensors(backbone)`.

    Raises:
        RecipeError: An entry that names nothing.
    """
    tensors = decoders.tensors(backbone)
    linear = decoders.modules(backbone)
    holders = dict.fromkeys(module_of(name) for name in tensors)
    found = {}
    for entry in train:
        if entry == "norm":
            chosen = [name for name in holders if name not in linear and not _is_embedding(name)]
        elif entry == "embeddings":
            chosen = [name for name in holders if _is_embedding(name)]
        else:
            chosen = [name for name in holders if ends_with(name, entry)]
        if not chosen:
            ends = dict.fromkeys(_end(name) for name in holders)
            raise RecipeError(
                f"'{entry}' matches no layer of this model to train in full",
                where="model.lora.train",
                fix=f"use norm, embeddings or one of these: {', '.join(ends)}",
            )
        found.update(dict.fromkeys(chosen))
    return [name for name in tensors if module_of(name) in found]


def ends_with(name: str, end: str) -> bool:
    """Returns whether a module's name is `end`, or ends with its parts: PEFT's rule."""
    return name == end or name.endswith(f".{end}")


def module_of(tensor: str) -> str:
    """Returns the name of the module that holds a tensor."""
    return tensor.rpartition(".")[0]


def _names(target: str, name: str, layer: keras.Layer) -> bool:
    role = _ROLES.get(target, ())
    return (
        target in (ALL_LINEAR, layer.name)
        or ends_with(name, target)
        or ends_with(name, _SYNONYMS.get(target, target))
        or any(part in role for part in name.split("."))
    )


def _listed(modules: dict) -> str:
    names = dict.fromkeys(_end(name) for name in modules)
    keras_names = dict.fromkeys(layer.name for each in modules.values() for layer in each.layers)
    return (
        f"{ALL_LINEAR}, {', '.join(_ROLES)}, a module of transformers ({', '.join(names)}) or a "
        f"layer of KerasHub ({', '.join(keras_names)})"
    )


def _end(name: str) -> str:
    return name.rpartition(".")[2]


def _is_embedding(name: str) -> bool:
    return _end(name) in _EMBEDDINGS
