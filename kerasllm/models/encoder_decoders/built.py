"""What the configurations of all families of encoder-decoders become, and what they share."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import keras
import keras_hub

from kerasllm.errors import PresetError

ANOTHER = "use another model: this one would load but compute something else"

# What concerns generation, training or other software, and what older files say besides.
HARMLESS = frozenset(
    """
    unk_token_id bad_words_ids forced_bos_token_id forced_eos_token_id decoder_start_token_id
    max_new_tokens min_new_tokens renormalize_logits num_hidden_layers init_std layerdrop
    encoder_layerdrop decoder_layerdrop dropout attention_dropout activation_dropout
    classifier_dropout classif_dropout dropout_rate replacing_rate save_step extra_pos_embeddings
    force_bos_token_to_be_generated exponential_decay_length_penalty suppress_tokens
    begin_suppress_tokens cache_implementation transformers.js_config
    """.split()
)


@dataclass(frozen=True)
class Built:
    """What a configuration becomes.

    Attributes:
        backbone_cls: The class of the backbone.
        arguments: Its arguments, but for the dropout and `dtype`.
        facts: Fields of `EncoderDecoder` that the configuration decides.
    """

    backbone_cls: type[keras_hub.models.Backbone]
    arguments: dict
    facts: dict = field(default_factory=dict)


def refuse(key: str, config: Mapping, because: str, where: str) -> PresetError:
    """Returns the error about a value that would not be honoured."""
    return PresetError(
        f"{key} is {config.get(key)!r}; {because}", where=f"{where}: {key}", fix=ANOTHER
    )


# By the names that transformers has for them.
_TANH_GELU = "keras_hub>gelu_approximate"
ACTIVATIONS = {
    "gelu": "gelu",
    "gelu_new": _TANH_GELU,
    "gelu_pytorch_tanh": _TANH_GELU,
    "gelu_fast": _TANH_GELU,
    "relu": "relu",
    "silu": "silu",
    "swish": "silu",
}


def activation(key: str, name: object, config: Mapping, where: str) -> str | Callable:
    """Returns what Keras takes for an activation that transformers names.

    Args:
        key: The key of the configuration that names it.
        name: The name.
        config: The configuration.
        where: Its file.

    Raises:
        PresetError: If it is not computed here.
    """
    if name not in ACTIVATIONS:
        raise refuse(key, config, f"kerasllm computes {', '.join(ACTIVATIONS)}", where)
    found = ACTIVATIONS[name]
    return keras.saving.get_registered_object(found) if found == _TANH_GELU else found
