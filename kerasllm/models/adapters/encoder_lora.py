"""Low-rank adapters for classifiers: small trainable matrices beside frozen kernels."""

from __future__ import annotations

from collections.abc import Sequence

import keras

from kerasllm.errors import RecipeError
from kerasllm.models.adapters.low_rank import LowRank, add_update, freeze, is_dense
from kerasllm.models.layers import parts_of, walk

# What a target names, in each family's own layer names.
_ROLES = {
    "query": {"query", "q_dense_layer"},
    "key": {"key", "k_dense_layer"},
    "value": {"value", "v_dense_layer"},
    "output": {"attention_output", "o_dense_layer"},
    "ffn": {
        "feedforward_intermediate_dense",
        "feedforward_output_dense",
        "intermediate_dense",
        "output_dense",
    },
}


def add_lora(
    task: keras.Model,
    *,
    rank: int = 8,
    alpha: float = 16,
    targets: Sequence[str] = ("query", "value"),
    frozen_layers: int | str = 0,
    fresh_pooler: bool = False,
) -> None:
    """Adds low-rank adapters to a classifier's transformer layers, and stills all other weights.

    Only the adapters and the head train: kernels, biases, norms and embeddings of the backbone do
    not. A layer that runs several times (ALBERT) has one adapter. The adapters are merged into
    the kernels when the task is saved.

    Args:
        task: A KerasHub `TextClassifier`; changed in place.
        rank: Rank of the adapters. Defaults to `8`.
        alpha: The adapters' product is scaled by `alpha / rank`. Defaults to `16`.
        targets: Each `query`, `key`, `value`, `output` (of the attention), `ffn` (both layers of
            it), or a part of the name of a dense layer. Defaults to `("query", "value")`.
        frozen_layers: This many of the lowest layers get no adapter. Defaults to `0`.
        fresh_pooler: Whether the pooler is new: then it trains with the head. Defaults to `False`.

    Raises:
        RecipeError: A target that matches no layer, or layers that are all frozen.

    Reference:
        [LoRA](https://arxiv.org/abs/2106.09685).
    """
    parts = parts_of(task)
    blocks = parts.blocks
    if frozen_layers == "backbone" or frozen_layers >= len(blocks):
        raise RecipeError(
            "LoRA trains layers that freeze keeps as they are",
            where="model.lora",
            fix="remove model.lora, or freeze fewer layers",
        )
    dense = [layer for layer in walk(sum(blocks[frozen_layers:], ())) if is_dense(layer)]
    chosen = {}
    for target in targets:
        matched = [layer for layer in dense if _matches(target, layer.name)]
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
    for number, layer in enumerate(chosen.values()):
        freeze(layer)
        add_update(layer, "adapter", LowRank(rank, alpha), seed=number)


def _matches(target: str, name: str) -> bool:
    return name in _ROLES[target] if target in _ROLES else target in name
