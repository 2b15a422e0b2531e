"""Tiny KerasHub models of every family that is decoded, with weights that make them decide."""

from __future__ import annotations

import keras_hub
import numpy as np

VOCABULARY = 48
_SIZES = {"vocabulary_size": VOCABULARY, "num_layers": 2, "hidden_dim": 32, "intermediate_dim": 48}
_GROUPED = {**_SIZES, "num_query_heads": 4, "num_key_value_heads": 2}
_MODELS = {
    "gpt2": ("GPT2", {**_SIZES, "num_heads": 4, "max_sequence_length": 40, "dropout": 0.0}),
    "llama": ("Llama3", {**_GROUPED, "rope_max_wavelength": 5000, "layer_norm_epsilon": 1e-5}),
    "llama_scaled": (
        "Llama3",
        {
            **_GROUPED,
            "rope_frequency_adjustment_factor": 8.0,
            "rope_low_freq_factor": 1.0,
            "rope_high_freq_factor": 4.0,
            "rope_pretraining_sequence_length": 16,
            "tie_word_embeddings": True,
        },
    ),
    "mistral": ("Mistral", {**_GROUPED, "sliding_window": 5}),
    "qwen2": ("Qwen", {**_GROUPED, "tie_word_embeddings": True}),
    "qwen2_window": (
        "Qwen",
        {**_GROUPED, "use_sliding_window_attention": True, "sliding_window_size": 6},
    ),
    "qwen3": ("Qwen3", {**_GROUPED, "head_dim": 16, "sliding_window_size": None}),
    "gemma": ("Gemma", {**_GROUPED, "num_key_value_heads": 1, "head_dim": 8}),
}
READ = tuple(name for name in _MODELS if name != "gemma")
FAMILIES = tuple(_MODELS)


def tiny(family: str, dtype: str = "float32", seed: int = 0):
    """Returns a KerasHub `CausalLM`."""
    name, arguments = _MODELS[family]
    backbone = getattr(keras_hub.models, f"{name}Backbone")(**arguments, dtype=dtype)
    randomize(backbone, seed)
    return getattr(keras_hub.models, f"{name}CausalLM")(backbone=backbone)


def randomize(backbone, seed: int) -> None:
    """Gives weights that are far apart, so that rounding does not decide."""
    random = np.random.default_rng(seed)
    for weight in backbone.trainable_variables:
        middle = float("scale" in weight.path or "gamma" in weight.path)
        weight.assign(random.normal(middle, 0.3, weight.shape))


def prompts(lengths=(3, 11, 7, 20, 7), seed: int = 0) -> list[list[int]]:
    """Returns prompts of these lengths."""
    random = np.random.default_rng(seed)
    return [random.integers(0, VOCABULARY, length).tolist() for length in lengths]


def is_greedy(task, prompt: list[int], tokens: list[int]) -> bool:
    """Whether each token is the most likely by KerasHub's own forward pass, without a cache."""
    ids = np.array([prompt + tokens], np.int32)
    logits = task({"token_ids": ids, "padding_mask": np.ones_like(ids)})
    return np.argmax(logits[0, len(prompt) - 1 : -1], -1).tolist() == tokens
