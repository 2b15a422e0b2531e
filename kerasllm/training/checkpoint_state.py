"""The content of a checkpoint's state, and its validation.

The checksums of a checkpoint find damage. Anyone who forges its files forges those too: what is
read is therefore what kerasllm writes, or the checkpoint is not used.
"""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

_Count = Annotated[int, Field(ge=0, lt=1 << 62)]
_Above0 = Annotated[float, Field(gt=0)]


class _Part(BaseModel):
    # Of other versions there may be more, which nothing here reads.
    model_config = ConfigDict(strict=True, extra="allow")


class _SinceRow(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid")

    losses: list[float] = []
    tokens: _Count = 0
    seconds: float = 0.0
    input_seconds: float = 0.0


class _Monitor(_Part):
    steps: _Count
    seconds: _Above0
    real_tokens: _Count
    processed_tokens: Annotated[int, Field(gt=0, lt=1 << 62)]
    skipped: _Count = 0
    last_step: dict[str, float]
    epoch_metrics: dict[str, float]
    since_row: _SinceRow
    metric_sums: dict[str, Annotated[list[float], Field(min_length=2, max_length=2)]] | None = None


class _Log(_Part):
    rows: _Count


class _Guard(_Part):
    in_a_row: _Count


class _Validation(_Part):
    best_step: _Count | None
    result: dict[str, Any] | None
    steps: _Count = Field(alias="_steps")
    validated_at: _Count | None = Field(alias="_validated_at")
    best: float | None = Field(alias="_best")
    waited: _Count = Field(alias="_waited")


class _Holders(_Part):
    monitor: _Monitor
    log: _Log
    guard: _Guard
    validation: _Validation | None = None


class _Training(_Part):
    epochs: _Count
    max_steps: _Count | None = None


class _Recipe(_Part):
    model: dict[str, Any]
    data: dict[str, Any]
    training: _Training


class _State(_Part):
    recipe: _Recipe
    data: dict[str, str]
    precision: str
    xla: bool = False
    fused: bool | None = None
    slices: Annotated[int, Field(ge=1, lt=1 << 31)] = 1
    steps_per_epoch: Annotated[int, Field(ge=1, lt=1 << 62)]
    frozen: str
    epoch_ended: bool
    states: _Holders


def problem_of(state: Any) -> str | None:
    """Returns what is wrong with the state of a training's checkpoint; `None`: nothing is."""
    try:
        monitor = _State.model_validate(state).states.monitor
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"])) or "it"
        return f"contains something that kerasllm does not write: {place}: {first['msg'][:200]}"
    since, last = monitor.since_row, monitor.last_step
    if since.losses and not (
        since.seconds > 0 and {"epoch", "learning_rate", "gradient_norm"} <= last.keys()
    ):
        return "contains something that kerasllm does not write: states.monitor.since_row"
    return None
