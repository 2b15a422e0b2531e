"""Tiny encoder-decoders of every family, with weights that make them decide."""

from __future__ import annotations

import keras_hub
import numpy as np

from kerasllm.models.encoder_decoder import EncoderDecoder, Frame
from kerasllm.models.encoder_decoder_backbone import EncoderDecoderBackbone
from tests.generation.models import randomize

VOCABULARY = 40
START, END = 1, 2
_SIZES = {"vocabulary_size": VOCABULARY, "hidden_dim": 32, "intermediate_dim": 48, "dropout": 0.0}
_ONE = {**_SIZES, "num_layers": 2, "num_heads": 4}
_OWN = {**_SIZES, "num_encoder_layers": 1, "num_decoder_layers": 2, "num_heads": 4}
_GEMMA = {
    f"{side}_{name}": value
    for side in ("encoder", "decoder")
    for name, value in {
        "hidden_dim": 32,
        "intermediate_dim": 48,
        "num_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 8,
        "layer_types": ["full_attention", "sliding_attention"],
    }.items()
}
_MODELS = {
    "bart": (keras_hub.models.BartBackbone, {**_ONE, "max_sequence_length": 64}),
    "t5": (keras_hub.models.T5Backbone, {**_ONE, "use_gated_activation": False}),
    "flan_t5": (
        keras_hub.models.T5Backbone,
        {**_ONE, "key_value_dim": 12, "activation": "gelu", "tie_embedding_weights": False},
    ),
    "new": (EncoderDecoderBackbone, {**_OWN, "num_decoder_heads": 2}),
    "marian": (
        EncoderDecoderBackbone,
        {**_OWN, "normalize_first": False, "embedding_norm": False, "activation": "swish"},
    ),
    "t5gemma": (
        keras_hub.models.T5GemmaBackbone,
        {
            "vocabulary_size": VOCABULARY,
            **_GEMMA,
            "dropout_rate": 0.0,
            "rms_norm_eps": 1e-6,
            "query_pre_attn_scalar": 8.0,
            "attention_bias": False,
            "hidden_activation": "gelu_approximate",
            "sliding_window": 4,
        },
    ),
}
_FACTS = {
    "t5": {"hidden_scale": 32**-0.5, "max_source_length": None, "max_target_length": None},
    "marian": {"final_logits_bias": np.linspace(-1, 1, VOCABULARY, dtype=np.float32)},
    "t5gemma": {"logits_soft_cap": 30.0, "max_source_length": None, "max_target_length": None},
}
FAMILIES = tuple(_MODELS)


def tiny(family: str, dtype: str = "float32", seed: int = 0, **facts) -> EncoderDecoder:
    """Returns an encoder-decoder that has no tokenizer."""
    make, arguments = _MODELS[family]
    backbone = make(**arguments, dtype=dtype)
    randomize(backbone, seed)
    return EncoderDecoder(
        backbone=backbone,
        tokenizer=None,
        start_token_id=START,
        end_token_id=END,
        pad_token_id=0,
        source_frame=Frame(after=(END,)),
        target_frame=Frame(after=(END,)),
        **{
            "max_source_length": 64,
            "max_target_length": 64,
            **_FACTS.get(family, {}),
            **facts,
        },
    )


def sources(lengths=(3, 11, 7, 20, 7), seed: int = 0) -> list[list[int]]:
    """Returns sources of these lengths."""
    random = np.random.default_rng(seed)
    return [[*random.integers(3, VOCABULARY, length - 1).tolist(), END] for length in lengths]


def next_logits(model: EncoderDecoder, source: list[int], tokens: list[int]) -> np.ndarray:
    """Returns the logits before and after each token of a target, without a cache."""
    encoder, decoder = np.array([source]), np.array([[model.start_token_id, *tokens]])
    outputs = model.backbone(
        {
            "encoder_token_ids": encoder,
            "encoder_padding_mask": np.ones_like(encoder),
            "decoder_token_ids": decoder,
            "decoder_padding_mask": np.ones_like(decoder),
        }
    )
    return np.array(model.logits(outputs["decoder_sequence_output"]))[0]


def is_greedy(model: EncoderDecoder, source: list[int], tokens: list[int]) -> bool:
    """Whether each token is the most likely by the backbone's own forward pass."""
    return np.argmax(next_logits(model, source, tokens)[:-1], -1).tolist() == tokens
