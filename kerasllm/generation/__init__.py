"""Decoding: what follows a prompt, token by token, with a cache of keys and values."""

from kerasllm._lazy import lazy_names

__getattr__ = lazy_names(
    __name__,
    {
        "GenerationSettings": "settings",
        "Generator": "generator",
        "generate_text": "text",
        "TextGenerator": "text",
    },
)
