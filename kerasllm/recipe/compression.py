"""The recipes of smaller models: quantized, pruned, distilled; and what quality that may cost."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, ValidationInfo, field_validator

from kerasllm.recipe.schema import WholeRecipe, refusal
from kerasllm.recipe.types import Count, Layers, Location, NotNegative, Positive, Section, Share

METHODS = ("int8", "int4", "gptq", "awq", "prune", "distill")
"""What `kerasllm compress --method` takes; the recipe of each is `compress_METHOD`."""

_LIMIT = "largest share of the quality that may be lost: accuracy, micro F1, Pearson or loss"


class Quantization(Section):
    """How weights are brought to fewer bits."""

    method: Literal["int8", "int4", "gptq", "awq"] = Field(
        "int8", description="8 bits; 4 bits; 4 bits calibrated on training data"
    )
    embeddings: Literal["int8", "int4", "none"] = Field(
        "int8", description="of token embeddings; none: as they are"
    )
    group_size: Count = Field(128, description="weights that share a scale; not for int8")
    rows: Count = Field(128, description="training examples for the calibration of gptq and awq")


class Pruning(Section):
    """Which weights become 0, and when."""

    sparsity: Annotated[float, Field(gt=0, lt=1), "a number between 0 and 1"] = Field(
        0.5, description="final share of zero weights in the kernels"
    )
    scope: Literal["global", "layer"] = Field(
        "global", description="global: the smallest weights of all kernels; layer: of each kernel"
    )
    embeddings: bool = Field(False, description="prune the token embeddings as well")
    schedule: Literal["cubic", "linear", "once"] = Field(
        "cubic",
        description="how sparsity increases; cubic: fast at first; once: all in the first step",
    )
    begin: Share = Field(0.0, description="share of the training before the first pruning")
    end: Annotated[float, Field(gt=0, le=1), "a number above 0, 1 at most"] = Field(
        0.6, description="share of the training after which nothing more is pruned"
    )
    every: Count = Field(10, description="steps of fine-tuning between two prunings")

    @field_validator("end")
    @classmethod
    def _ends_after_it_begins(cls, end: float, info: ValidationInfo) -> float:
        if end <= info.data.get("begin", 0):
            raise refusal(f"{end} is not after pruning.begin, which is {info.data['begin']}")
        return end


class Student(Section):
    """The model that learns from the run's."""

    layers: Layers = Field(3, description="transformer layers, taken from the teacher")
    start: Literal["even", "first"] = Field(
        "even", description="teacher layers it is initialized from: spread evenly, or the lowest"
    )
    preset: Location | None = Field(
        None, description="a pretrained model in place of the teacher's layers; null: none"
    )
    dropout: Share = Field(0.1, description="every dropout of the student")


class Distillation(Section):
    """What the student learns from, each with its weight in the loss."""

    labels: NotNegative = Field(1.0, description="weight of the loss on the labels")
    logits: NotNegative = Field(1.0, description="weight of the loss on the teacher's logits")
    temperature: Positive = Field(2.0, description="temperature of both softmax distributions")
    hidden: NotNegative = Field(1.0, description="weight of the loss on hidden states; 0: none")
    hidden_loss: Literal["mse", "cosine"] = Field(
        "mse", description="how hidden states are compared, layer by layer"
    )

    @field_validator("hidden")
    @classmethod
    def _learns_from_something(cls, hidden: float, info: ValidationInfo) -> float:
        if not (hidden or info.data.get("logits", 1)):
            raise refusal(
                "both distillation losses are 0",
                "set distillation.logits or distillation.hidden above 0",
            )
        return hidden


class Retraining(Section):
    """How the weights are trained: the run's recipe says the rest."""

    epochs: Count = Field(3, description="passes over the training data")
    batch_size: Count = Field(32, description="examples per optimizer step")
    optimizer: Literal[
        "adamw", "adam", "sgd", "rmsprop", "adagrad", "adafactor", "lamb", "lion", "muon"
    ] = Field("adamw", description="update rule")
    learning_rate: Positive = Field(
        1e-4, description="peak learning rate, at the end of the warm-up"
    )
    weight_decay: NotNegative = Field(
        0.01, description="decay of the weights, except biases and norms"
    )
    schedule: Literal["linear", "cosine", "constant", "inverse_sqrt"] = Field(
        "linear", description="learning rate after warm-up"
    )
    warmup: Share = Field(0.1, description="share of all steps in which the learning rate rises")
    clip_norm: Positive | None = Field(
        1.0, description="maximum global norm of the gradients; null: no limit"
    )
    precision: Literal["auto", "float32", "mixed_bfloat16", "mixed_float16"] = Field(
        "auto", description="auto: the fastest on this device"
    )
    seed: Annotated[int, Field(ge=0, lt=2**32), "a whole number from 0 to 4294967295"] = Field(
        0, description="for the order of examples and dropout"
    )
    log_every: Count = Field(10, description="steps between log lines")


class QuantizationRecipe(WholeRecipe):
    """What quantizes the weights of a trained model."""

    task: Literal["quantization"] = Field(description="makes a model with fewer bits")
    limit: Share = Field(0.02, description=_LIMIT)
    quantization: Quantization = Field(Quantization(), description="the number format")


class PruningRecipe(WholeRecipe):
    """What sets the smallest weights of a trained model to 0."""

    task: Literal["pruning"] = Field(description="makes a model with many zeros")
    limit: Share = Field(0.02, description=_LIMIT)
    pruning: Pruning = Field(Pruning(), description="which weights are pruned, and when")
    training: Retraining = Field(Retraining(), description="the fine-tuning between prunings")


class DistillationRecipe(WholeRecipe):
    """What teaches a smaller model what a trained one knows."""

    task: Literal["distillation"] = Field(description="makes a model with fewer layers")
    limit: Share = Field(0.04, description=_LIMIT)
    student: Student = Field(Student(), description="the smaller model")
    distillation: Distillation = Field(Distillation(), description="the distillation losses")
    training: Retraining = Field(Retraining(), description="how the student is trained")


CompressionRecipe = QuantizationRecipe | PruningRecipe | DistillationRecipe

RECIPES: dict[str, type[WholeRecipe]] = {
    "quantization": QuantizationRecipe,
    "pruning": PruningRecipe,
    "distillation": DistillationRecipe,
}
"""The schema of each kind of recipe of `kerasllm compress`."""
