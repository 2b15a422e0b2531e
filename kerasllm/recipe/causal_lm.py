"""The recipe of a causal language model: from scratch, on text, or on conversations."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, ValidationInfo, field_validator

from kerasllm.recipe.schema import WholeRecipe, refusal
from kerasllm.recipe.training import Training
from kerasllm.recipe.types import (
    Count,
    Files,
    NotNegative,
    Positive,
    Section,
    Share,
    Text,
    WholeNumber,
)


class Adapter(Section):
    """Low-rank adaptation (Hu et al., 2021, https://arxiv.org/abs/2106.09685)."""

    rank: Count = Field(8, description="width of the two matrices; more can learn more")
    alpha: Positive = Field(16.0, description="the update is scaled by alpha / rank")
    dropout: Share = Field(0.0, description="dropout of what goes into the update")
    rank_stabilized: bool = Field(False, description="scale by alpha / sqrt(rank)")
    dora: bool = Field(False, description="train direction and magnitude apart (DoRA)")
    targets: Annotated[list[Text], Field(min_length=1), "a list of layer names"] = Field(
        ["q_proj", "v_proj"],
        description="layers that get one: names, attention, mlp, all-linear",
    )
    train: Annotated[list[Text], "a list of layer names"] = Field(
        [], description="further layers that train whole, as norm or embeddings"
    )


class CausalModel(Section):
    """Which model, and how much of it trains."""

    preset: Text | None = Field(
        None,
        description="name in `kerasllm presets list`, hf://, pypi://, folder, .gguf; null: a new "
        "GPT-2",
    )
    layers: Count = Field(6, description="transformer layers of a new model")
    heads: Count = Field(6, description="attention heads of each layer of a new model")
    width: Count = Field(384, description="width of a new model, a multiple of heads")
    feedforward: Count | None = Field(None, description="of a new model; null: 4 x width")
    dropout: Share = Field(0.0, description="every dropout of the model")
    freeze: WholeNumber = Field(0, description="N: embeddings and N lowest layers do not train")
    lora: Adapter | None = Field(
        None,
        description="low-rank adaptation, {rank, alpha, dropout, rank_stabilized, dora, targets, "
        "train}; null: none",
    )
    quantize: Literal["int8", "int4"] | None = Field(
        None, description="bits of the kernels below an adapter; null: as they are"
    )
    adapter: Text | None = Field(
        None, description="folder of a PEFT adapter to go on with; null: none"
    )

    @field_validator("width")
    @classmethod
    def _heads_divide_it(cls, width: int, info: ValidationInfo) -> int:
        heads = info.data.get("heads", 1)
        if info.data.get("preset") is None and width % heads:
            raise refusal(f"{heads} heads do not divide a width of {width}")
        return width

    @field_validator("lora")
    @classmethod
    def _an_adapter_stands_on_weights(cls, lora: Adapter | None, info: ValidationInfo):
        if lora and "preset" in info.data and info.data["preset"] is None:
            raise refusal(
                "a new model has no weights that an adapter could stand on",
                "name model.preset, or remove model.lora",
            )
        return lora

    @field_validator("quantize")
    @classmethod
    def _only_below_an_adapter(cls, quantize: str | None, info: ValidationInfo) -> str | None:
        if quantize and info.data.get("lora") is None:
            raise refusal(
                "weights that train cannot be quantized",
                "set model.lora, as {rank: 8}, or remove model.quantize",
            )
        return quantize

    @field_validator("adapter")
    @classmethod
    def _one_adapter(cls, adapter: str | None, info: ValidationInfo) -> str | None:
        if adapter and info.data.get("lora"):
            raise refusal(
                "model.lora makes a new adapter, and model.adapter goes on with one",
                "remove one of the two",
            )
        if adapter and "preset" in info.data and info.data["preset"] is None:
            raise refusal("an adapter stands on a pretrained model", "name model.preset")
        return adapter


class CausalData(Section):
    """Which texts or conversations are read, and what they become."""

    train: Files = Field(
        description="txt, md, folder of them, jsonl, parquet, csv: file, glob, list or starter:NAME"
    )
    validation: Files | None = Field(
        None, description="as train; null: a part of train (validation_split)"
    )
    test: Files | None = Field(None, description="as train; measured once, at the end; null: none")
    format: Literal["auto", "text", "messages", "prompt_completion", "alpaca", "sharegpt"] = Field(
        "auto", description="what a row looks like; auto: by its keys"
    )
    text: Text | None = Field(None, description="column of the texts; null: found by common names")
    validation_split: Share = Field(
        0.1, description="part of train to hold out: of a text its end, of conversations any"
    )
    vocabulary_size: Annotated[int, Field(ge=257, lt=2**31), "a whole number, 257 or more"] = Field(
        4096, description="tokens of the tokenizer that a new model gets, trained on its text"
    )
    max_length: Annotated[int, Field(ge=4, le=1 << 20), "a whole number from 4 to 1048576"] = Field(
        256, description="tokens of a row: a block of text, a pack of conversations"
    )
    packing: Literal["auto"] | bool = Field(
        "auto", description="fill rows with several texts that do not see each other"
    )
    buckets: Count = Field(16, description="most sequence lengths that batches are padded to")
    chat_template: Text = Field(
        "auto", description="auto: the model's own; chatml, llama3, gemma, mistral, plain or a file"
    )
    system: Text | None = Field(
        None, description="system message of conversations that have none; null: none"
    )
    train_on_prompt: bool = Field(False, description="learn what users say as well")
    too_long: Literal["cut", "drop", "split"] = Field(
        "cut", description="what becomes of conversations above max_length"
    )
    on_bad_row: Literal["error", "skip"] = Field(
        "error", description="what a row that cannot be used does to the run"
    )


class CausalEarlyStopping(Section):
    """Stop when validation no longer gets better, and restore the best weights."""

    patience: Count = Field(2, description="evaluations without a better value before it stops")
    metric: Literal["loss", "accuracy"] = Field("loss", description="metric that is watched")
    min_delta: NotNegative = Field(0.0, description="smallest change that counts as better")


class CausalTraining(Training):
    """How a language model is trained."""

    early_stopping: CausalEarlyStopping | None = Field(
        None, description="{patience, metric, min_delta}; null: train to the end"
    )
    rematerialize: bool = Field(
        False, description="compute layers again in the backward pass, for memory"
    )
    loss_tokens: Count | None = Field(
        None, description="tokens whose logits are in memory at once; null: 128 MB of them"
    )
    sample_every: Literal["epoch"] | Count | None = Field(
        None, description="how often the model writes samples: epoch, steps; null: never"
    )
    sample_prompts: Annotated[list[Annotated[str, "a text"]], "a list of texts"] = Field(
        [""], description="what samples begin with"
    )
    sample_tokens: Count = Field(60, description="tokens of a sample")


class CausalRecipe(WholeRecipe):
    """What a run does that trains a causal language model."""

    task: Literal["causal_lm"] = Field(description="what the model learns")
    model: CausalModel = Field(CausalModel(), description="the model, and how much of it trains")
    data: CausalData = Field(description="paths are relative to the folder that the command runs in")
    training: CausalTraining = Field(CausalTraining(), description="how the weights are trained")

    @field_validator("training")
    @classmethod
    def _early_stopping_needs_validation(cls, training, info: ValidationInfo):
        return needs_validation(training, info.data.get("data"))


def needs_validation(training: Training, data: Section | None) -> Training:
    """Refuses early stopping where nothing is validated."""
    if training.early_stopping and data and not (data.validation or data.validation_split):
        raise refusal(
            "early_stopping watches validation, and there is no validation data",
            "name data.validation, or set data.validation_split above 0",
            key="early_stopping",
        )
    return training
