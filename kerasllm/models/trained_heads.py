"""The head of a classifier that a training begins with, where it was trained for its labels."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import safetensors
import safetensors.numpy

from kerasllm.data.labels import FILE_NAME, Labels
from kerasllm.errors import PresetError
from kerasllm.json_files import read_json_file
from kerasllm.models import presets
from kerasllm.models.classifier_outputs import OUTPUTS
from kerasllm.models.heads import HEAD_FACTS, HEAD_WEIGHTS, read_facts, reorder_outputs
from kerasllm.models.huggingface import is_huggingface
from kerasllm.models.huggingface.heads import assign_head, has_head, read_labels, read_problem
from kerasllm.models.layers import parts_of
from kerasllm.models.token_head import has_token_head

if TYPE_CHECKING:
    from kerasllm.models.text_classifier import TextClassifier

_TASK, _TASK_WEIGHTS = "task.json", "task.weights.h5"
_LABELS_SHOWN = 6


def folder_with_head(preset: str | Path) -> Path | None:
    """Returns the folder of a trained classifier: a run's `model/`, a KerasHub preset that was
    saved with its task, or a folder in Hugging Face's layout.

    Args:
        preset: What `kerasllm.models.presets.resolve` takes.

    Returns:
        The folder; `None` where the preset is a pretrained encoder alone.
    """
    folder = presets.resolve(preset)
    if not isinstance(folder, Path):
        return None
    if is_huggingface(folder):
        return folder if has_head(folder) else None
    if has_token_head(folder):
        return None
    if (folder / HEAD_WEIGHTS).is_file():
        return folder
    # KerasHub writes the head of any task.
    has_classes = "TextClassifier" in str(_task_of(folder).get("registered_name"))
    return folder if has_classes and (folder / _TASK_WEIGHTS).is_file() else None


def differences(folder: Path, model: TextClassifier) -> list[str]:
    """Returns why the head of a folder is not that of a model, in words; none where it fits.

    Args:
        folder: What `folder_with_head` gave.
        model: The model that is to be trained.
    """
    if is_huggingface(folder):
        return _differences(read_problem(folder), "cls", read_labels(folder), model)
    if not (folder / FILE_NAME).is_file():
        return _differences_without_names(folder, model)
    problem = _outputs(folder).get("problem", "single_label")
    return _differences(problem, _pooling(folder), Labels.load(folder), model)


def description(preset: str | Path, model: TextClassifier) -> str | None:
    """Says in words whether a model that is to be trained has the head of its preset.

    Args:
        preset: What `kerasllm.models.presets.resolve` takes.
        model: The model.

    Returns:
        The words; `None` where the preset has no head.
    """
    folder = folder_with_head(preset)
    if folder is None:
        is_handle = not isinstance(presets.resolve(preset), Path)
        return f"new; one that {preset} holds is read from a folder alone" if is_handle else None
    if new := "; ".join(differences(folder, model)):
        return f"new: {new}"
    trained = f"trained, of {folder}"
    if is_huggingface(folder) or (folder / FILE_NAME).is_file():
        return trained
    named = [f"{number} is {name}" for number, name in enumerate(model.labels.names)]
    return f"{trained}; its classes have no names and are taken in order: {_listed(named)}"


def _differences_without_names(folder: Path, model: TextClassifier) -> list[str]:
    """What tells a head that KerasHub saved, without the names of its classes, from a model's."""
    own, other = _task_of(folder).get("config", {}), model.task.get_config()
    count = own.get("num_classes")
    if model.outputs.problem != "single_label" or count is None:
        problem = model.outputs.problem.replace("_", " ")
        return [f"the problem is {problem}, and what it was is not known, without {FILE_NAME}"]
    found = []
    if count != len(model.labels):
        found.append(f"there are {len(model.labels)} labels, and were {count} classes")
    if model.pooling != "cls":
        found.append(f"the pooling is {model.pooling}, and was cls")
    if own.get("hidden_dim") != other.get("hidden_dim"):
        found.append(f"its layers are of size {own.get('hidden_dim')}")
    return found


def differences_of(trained: TextClassifier, model: TextClassifier) -> list[str]:
    """Returns why the head of a model is not that of another one, as `differences`."""
    return _differences(trained.outputs.problem, trained.pooling, trained.labels, model)


def copy_head(trained: TextClassifier, model: TextClassifier) -> None:
    """Puts the head of a model, and what was fitted to it, on another one that it fits."""
    heads = (parts_of(each.task).head for each in (model, trained))
    for new, old in zip(*heads, strict=True):
        new.set_weights(old.get_weights())
    own, order = trained.outputs, _class_order(trained.labels, model.labels)
    thresholds = own.thresholds
    if order and order != sorted(order):
        reorder_outputs(model.task, order)
        thresholds = thresholds and tuple(thresholds[number] for number in order)
    model.outputs = dataclasses.replace(
        model.outputs,
        thresholds=model.outputs.thresholds or thresholds,
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
    if model.outputs.problem != "regression" and _class_order(labels, model.labels) is None:
        found.append(_difference_of_labels(labels, model.labels))
    return found


def have_same_classes(trained: Labels, labels: Labels) -> bool:
    """Tells whether labels are those of a trained head, in any order."""
    return _class_order(trained, labels) is not None


def _class_order(trained: Labels, labels: Labels) -> list[int] | None:
    """Returns the class of a trained head that is each of the labels; `None` if they differ."""
    if len(trained) != len(labels):
        return None
    numbered = tuple(f"LABEL_{number}" for number in range(len(trained)))
    numbers = tuple(map(str, range(len(trained))))
    for known, own in (
        (trained.names, labels.names),
        (trained.raw, labels.raw),
        # As transformers names classes without names.
        (numbers if trained.names == numbered else (), labels.raw),
    ):
        if known and set(known) == set(own):
            return [known.index(label) for label in own]
    found = [trained.number_of(label) for label in labels.raw]
    return found if None not in found and len(set(found)) == len(found) else None


def _difference_of_labels(trained: Labels, labels: Labels) -> str:
    new = [label for label in labels.names if label not in trained]
    gone = [label for label in trained.names if label not in labels]
    parts = (("new", new), ("not in the data", gone))
    told = "; ".join(f"{what}: {_listed(names)}" for what, names in parts if names)
    both = f"the labels are {_listed(labels.names)}, and were {_listed(trained.names)}"
    many = max(len(labels), len(trained)) > _LABELS_SHOWN
    return f"{both} ({told})" if many and told else both


def load_head(folder: Path, model: TextClassifier) -> None:
    """Puts the head of a folder onto a model that it fits; see `differences`.

    Raises:
        PresetError: The file of the head cannot be read, or has other shapes.
    """
    if is_huggingface(folder):
        assign_head(model.task, folder)
        labels = read_labels(folder)
    else:
        _load_saved(folder, model)
        named = (folder / FILE_NAME).is_file()
        labels = Labels.load(folder) if named else model.labels
    order = _class_order(labels, model.labels)
    if order and order != sorted(order):
        reorder_outputs(model.task, order)


def _load_saved(folder: Path, model: TextClassifier) -> None:
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
        fix="copy all files of the model from the original run",
    )


def _outputs(folder: Path) -> dict:
    return _json_of(folder / OUTPUTS)


def _task_of(folder: Path) -> dict:
    """What KerasHub notes of the task that it saved."""
    return _json_of(folder / _TASK)


def _json_of(file: Path) -> dict:
    try:
        found = read_json_file(file) if file.is_file() else {}
    except (ValueError, OSError) as error:
        raise _unreadable(file, error) from error
    return found if isinstance(found, dict) else {}


def _pooling(folder: Path) -> str:
    return read_facts(folder)["pooling"] if (folder / HEAD_FACTS).is_file() else "cls"


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(names[:_LABELS_SHOWN])
    more = len(names) - _LABELS_SHOWN
    return f"{shown} and {more} more" if more > 0 else shown
