"""Where a model trains: strategies, several workers."""

from kerasllm._lazy import lazy_names

__getattr__ = lazy_names(
    __name__,
    {
        "describe": "strategies",
        "is_chief": "strategies",
        "strategy": "strategies",
        "worker_count": "strategies",
        "worker_index": "strategies",
    },
)
