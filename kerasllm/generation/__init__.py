"""Decoding: text generation token by token, with a key-value cache."""

from typing import TYPE_CHECKING

from kerasllm._lazy import lazy_names

if TYPE_CHECKING:
    from kerasllm.generation.encoder_decoder.generator import Seq2SeqGenerator as Seq2SeqGenerator
    from kerasllm.generation.generator import Generator as Generator
    from kerasllm.generation.settings import GenerationSettings as GenerationSettings
    from kerasllm.generation.text import TextGenerator as TextGenerator
    from kerasllm.generation.text import generate_text as generate_text

__getattr__, __dir__, __all__ = lazy_names(
    __name__,
    {
        "GenerationSettings": "settings",
        "Generator": "generator",
        "Seq2SeqGenerator": "encoder_decoder.generator",
        "generate_text": "text",
        "TextGenerator": "text",
    },
)
