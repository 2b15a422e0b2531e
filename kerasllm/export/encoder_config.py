"""The Hugging Face `config.json` of a KerasHub encoder: what its numbers are computed with."""

from __future__ import annotations

import keras_hub

from kerasllm.models.huggingface.encoder_layout import encoder_family
from kerasllm.tasks.task import Head

# KerasHub computes these with the tanh form, and the others with the exact one.
_TANH_GELU = ("bert", "albert")
# What the families call the dropout before the last layer of a sequence classifier.
_DROPOUTS = {"distilbert": "seq_classif_dropout", "albert": "classifier_dropout_prob"}


def encoder_config(
    backbone: keras_hub.models.Backbone, tokenizer: keras_hub.tokenizers.Tokenizer
) -> dict:
    """Returns what `config.json` says of an encoder, without a head.

    Args:
        backbone: A KerasHub backbone of one of `ENCODERS`.
        tokenizer: Its tokenizer.

    Raises:
        PresetError: The backbone is of another family.
    """
    family = encoder_family(backbone)
    gelu = "gelu_pytorch_tanh" if family.model_type in _TANH_GELU else "gelu"
    shared = {
        "model_type": family.model_type,
        "architectures": [f"{family.stem}Model"],
        "vocab_size": backbone.vocabulary_size,
        "max_position_embeddings": backbone.max_sequence_length + family.offset,
        "pad_token_id": tokenizer.pad_token_id,
        "dtype": "float32",
    }
    if family.model_type == "distilbert":
        return {
            **shared,
            "dim": backbone.hidden_dim,
            "hidden_dim": backbone.intermediate_dim,
            "n_layers": backbone.num_layers,
            "n_heads": backbone.num_heads,
            "activation": gelu,
            "dropout": backbone.dropout,
            "attention_dropout": backbone.dropout,
            "sinusoidal_pos_embds": False,
        }
    config = {
        **shared,
        "hidden_size": backbone.hidden_dim,
        "intermediate_size": backbone.intermediate_dim,
        "num_hidden_layers": backbone.num_layers,
        "num_attention_heads": backbone.num_heads,
        "type_vocab_size": getattr(backbone, "num_segments", 1),
        "hidden_act": gelu,
        "hidden_dropout_prob": backbone.dropout,
        "attention_probs_dropout_prob": backbone.dropout,
        "layer_norm_eps": 1e-5 if family.offset else 1e-12,
    }
    if family.offset:
        ids = {"bos_token_id": tokenizer.start_token_id, "eos_token_id": tokenizer.end_token_id}
        return {**config, **ids}
    if family.model_type == "albert":
        config.update(
            embedding_size=backbone.embedding_dim,
            num_hidden_groups=backbone.num_groups,
            inner_group_num=backbone.num_inner_repetitions,
            bos_token_id=tokenizer.cls_token_id,
            eos_token_id=tokenizer.sep_token_id,
        )
    return config


def head_config(task: keras_hub.models.Task, head: Head) -> dict:
    """Returns what `config.json` says of an encoder with a head.

    Args:
        task: The encoder with its head and its preprocessor.
        head: Its head, which transformers has a class for.

    Raises:
        PresetError: The encoder is of another family.
    """
    family = encoder_family(task.backbone)
    known = {
        **encoder_config(task.backbone, task.preprocessor.tokenizer),
        "architectures": [f"{family.stem}{head.architecture}"],
        **head.config,
    }
    if not hasattr(task, "dropout"):
        return known
    rate = "classifier_dropout"
    if head.architecture == "ForSequenceClassification":
        rate = _DROPOUTS.get(family.model_type, rate)
    elif family.model_type == "albert":
        rate = "classifier_dropout_prob"
    return {**known, rate: task.dropout}
