"""Decoders in Hugging Face's layout and in GGUF files, as KerasHub's backbones."""

from kerasllm.models.decoders.families import FAMILIES, Family, family_of
from kerasllm.models.decoders.gguf_tokenizer import GGUFTokenizer, read_tokenizer
from kerasllm.models.decoders.keras_hub_fixes import fix_backbone
from kerasllm.models.decoders.layout import (
    Module,
    Tensor,
    as_kernel,
    as_matrix,
    kernel_axes,
    modules,
    tensors,
)
from kerasllm.models.decoders.load import (
    is_decoder,
    load_backbone,
    max_length,
    read_config,
)

__all__ = [
    "FAMILIES",
    "Family",
    "GGUFTokenizer",
    "Module",
    "Tensor",
    "as_kernel",
    "as_matrix",
    "family_of",
    "fix_backbone",
    "is_decoder",
    "kernel_axes",
    "load_backbone",
    "max_length",
    "modules",
    "read_config",
    "read_tokenizer",
    "tensors",
]
