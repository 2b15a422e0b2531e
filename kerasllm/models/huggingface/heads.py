"""The head of a classifier in Hugging Face's layout: its label names and its weights."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import keras_hub

from kerasllm.data.labels import FILE_NAME, Labels
from kerasllm.data.tokenizers.tokenizer_json import CONFIG_FILE
from kerasllm.errors import PresetError
from kerasllm.models.huggingface import CONFIG, read_config
from kerasllm.models.huggingface.encoder_layout import head_tensors
from kerasllm.models.huggingface.stored import WEIGHTS, list_tensors

_NOT_TRAINED = "fine-tune it with `kerasllm finetune --set model.preset=FOLDER`"


def is_classifier(config: Mapping) -> bool:
    """Returns whether a folder with this `config.json` says that it holds a trained classifier."""
    return any(
        str(name).endswith("ForSequenceClassification")
        for name in config.get("architectures") or ()
    )


def label_names(config: Mapping, where: str) -> list[str]:
    """Returns the names of a classifier's classes, in the order of its logits.

    Args:
        config: The content of `config.json`.
        where: The file, for messages.

    Raises:
        PresetError: It is no classifier, or one that gives something else than one class a text.
    """
    if not is_classifier(config):
        raise PresetError(
            f"architectures is {config.get('architectures')!r}, which is no text classifier",
            where=where,
            fix=_NOT_TRAINED,
        )
    kind = config.get("problem_type")
    if kind not in (None, "single_label_classification"):
        raise PresetError(
            f"problem_type is {kind!r}; kerasllm reads classifiers that give a text one label",
            where=f"{where}: problem_type",
            fix="use another model",
        )
    # transformers takes it to mean two classes.
    named = config.get("id2label") or {"0": "LABEL_0", "1": "LABEL_1"}
    numbers = [str(number) for number in range(len(named))]
    if len(named) < 2 or set(map(str, named)) != set(numbers):
        raise PresetError(
            f"id2label must name at least two classes by the numbers from 0 on, got {named!r}",
            where=f"{where}: id2label",
            fix="take the file from the model's own repository",
        )
    by_number = {str(number): str(name) for number, name in named.items()}
    return [by_number[number] for number in numbers]


def read_labels(folder: Path) -> Labels:
    """Returns the classes of a classifier's folder.

    How they were written in the training data is in `labels.json`, where `kerasllm export` wrote
    the folder.

    Raises:
        PresetError: See `label_names`.
        DataError: `labels.json` cannot be read.
    """
    names = label_names(read_config(folder / CONFIG), str(folder / CONFIG))
    if (folder / FILE_NAME).is_file():
        kept = Labels.load(folder)
        if list(kept.names) == names:
            return kept
    return Labels(names)


def dropouts(config: Mapping) -> tuple[float, float]:
    """Returns the rates of a classifier's encoder and of its head."""
    if config.get("model_type") == "distilbert":
        return config.get("dropout", 0.1), config.get("seq_classif_dropout", 0.2)
    rate = config.get("hidden_dropout_prob", 0.1)
    head = config.get("classifier_dropout_prob", config.get("classifier_dropout"))
    return rate, rate if head is None else head


def longest_text(folder: Path) -> int | None:
    """Returns the most tokens of a text, where `tokenizer_config.json` says so."""
    file = folder / CONFIG_FILE
    longest = read_config(file).get("model_max_length") if file.is_file() else None
    return longest if isinstance(longest, int) and longest > 2 else None


def assign_head(task: keras_hub.models.TextClassifier, folder: Path) -> None:
    """Gives a classifier's head the weights of a folder.

    Args:
        task: A classifier with as many classes as the folder's.
        folder: The folder.

    Raises:
        PresetError: A tensor is missing or of another shape.
    """
    stored = {tensor.name: tensor for tensor in list_tensors(folder)}
    for name, tensor in head_tensors(task).items():
        if name not in stored:
            raise PresetError(
                f"tensor {name} is missing: the head of the classifier is not in the file",
                where=str(folder / WEIGHTS),
                fix=_NOT_TRAINED,
            )
        if stored[name].shape != tensor.shape:
            raise PresetError(
                f"tensor {name} has shape {stored[name].shape}, where config.json says "
                f"{tensor.shape}",
                where=str(stored[name].file),
                fix="take config.json and the weights from the same model",
            )
        tensor.assign(stored[name].read().astype("float32"))
