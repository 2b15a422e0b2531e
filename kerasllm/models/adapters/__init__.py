"""Adapters: low-rank updates of a pretrained model's weights (LoRA, DoRA), and PEFT's files."""

from kerasllm._lazy import lazy_names

__getattr__, __dir__, __all__ = lazy_names(
    __name__, dict.fromkeys(("Adapter", "add_adapter", "load_adapter"), "adapter")
)
