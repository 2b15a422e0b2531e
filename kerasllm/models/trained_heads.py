"""The head of a classifier that a training begins with, where it was trained for its labels."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import TYPE_CHECKING

import safetensors
import safetensors.numpy

from kerasllm.data.labels import FILE_NAME, Labels
from kerasllm.errors import PresetError
from kerasllm.models import presets
from kerasllm.models.classifier_outputs import OUTPUTS
from kerasllm.models.heads import HEAD_FACTS, HEAD_WEIGHTS, read_facts
from kerasllm.models.layers import parts_of

if TYPE_CHECKING:
    from kerasllm.models.text_classifier import TextClassifier

_TASK_WEIGHTS = "task.weights.h5"
_LABELS_SHOWN = 6


def folder_with_head(preset: str | Path) -> Path | None:
    """Returns the folder of a classifier that kerasllm saved, of its run or of its `model/`.

    Args:
        preset: What `kerasllm.models.presets.resolve` takes.

    Returns:
        The folder; `None` where the preset is a pretrained encoder alone.
    """
    folder = presets.resolve(preset)
    if not isinstance(folder, Path) or not (folder / FILE_NAME).is_file():
        return None
    has_head = any((folder / name).is_file() for name in (_TASK_WEIGHTS, HEAD_WEIGHTS))
    return folder if has_head else None


def differences(folder: Path, model: TextClassifier) -> list[str]:
    """Returns why the head of a folder is not that of a model, in words; none where it fits.

    Args:
        folder: What `folder_with_head` gave.
        model: The model that is to be trained.
    """
    problem = _outputs(folder).get("problem", "single_label")
    return _differences(problem, _pooling(folder), Labels.load(folder), model)


def differences_of(trained: TextClassifier, model: TextClassifier) -> list[str]:
    """Returns why the head of a model is not that of another one, as `differences`."""
    return _differences(trained.outputs.problem, trained.pooling, trained.labels, model)


def copy_head(trained: TextClassifier, model: TextClassifier) -> None:
    """Puts the head of a model, and what was fitted to it, on another one that it fits."""
    heads = (parts_of(each.task).head for each in (model, trained))
    for new, old in zip(*heads, strict=True):
        new.set_weights(old.get_weights())
    own = trained.outputs
    model.outputs = dataclasses.replace(
        model.outputs,
        thresholds=model.outputs.thresholds or own.thresholds,
        temperature=own.temperature,
        mean=own.mean,
        std=own.std,
    )


def _differences(problem: str, pooling: str, labels: Labels, model: TextClassifier) -> list[str]:
    if problem != model.outputs.problem:
        now, then = (each.replace("_", " ") for each in (model.outputs.problem, problem))
        return [f"the problem is {now}, and was {then}"]
    found = []
    if pooling != model.pooling:
        found.append(f"the pooling is {model.pooling}, and was {pooling}")
    if model.outputs.problem != "regression" and model.labels.raw != labels.raw:
        if model.labels.names != labels.names:
            found.append(f"the labels are {_listed(model.labels)}, and were {_listed(labels)}")
    return found


def load_head(folder: Path, model: TextClassifier) -> None:
    """Puts the head of a folder onto a model that it fits; see `differences`.

    Raises:
        PresetError: The file of the head cannot be read, or has other shapes.
    """
    if model.pooling == "mean":
        _load_dense(folder / HEAD_WEIGHTS, model.task.output_dense)
        return
    file = folder / _TASK_WEIGHTS
    try:
        model.task.load_task_weights(str(file))
    except (ValueError, OSError, KeyError) as error:
        raise _unreadable(file, error) from error


def _load_dense(file: Path, dense) -> None:
    try:
        tensors = safetensors.numpy.load_file(file)
        dense.kernel.assign(tensors["kernel"])
        dense.bias.assign(tensors["bias"])
    except (safetensors.SafetensorError, ValueError, OSError, KeyError) as error:
        raise _unreadable(file, error) from error


def _unreadable(file: Path, error: Exception) -> PresetError:
    reason = str(error).strip().partition("\n")[0][:200]
    return PresetError(
        f"the trained head cannot be read: {reason}",
        where=str(file),
        fix="take all files of the model from the original run",
    )


def _outputs(folder: Path) -> dict:
    file = folder / OUTPUTS
    try:
        found = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    except (ValueError, OSError) as error:
        raise _unreadable(file, error) from error
    return found if isinstance(found, dict) else {}


def _pooling(folder: Path) -> str:
    return read_facts(folder)["pooling"] if (folder / HEAD_FACTS).is_file() else "cls"


def _listed(labels: Labels) -> str:
    shown = ", ".join(labels.names[:_LABELS_SHOWN])
    more = len(labels) - _LABELS_SHOWN
    return f"{shown} and {more} more" if more > 0 else shown
