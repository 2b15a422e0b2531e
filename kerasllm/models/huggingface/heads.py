"""The head of a classifier in Hugging Face's layout: its label names and its weights."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import keras_hub
import numpy as np

from kerasllm.data.labels import FILE_NAME, Labels
from kerasllm.data.tokenizers.tokenizer_json import CONFIG_FILE
from kerasllm.errors import PresetError
from kerasllm.models.huggingface import CONFIG, read_config
from kerasllm.models.huggingface.encoder_layout import head_tensors
from kerasllm.models.huggingface.stored import WEIGHTS, list_tensors

_PROBLEMS = {
    "single_label_classification": "single_label",
    "multi_label_classification": "multi_label",
    "regression": "regression",
}
_NOT_TRAINED = "fine-tune it with `kerasllm finetune --set model.preset=FOLDER`"


_OF_TEXTS, OF_TOKENS = "ForSequenceClassification", "ForTokenClassification"
OF_SPANS = "ForQuestionAnswering"
TOKEN_HEADS = {OF_TOKENS: "classifier", OF_SPANS: "qa_outputs"}
"""What transformers calls the dense layer of a head on every token, by the ending of its class."""


def is_classifier(config: Mapping, head: str = _OF_TEXTS) -> bool:
    """Returns whether a folder with this `config.json` says that it holds a trained classifier.

    Args:
        config: The content of `config.json`.
        head: The ending of the class in transformers. Defaults to that of classifiers of texts.
    """
    return any(str(name).endswith(head) for name in config.get("architectures") or ())


def has_head(folder: Path, head: str = _OF_TEXTS) -> bool:
    """Returns whether a folder says that it holds a trained classifier; see `is_classifier`."""
    return is_classifier(read_config(folder / CONFIG), head)


def problem_of(config: Mapping, where: str) -> str:
    """Returns what a classifier's outputs are: `"single_label"`, `"multi_label"`, `"regression"`.

    Args:
        config: The content of `config.json`.
        where: The file, for messages.

    Raises:
        PresetError: `problem_type` is none that transformers has.
    """
    kind = config.get("problem_type")
    if kind is None:
        # As transformers takes it.
        return "regression" if len(_id2label(config)) == 1 else "single_label"
    if kind not in _PROBLEMS:
        raise PresetError(
            f"problem_type is {kind!r}, and must be one of {', '.join(_PROBLEMS)}",
            where=f"{where}: problem_type",
            fix="use the file from the model's own repository",
        )
    return _PROBLEMS[kind]


def label_names(config: Mapping, where: str) -> list[str]:
    """Returns the names of a classifier's outputs, in the order of its logits.

    Args:
        config: The content of `config.json`.
        where: The file, for messages.

    Raises:
        PresetError: It is no classifier of texts, or its labels are not told.
    """
    if not is_classifier(config):
        raise PresetError(
            f"architectures is {config.get('architectures')!r}, which is not a text classifier",
            where=where,
            fix=_NOT_TRAINED,
        )
    return _names(config, problem_of(config, where), where)


def tag_names(config: Mapping, where: str) -> list[str]:
    """Returns the tags of a model with outputs for every token, in the order of its logits.

    Args:
        config: The content of `config.json`.
        where: The file, for messages.

    Raises:
        PresetError: It is not such a model, or its tags are not told.
    """
    if not is_classifier(config, OF_TOKENS):
        raise PresetError(
            f"architectures is {config.get('architectures')!r}, which is not a token classifier",
            where=where,
            fix=_NOT_TRAINED,
        )
    return _names(config, "single_label", where)


def _names(config: Mapping, problem: str, where: str) -> list[str]:
    named = _id2label(config)
    fits = len(named) == 1 if problem == "regression" else len(named) >= 2
    numbers = {str(number) for number in range(len(named))}
    if not fits or set(map(str, named)) != numbers:
        expected = "one output" if problem == "regression" else "at least two classes"
        raise PresetError(
            f"id2label must name {expected} by the numbers from 0 on, got {named!r}",
            where=f"{where}: id2label",
            fix="use the file from the model's own repository",
        )
    by_number = {str(number): str(name) for number, name in named.items()}
    return [by_number[str(number)] for number in range(len(named))]


def _id2label(config: Mapping) -> Mapping:
    # transformers takes it to mean two classes.
    return config.get("id2label") or {"0": "LABEL_0", "1": "LABEL_1"}


def read_problem(folder: Path) -> str:
    """Returns what the outputs of a classifier's folder are; see `problem_of`."""
    return problem_of(read_config(folder / CONFIG), str(folder / CONFIG))


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
    """Returns the maximum number of tokens of a text, where `tokenizer_config.json` says so."""
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


def read_token_head(folder: Path) -> dict[str, np.ndarray]:
    """Returns the head of a folder with outputs for every token, one of `TOKEN_HEADS`.

    Returns:
        `kernel`, float32 `[width, outputs]`, and `bias`, `[outputs]`.

    Raises:
        PresetError: A tensor is missing.
    """
    config = read_config(folder / CONFIG)
    dense = next(name for head, name in TOKEN_HEADS.items() if is_classifier(config, head))
    stored = {tensor.name: tensor for tensor in list_tensors(folder)}
    for name in (f"{dense}.weight", f"{dense}.bias"):
        if name not in stored:
            raise PresetError(
                f"tensor {name} is missing: the head of the model is not in the file",
                where=str(folder / WEIGHTS),
                fix=_NOT_TRAINED,
            )
    return {
        "kernel": stored[f"{dense}.weight"].read().astype("float32").T,
        "bias": stored[f"{dense}.bias"].read().astype("float32"),
    }
