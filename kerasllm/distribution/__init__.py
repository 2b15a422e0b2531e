"""Distributed training: strategies, and several workers."""

from typing import TYPE_CHECKING

from kerasllm._lazy import lazy_names

if TYPE_CHECKING:
    from kerasllm.distribution.strategies import describe as describe
    from kerasllm.distribution.strategies import is_chief as is_chief
    from kerasllm.distribution.strategies import strategy as strategy
    from kerasllm.distribution.strategies import worker_count as worker_count
    from kerasllm.distribution.strategies import worker_index as worker_index

__getattr__, __dir__, __all__ = lazy_names(
    __name__,
    {
        "describe": "strategies",
        "is_chief": "strategies",
        "strategy": "strategies",
        "worker_count": "strategies",
        "worker_index": "strategies",
    },
)
