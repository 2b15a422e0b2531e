"""The section of a recipe on how a trained encoder-decoder generates."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, ValidationInfo, field_validator

from kerasllm.recipe.schema import refusal
from kerasllm.recipe.types import Count, NotNegative, Positive, Section, WholeNumber

EarlyStop = Annotated[bool | Literal["never"], "true, false or never"]


class Generation(Section):
    """How texts are generated: by evaluation while it trains and later, predict, serve, exports.

    The keys are fields of `kerasllm.generation.GenerationSettings`, which they become.
    """

    beams: Count = Field(4, description="beams of beam search; 1: greedy, or sampling")
    length_penalty: Annotated[float, "a number"] = Field(
        1.0, description="exponent of the length that divides a beam's score; higher: longer texts"
    )
    early_stopping: EarlyStop = Field(
        True,
        description="true: when as many texts as beams have ended; false: if no better one is "
        "likely; never: if none is possible",
    )
    max_new_tokens: Count = Field(128, description="maximum tokens of a text")
    max_length_ratio: Positive | None = Field(
        None, description="maximum tokens per source token; null: max_new_tokens alone"
    )
    max_length_extra: WholeNumber = Field(
        10, description="tokens allowed beyond max_length_ratio x the source"
    )
    min_new_tokens: WholeNumber = Field(0, description="minimum tokens of a text")
    no_repeat_ngram_size: WholeNumber = Field(
        0, description="n-grams of this length appear once in a text; 0: no limit"
    )
    repetition_penalty: Positive = Field(1.0, description="above 1: fewer repeated tokens")
    temperature: NotNegative | None = Field(
        None, description="temperature of sampling, with 1 beam; null: the most likely text"
    )
    top_k: Count | None = Field(None, description="sample from this many most likely tokens")
    top_p: Annotated[float, Field(gt=0, le=1), "a number above 0, 1 at most"] | None = Field(
        None, description="sample from the most likely tokens up to this total probability"
    )
    seed: WholeNumber = Field(0, description="seed of the sampling")

    @field_validator("temperature", "top_k", "top_p")
    @classmethod
    def _beams_do_not_sample(cls, value: float | None, info: ValidationInfo) -> float | None:
        if value and info.data.get("beams", 1) > 1:
            raise refusal(
                f"{info.field_name} samples, and beam search takes the most likely texts",
                f"set generation.beams to 1, or generation.{info.field_name} to null",
            )
        return value
