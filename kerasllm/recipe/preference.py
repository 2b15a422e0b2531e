"""The recipe of preference tuning: answers that are chosen against answers that are rejected."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, ValidationInfo, field_validator

from kerasllm.recipe.causal_lm import CausalModel, CausalTraining, needs_validation
from kerasllm.recipe.schema import WholeRecipe, refusal
from kerasllm.recipe.types import Count, Files, NotNegative, Positive, Section, Share, Text


class PreferenceData(Section):
    """Which pairs of answers are read, and what they become."""

    train: Files = Field(
        description="jsonl, json, parquet with prompt, chosen, rejected: file, glob, list or "
        "starter:NAME"
    )
    validation: Files | None = Field(
        None, description="as train; null: a part of train (validation_split)"
    )
    test: Files | None = Field(None, description="as train; measured once, at the end; null: none")
    validation_split: Share = Field(0.1, description="part of train's pairs to hold out")
    max_length: Annotated[int, Field(ge=4, le=1 << 20), "a whole number from 4 to 1048576"] = Field(
        256, description="most tokens of a prompt with an answer"
    )
    buckets: Count = Field(16, description="most sequence lengths that batches are padded to")
    chat_template: Text = Field(
        "auto", description="auto: the model's own; chatml, llama3, gemma, mistral, plain or a file"
    )
    system: Text | None = Field(
        None, description="system message of conversations that have none; null: none"
    )
    too_long: Literal["cut", "drop"] = Field(
        "cut", description="what becomes of pairs above max_length"
    )
    on_bad_row: Literal["error", "skip"] = Field(
        "error", description="what a row that cannot be used does to the run"
    )


class PreferenceEarlyStopping(Section):
    """Stop when validation no longer gets better, and restore the best weights."""

    patience: Count = Field(2, description="evaluations without a better value before it stops")
    metric: Literal["loss", "accuracy", "margin"] = Field(
        "loss", description="metric that is watched"
    )
    min_delta: NotNegative = Field(0.0, description="smallest change that counts as better")


class PreferenceTraining(CausalTraining):
    """How a language model is tuned to prefer."""

    beta: Positive = Field(
        0.1, description="how dear it is to move away from the model as it was; lower: moves more"
    )
    loss: Literal["sigmoid", "ipo", "hinge"] = Field(
        "sigmoid", description="of the margin: sigmoid is DPO; ipo; hinge is SLiC's"
    )
    label_smoothing: Annotated[float, Field(ge=0, lt=0.5), "a number from 0 to below 0.5"] = Field(
        0.0, description="share of pairs that are thought to be the wrong way round; sigmoid only"
    )
    early_stopping: PreferenceEarlyStopping | None = Field(
        None, description="{patience, metric, min_delta}; null: train to the end"
    )

    @field_validator("loss")
    @classmethod
    def _wrong_pairs_are_of_sigmoid(cls, loss: str, info: ValidationInfo) -> str:
        if loss != "sigmoid" and info.data.get("label_smoothing"):
            raise refusal(
                f"{loss} does not know of pairs that are the wrong way round",
                "set training.loss to sigmoid, or training.label_smoothing to 0",
            )
        return loss


class PreferenceRecipe(WholeRecipe):
    """What a run does that tunes a causal language model by preferences."""

    task: Literal["preference"] = Field(description="what the model learns")
    model: CausalModel = Field(description="the model, and how much of it trains")
    data: PreferenceData = Field(
        description="paths are relative to the folder that the command runs in"
    )
    training: PreferenceTraining = Field(
        PreferenceTraining(), description="how the weights are trained"
    )

    @field_validator("model")
    @classmethod
    def _begins_with_a_model(cls, model: CausalModel) -> CausalModel:
        if model.preset is None:
            raise refusal(
                "a new model has no answers yet that could be preferred",
                "name a model that was tuned on conversations, or the model/ folder of such a run",
                key="preset",
            )
        return model

    @field_validator("training")
    @classmethod
    def _early_stopping_needs_validation(cls, training, info: ValidationInfo):
        return needs_validation(training, info.data.get("data"))
