"""The fit, its optimizers, schedules, losses and callbacks."""

from kerasllm._lazy import lazy_names

__getattr__ = lazy_names(
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
