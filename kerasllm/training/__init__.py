"""The training loop, its optimizers, schedules, losses and callbacks."""

from typing import TYPE_CHECKING

from kerasllm._lazy import lazy_names

if TYPE_CHECKING:
    from kerasllm.training.checkpointing import Checkpoints as Checkpoints
    from kerasllm.training.fit import FineTunedModel as FineTunedModel
    from kerasllm.training.losses import (
        SmoothedSparseCategoricalCrossentropy as SmoothedSparseCategoricalCrossentropy,
    )
    from kerasllm.training.monitor import StepMonitor as StepMonitor
    from kerasllm.training.optimizers import build_optimizer as build_optimizer
    from kerasllm.training.schedules import WarmupSchedule as WarmupSchedule
    from kerasllm.training.validation import Validation as Validation

__getattr__, __dir__, __all__ = lazy_names(
    __name__,
    {
        "FineTunedModel": "fit",
        "SmoothedSparseCategoricalCrossentropy": "losses",
        "Checkpoints": "checkpointing",
        "StepMonitor": "monitor",
        "Validation": "validation",
        "WarmupSchedule": "schedules",
        "build_optimizer": "optimizers",
    },
)
