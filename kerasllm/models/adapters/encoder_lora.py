"""Low-rank adapters for encoders with a head and for encoder-decoders.

They are small trainable matrices beside frozen kernels.
"""

from __future__ import annotations

from collections.abc import Sequence

import keras

from kerasllm.errors import RecipeError
from kerasllm.models.adapters.low_rank import LowRank, add_update, freeze, is_dense
from kerasllm.models.layers import parts_of, variables_of, walk

# What a target names, in each family's own layer names.
_ROLES = {
    "query": {"query", "q_dense_layer", "query_projector"},
    "key": {"key", "k_dense_layer", "key_projector"},
    "value": {"value", "v_dense_layer", "value_projector"},
    "output": {"attention_output", "o_dense_layer", "attention_output_projector"},
    "ffn": {
        "feedforward_intermediate_dense",
        "feedforward_output_dense",
        "intermediate_dense",
        "output_dense",
        "input_projector",
        "gate_projector",
        "output_projector",
        "gate_proj",
        "up_proj",
        "down_proj",
    },
}
_ROLES["attention"] = set().union(*(_ROLES[name] for name in ("query", "key", "value", "output")))
_ROLES["mlp"] = _ROLES["ffn"]
_ROLES["all-linear"] = _ROLES["attention"] | _ROLES["ffn"]
# The names that decoders of transformers have for them.
_ROLES |= {f"{name[0]}_proj": _ROLES[name] for name in ("query", "key", "value", "output")}


def add_lora(
    task: keras.Model,
    *,
    rank: int = 8,
    alpha: float = 16,
    dropout: float = 0.0,
    rank_stabilized: bool = False,
    dora: bool = False,
    targets: Sequence[str] = ("query", "value"),
    train: Sequence[str] = (),
    frozen_layers: int | str = 0,
    fresh_pooler: bool = False,
) -> None:
    """Adds low-rank adapters to a model's transformer layers, and freezes all other weights.

    Only the adapters and the head train: kernels, biases, norms and embeddings of the backbone do
    not. A layer that runs several times (ALBERT) has one adapter. The adapters are merged into
    the kernels when the task is saved.

    Args:
        task: A KerasHub `TextClassifier`, or another model with a `backbone`; changed in place.
        rank: Rank of the adapters. Defaults to `8`.
        alpha: The adapters' product is scaled by `alpha / rank`. Defaults to `16`.
        dropout: Dropout of what goes into the adapters. Defaults to `0.0`.
        rank_stabilized: Whether they are scaled by `alpha / sqrt(rank)`. Defaults to `False`.
        dora: Whether direction and magnitude train apart (DoRA). Defaults to `False`.
        targets: Each `query`, `key`, `value`, `output` (of the attention), `attention`, `ffn` or
            `mlp` (all layers of it), `all-linear`, their names in transformers (`q_proj`), a part
            of the name of a dense layer, or the layer that holds them (`cross_attention`). Defaults
            to `("query", "value")`.
        train: Further layers that train whole: `norm`, `embeddings`, or a part of the name of a
            layer. Defaults to `()`.
        frozen_layers: This many of the lowest layers get no adapter. Defaults to `0`.
        fresh_pooler: Whether the pooler is new: then it trains with the head. Defaults to `False`.

    Raises:
        RecipeError: A target or a layer to train that matches none, or layers that are all frozen.

    Reference:
        [LoRA](https://arxiv.org/abs/2106.09685).
    """
    parts = parts_of(task)
    blocks = parts.blocks
    if frozen_layers == "backbone" or frozen_layers >= len(blocks):
        raise RecipeError(
            "LoRA adapts layers that are frozen",
            where="model.lora",
            fix="remove model.lora, or freeze fewer layers",
        )
    dense = [layer for layer in walk(sum(blocks[frozen_layers:], ())) if is_dense(layer)]
    chosen = {}
    for target in targets:
        matched = [layer for layer in dense if _matches(target, layer)]
        if not matched:
            raise RecipeError(
                f"LoRA target '{target}' matches no layer of this model",
                where="model.lora.targets",
                fix=f"use parts of these names: {', '.join(dict.fromkeys(x.name for x in dense))}",
            )
        chosen.update({id(layer): layer for layer in matched})
    # By variable, not by layer: a layer that does not train would hold its adapter back too.
    new = {id(v) for layer in parts.pooler for v in layer.variables} if fresh_pooler else set()
    for variable in task.backbone.variables:
        variable.trainable = variable.trainable and id(variable) in new
    for variable in _whole(task, train):
        variable.trainable = True
    settings = LowRank(rank, alpha, dropout, rank_stabilized, dora)
    for number, layer in enumerate(chosen.values()):
        freeze(layer)
        add_update(layer, "adapter", settings, seed=number)


def _whole(task: keras.Model, train: Sequence[str]) -> list[keras.Variable]:
    """Returns the weights of the layers that train whole."""
    parts, found = parts_of(task), []
    inner = list(walk([task.backbone]))
    for entry in train:
        if entry == "norm":
            chosen = [layer for layer in inner if "Norm" in type(layer).__name__]
        elif entry == "embeddings":
            chosen = list(parts.embeddings)
        else:
            chosen = [layer for layer in inner if layer.weights and entry in layer.name]
        if not chosen:
            names = dict.fromkeys(layer.name for layer in inner if layer.weights)
            raise RecipeError(
                f"'{entry}' matches no layer of this model to train in full",
                where="model.lora.train",
                fix=f"use norm, embeddings or parts of these names: {', '.join(names)}",
            )
        found += variables_of(chosen)
    return found


def _matches(target: str, layer: keras.Layer) -> bool:
    *holders, name = layer.path.split("/")
    if name == "output_projector" and holders and holders[-1].endswith("attention"):
        # T5 calls the last layers of the attention and of the feed-forward part the same.
        name = "attention_output_projector"
    if target in _ROLES:
        return name in _ROLES[target]
    return target in name or target in holders
