"""The section of a recipe on a pretrained encoder, the same for each task that has one."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, ValidationInfo, field_validator

from kerasllm.recipe.lora import Lora
from kerasllm.recipe.schema import refusal
from kerasllm.recipe.types import Location, PublicKeys, Section, Share, WholeNumber


class EncoderModel(Section):
    """Which pretrained model, and how much of it trains."""

    preset: Location = Field(
        "minilm_l6_en_uncased",
        description="name in `kerasllm presets list`, hf://, kaggle://, pypi://, folder, run",
    )
    dropout: Share = Field(0.1, description="every dropout of the model")
    head_dropout: Share | None = Field(
        None, description="dropout before the last layer; null: as dropout"
    )
    freeze: Literal["backbone"] | WholeNumber = Field(
        0, description="N: embeddings and N lowest layers; backbone: all but the head"
    )
    lora: Lora | None = Field(
        None,
        description="low-rank adaptation, {rank, alpha, dropout, rank_stabilized, dora, targets, "
        "train}; null: none",
    )
    trust: PublicKeys | None = Field(
        None,
        description="trusted public keys that must have signed preset; null: those of "
        "KERASLLM_TRUST",
    )

    @field_validator("lora")
    @classmethod
    def _lora_needs_a_backbone(cls, lora: Lora | None, info: ValidationInfo) -> Lora | None:
        if lora and info.data.get("freeze") == "backbone":
            raise refusal(
                "freeze: backbone leaves lora no layers to adapt",
                "remove model.lora, or set model.freeze to 0",
            )
        return lora

    def of_build(self) -> dict[str, Any]:
        """Returns the keys that `kerasllm.models.encoder.build_task` takes, as it takes them."""
        names = {"dropout", "head_dropout", "freeze", "lora"}
        return self.model_dump(include=names)
