"""Builds a masked language model: a new BERT, or a pretrained encoder with or without its head."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import keras_hub

from kerasllm.data.tokenizers import Tokenizer
from kerasllm.models import presets
from kerasllm.models.encoder import build_task
from kerasllm.models.huggingface import is_huggingface
from kerasllm.models.huggingface.masked_lm_heads import has_pooler
from kerasllm.models.masked_lm import MaskedLM, trained_head
from kerasllm.models.new_classifier import set_max_length
from kerasllm.models.pretraining import Pretraining
from kerasllm.models.token_head import TOKENS
from kerasllm.models.vocabulary_head import VocabularyHead


def new_bert(
    tokenizer: Tokenizer,
    *,
    layers: int = 6,
    heads: int = 6,
    width: int = 384,
    feedforward: int | None = None,
    max_length: int = 128,
    dropout: float = 0.1,
    sentence_task: str | None = None,
    precision: str = "float32",
) -> MaskedLM:
    """Builds a new BERT with a masked-LM head.

    Args:
        tokenizer: Its tokenizer, of a KerasHub `BertTokenizer`.
        layers: Transformer layers. Defaults to `6`.
        heads: Attention heads of each. Defaults to `6`.
        width: Width of its hidden states, a multiple of `heads`. Defaults to `384`.
        feedforward: Width within a layer's feed-forward part. Defaults to `None`: `4 * width`.
        max_length: The maximum number of tokens that it reads. Defaults to `128`.
        dropout: Rate of every dropout. Defaults to `0.1`.
        sentence_task: `"next"`, `"order"` or `None`: what it learns of pairs of texts besides.
            Defaults to `None`.
        precision: A Keras dtype policy. Defaults to `"float32"`.
    """
    of_keras_hub = tokenizer.of_keras_hub
    backbone = keras_hub.models.BertBackbone(
        vocabulary_size=of_keras_hub.vocabulary_size(),
        num_layers=layers,
        num_heads=heads,
        hidden_dim=width,
        intermediate_dim=feedforward or 4 * width,
        dropout=dropout,
        max_sequence_length=max_length,
        dtype=precision,
    )
    preprocessor = keras_hub.models.BertTextClassifierPreprocessor(
        of_keras_hub, sequence_length=max_length
    )
    task = VocabularyHead(backbone, preprocessor, compile=False)
    pretraining = Pretraining(sentence_task, trained_pooler=sentence_task is not None)
    return MaskedLM(task, tokenizer, pretraining)


def continued(
    preset: str | Path,
    tokenizer: Tokenizer,
    *,
    max_length: int = 128,
    dropout: float = 0.1,
    freeze: int = 0,
    lora: Mapping | None = None,
    sentence_task: str | None = None,
    precision: str = "float32",
) -> MaskedLM:
    """Builds a masked language model on a pretrained encoder.

    The head is that of the preset, where it was saved with one, and new otherwise.

    Args:
        preset: What `kerasllm.models.presets.resolve` takes.
        tokenizer: What `load_tokenizer` gave for it.
        max_length: The maximum number of tokens of a row. Defaults to `128`.
        dropout: Rate of every dropout. Defaults to `0.1`.
        freeze: The embeddings and this many of the lowest layers do not train. Defaults to `0`.
        lora: `rank`, `alpha` and `targets` of low-rank adapters. Defaults to `None`.
        sentence_task: `"next"`, `"order"` or `None`: what it learns of pairs of texts besides.
            Defaults to `None`.
        precision: A Keras dtype policy. Defaults to `"float32"`.

    Raises:
        PresetError: The preset cannot be found, read or used.
        RecipeError: A setting does not fit the model.
    """
    found = build_task(
        preset,
        1,
        pooling=TOKENS,
        dropout=dropout,
        freeze=freeze,
        lora=lora,
        precision=precision,
        tokenizer=tokenizer,
    )
    backbone = found.backbone
    if sentence_task and hasattr(backbone, "pooled_dense"):
        # Heads on every token leave it as it is.
        backbone.pooled_dense.trainable = True
    task = VocabularyHead(backbone, found.preprocessor, compile=False)
    set_max_length(task, max_length)
    folder = presets.resolve(preset)
    before = Pretraining()
    if (head := trained_head(preset)) is not None:
        task.assign_head(head)
        before = Pretraining.load(folder)
        if is_huggingface(folder):
            before = Pretraining(trained_pooler=has_pooler(folder))
    trained = before.trained_pooler or sentence_task is not None
    model = MaskedLM(task, tokenizer, Pretraining(sentence_task, trained))
    if isinstance(folder, Path):
        model.assign_sentence_head(folder)
    return model
