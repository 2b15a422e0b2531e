"""The part of a recipe that says how the weights are trained, and where."""

from __future__ import annotations

import difflib
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationInfo, field_validator

from kerasllm.errors import CommandError
from kerasllm.recipe.schema import refusal
from kerasllm.recipe.sizes import bytes_of
from kerasllm.recipe.strategy_names import EXPECTED as EXPECTED_STRATEGIES
from kerasllm.recipe.strategy_names import check_name
from kerasllm.recipe.types import Count, NotNegative, Positive, Section, Share, Text

TRACKERS = ("tensorboard", "mlflow", "wandb", "trackio")
"""The trackers of experiments that `track` names."""

_GPU_MEMORY = ("growth", "all")
_TRACKER_WORDS = f"{', '.join(TRACKERS[:-1])} or {TRACKERS[-1]}"


class EarlyStopping(Section):
    """Stop when validation no longer gets better, and restore the best weights."""

    patience: Count = Field(2, description="evaluations without a better value before it stops")
    metric: Literal["loss"] = Field("loss", description="validation metric that is monitored")
    min_delta: NotNegative = Field(0.0, description="smallest change that counts as better")


class Training(Section):
    """How the weights are trained."""

    epochs: Count = Field(1, description="passes over the training data")
    max_steps: Count | None = Field(
        None, description="total number of steps after which training stops; null: all epochs"
    )
    batch_size: Count = Field(32, description="examples per optimizer step, over all devices")
    accumulate: Count = Field(1, description="micro-batches per batch, to save memory")
    optimizer: Literal[
        "adamw", "adam", "sgd", "rmsprop", "adagrad", "adafactor", "lamb", "lion", "muon"
    ] = Field("adamw", description="update rule")
    learning_rate: Positive = Field(
        5e-5, description="peak learning rate, at the end of the warm-up"
    )
    weight_decay: NotNegative = Field(
        0.01, description="decay of the weights, except biases and norms"
    )
    layer_decay: Annotated[float, Field(gt=0, le=1), "a number above 0, 1 at most"] = Field(
        1.0, description="learning rate of a layer relative to the one above it"
    )
    schedule: Literal["linear", "cosine", "polynomial", "constant", "inverse_sqrt"] = Field(
        "linear", description="learning rate after warm-up"
    )
    power: Positive = Field(2.0, description="exponent of the polynomial schedule")
    warmup: NotNegative = Field(
        0.1, description="warm-up steps of the learning rate; below 1: their share of all steps"
    )
    clip_norm: Positive | None = Field(
        1.0, description="maximum global norm of the gradients; null: no limit"
    )
    label_smoothing: Share = Field(0.0, description="share of the target spread over all labels")
    l2: NotNegative = Field(
        0.0, description="L2 penalty: factor of the squared weights in the loss"
    )
    early_stopping: EarlyStopping | None = Field(
        None, description="{patience, metric, min_delta}; null: train to the end"
    )
    evaluate_every: Literal["epoch"] | Count = Field(
        "epoch", description="epoch, or a number of steps"
    )
    ema: Annotated[float, Field(gt=0, lt=1), "a number between 0 and 1"] | None = Field(
        None, description="momentum of the exponential moving average of the weights; null: none"
    )
    precision: Literal["auto", "float32", "mixed_bfloat16", "mixed_float16", "bfloat16"] = Field(
        "auto", description="auto: the fastest on this device"
    )
    xla: Literal["auto"] | bool = Field(
        "auto",
        description="compile with XLA; auto: whole steps on GPU and TPU, element-wise work "
        "on a CPU",
    )
    max_shapes: Count = Field(32, description="maximum number of sequence lengths compiled by XLA")
    strategy: Annotated[str, "a strategy: " + EXPECTED_STRATEGIES] = Field(
        "auto",
        description="auto, one_device, mirrored, multi_worker, tpu, virtual:N or sharded; where "
        "replicas run",
    )
    communication: Literal["auto", "ring", "nccl"] = Field(
        "auto", description="how gradients are summed over replicas"
    )
    gpu_memory: Annotated[str, "growth, all, or a size such as 8GB"] = Field(
        "growth", description="memory of each GPU: growth: as needed; all; or a limit such as 8GB"
    )
    steps_per_execution: Count = Field(
        1, description="steps per call of the compiled training loop"
    )
    checkpoint_every: Count | None = Field(500, description="steps between checkpoints; null: none")
    checkpoint_minutes: Positive | None = Field(None, description="minutes between checkpoints")
    keep_checkpoints: Count = Field(
        2, description="latest checkpoints to keep, in addition to the best"
    )
    on_nan: Literal["stop", "skip"] = Field(
        "stop", description="what to do when the loss or a gradient is not finite"
    )
    seed: Annotated[int, Field(ge=0, lt=2**32), "a whole number from 0 to 4294967295"] = Field(
        0, description="for new weights, the order of examples, dropout and validation_split"
    )
    log_every: Count = Field(10, description="steps between log lines")
    track: (
        Annotated[
            Text | Annotated[list[Text], Field(min_length=1)],
            f"{_TRACKER_WORDS}, or a list of these",
        ]
        | None
    ) = Field(None, description=f"where metrics are sent: {_TRACKER_WORDS}, a list; null: nowhere")

    @field_validator("accumulate")
    @classmethod
    def _batch_can_be_cut(cls, accumulate: int, info: ValidationInfo) -> int:
        batch_size = info.data.get("batch_size", accumulate)
        if batch_size % accumulate:
            raise refusal(
                f"a batch_size of {batch_size} cannot be cut into {accumulate} equal micro-batches",
                "make training.batch_size a multiple of training.accumulate",
            )
        return accumulate

    @field_validator("early_stopping", mode="before")
    @classmethod
    def _early_stopping_names_something(cls, stopping: Any) -> Any:
        if stopping == {}:
            raise refusal("names no key", "write {patience: 2}, or null")
        return stopping

    @field_validator("warmup")
    @classmethod
    def _warmup_steps_are_whole(cls, warmup: float) -> float:
        if warmup >= 1 and warmup != int(warmup):
            raise refusal(
                f"{warmup} is neither a share of all steps, below 1, nor a whole number of steps"
            )
        return warmup

    @field_validator("strategy")
    @classmethod
    def _strategy_is_known(cls, strategy: str) -> str:
        try:
            check_name(strategy)
        except CommandError as error:
            raise refusal(error.what, error.fix) from error
        return strategy

    @field_validator("gpu_memory")
    @classmethod
    def _gpu_memory_is_a_size(cls, memory: str) -> str:
        if memory not in _GPU_MEMORY and bytes_of(memory) is None:
            raise refusal(
                f"{memory!r} is not an amount of memory",
                "set training.gpu_memory to growth, all, or a size such as 8GB or 7.5GiB",
            )
        return memory

    @field_validator("track")
    @classmethod
    def _trackers_are_known(cls, track: str | list[str] | None) -> str | list[str] | None:
        for name in _listed(track):
            if name not in TRACKERS:
                near = difflib.get_close_matches(name, TRACKERS, n=1)
                fix = f"did you mean {near[0]}?" if near else f"name {_TRACKER_WORDS}"
                raise refusal(f"{name!r} is not a known tracker", fix)
        return track

    @property
    def trackers(self) -> list[str]:
        """The trackers that `track` names, each once."""
        return list(dict.fromkeys(_listed(self.track)))

    @property
    def gpu_memory_limit(self) -> str | int:
        """`"growth"`, `"all"`, or the bytes of the size that the recipe names."""
        return self.gpu_memory if self.gpu_memory in _GPU_MEMORY else bytes_of(self.gpu_memory)

    @field_validator("checkpoint_every")
    @classmethod
    def _python_sees_those_steps(cls, steps: int | None, info: ValidationInfo) -> int | None:
        size = info.data.get("steps_per_execution", 1)
        for key, every in (
            ("evaluate_every", info.data.get("evaluate_every")),
            ("checkpoint_every", steps),
        ):
            if isinstance(every, int) and every % size:
                raise refusal(
                    f"{key} {every} falls within an execution of {size} steps",
                    f"make {key} a multiple of training.steps_per_execution",
                )
        return steps

    @field_validator("precision")
    @classmethod
    def _optimizer_works_in_it(cls, precision: str, info: ValidationInfo) -> str:
        # Keras computes in the weights' dtype: steps below its 8 bits of precision are lost.
        optimizer = info.data.get("optimizer", "adamw")
        if precision == "bfloat16" and optimizer not in ("adamw", "adam"):
            raise refusal(
                f"{optimizer} does not learn in pure bfloat16",
                "set training.precision to mixed_bfloat16, or training.optimizer to adamw",
            )
        if precision == "bfloat16" and info.data.get("ema"):
            raise refusal(
                "ema cannot average weights that are bfloat16",
                "set training.precision to mixed_bfloat16, or training.ema to null",
            )
        return precision


def _listed(value: str | list[str] | None) -> list[str]:
    if value is None:
        return []
    return [value] if isinstance(value, str) else value


def needs_validation(training: Training, data: Any) -> Training:
    """Refuses early stopping where nothing is validated; for the validator of a whole recipe."""
    if training.early_stopping and data and not (data.validation or data.validation_split):
        raise refusal(
            "early_stopping monitors validation, but there is no validation data",
            "name data.validation, or set data.validation_split above 0",
            key="early_stopping",
        )
    return training
