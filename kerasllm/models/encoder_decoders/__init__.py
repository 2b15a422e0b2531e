"""Encoder-decoders in Hugging Face's layout, as backbones of KerasHub's and kerasllm's."""

from kerasllm.models.encoder_decoders.families import FAMILIES, Family
from kerasllm.models.encoder_decoders.layout import is_encoder_decoder, modules, tensors
from kerasllm.models.encoder_decoders.load import (
    Loaded,
    is_encoder_decoder_folder,
    load_backbone,
    read_folder,
)
from kerasllm.models.encoder_decoders.text_side import read_text_side

__all__ = [
    "FAMILIES",
    "Family",
    "Loaded",
    "is_encoder_decoder",
    "is_encoder_decoder_folder",
    "load_backbone",
    "modules",
    "read_folder",
    "read_text_side",
    "tensors",
]
