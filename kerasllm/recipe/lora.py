"""The section of a recipe on low-rank adaptation, the same for encoders and decoders."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field

from kerasllm.recipe.types import Count, Positive, Section, Share, Text


class Lora(Section):
    """Low-rank adaptation: two thin matrices train beside each target (Hu et al., 2021,
    https://arxiv.org/abs/2106.09685)."""

    rank: Count = Field(8, description="rank of the update matrices; higher can learn more")
    alpha: Positive = Field(16.0, description="the update is scaled by alpha / rank")
    dropout: Share = Field(0.0, description="dropout on the input of the update")
    rank_stabilized: bool = Field(False, description="scale by alpha / sqrt(rank)")
    dora: bool = Field(False, description="train direction and magnitude separately (DoRA)")
    targets: Annotated[list[Text], Field(min_length=1), "a list of layer names"] = Field(
        ["query", "value"],
        description="layers to adapt: query, key, value, output, ffn, attention, mlp, "
        "all-linear, or names",
    )
    train: Annotated[list[Text], "a list of layer names"] = Field(
        [], description="other layers to train in full, e.g. norm or embeddings"
    )


# The roles of layers that recipes named as transformers does.
_ROLES = {"q_proj": "query", "k_proj": "key", "v_proj": "value"}


def same_lora(one: Any, other: Any) -> bool:
    """Returns whether two sections, as dicts or `None`, mean the same layers and settings."""
    if not (isinstance(one, dict) and isinstance(other, dict)):
        return one == other
    one, other = (
        {**each, "targets": [_ROLES.get(name, name) for name in each.get("targets") or ()]}
        for each in (one, other)
    )
    return one == other
