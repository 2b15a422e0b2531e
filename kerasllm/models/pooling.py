"""How a preset was trained to embed a text: its first token, or the mean of all."""

from __future__ import annotations

from pathlib import Path

import keras_hub

from kerasllm.errors import PresetError
from kerasllm.json_files import read_json_file
from kerasllm.models import presets
from kerasllm.models.heads import HEAD_FACTS, read_facts
from kerasllm.models.pretraining import FACTS, Pretraining

_MODULES = "modules.json"
_POOLING_FOLDER = "1_Pooling"
_TASK = "task.json"
# The presets of KerasHub that are sentence encoders; only for these a `task.json` is read.
_SENTENCE_ENCODERS = "/sentence-transformers/"
_STEM, _CLS, _MEAN = "pooling_mode_", "pooling_mode_cls_token", "pooling_mode_mean_tokens"


def pooling_of(preset: str | Path) -> str | None:
    """Returns the pooling that a preset was trained with.

    A folder says so in the pooling module of sentence-transformers (`modules.json`,
    `1_Pooling/config.json`), in the task that KerasHub saved, or in the head that kerasllm saved.
    An encoder that was pretrained on masked words alone has the mean.

    Args:
        preset: What `kerasllm.models.presets.resolve` takes.

    Returns:
        `"cls"`, `"mean"`, or `None`: the preset does not say, or pools in another way.

    Raises:
        PresetError: The preset cannot be found, or a file of it cannot be read.

    Example:

    >>> pooling_of("minilm_l6_en_uncased")
    'mean'
    """
    if isinstance(preset, str) and preset in presets.PRESETS:
        return presets.PRESETS[preset].pooling
    found = presets.resolve(preset)
    if isinstance(found, Path):
        return _of_folder(found) if found.is_dir() else None
    handle = keras_hub.models.Backbone.presets.get(found, {}).get("kaggle_handle", found)
    return _of_kaggle(handle) if _SENTENCE_ENCODERS in handle else None


def _of_folder(folder: Path) -> str | None:
    if (folder / HEAD_FACTS).is_file():
        return read_facts(folder)["pooling"]
    if (folder / FACTS).is_file():
        # Without a sentence task no first token has learned to stand for a text.
        return "cls" if Pretraining.load(folder).sentence_task else "mean"
    if (folder / _TASK).is_file():
        return _of_task(_read(folder / _TASK, dict))
    file = _pooling_file(folder)
    return _of_modes(_read(file, dict)) if file is not None else None


def _pooling_file(folder: Path) -> Path | None:
    """Returns the configuration of the pooling module of sentence-transformers, if there is one."""
    place = _POOLING_FOLDER
    if (folder / _MODULES).is_file():
        modules = [each for each in _read(folder / _MODULES, list) if isinstance(each, dict)]
        places = [
            str(each.get("path", ""))
            for each in modules
            if str(each.get("type", "")).split(".")[-1] == "Pooling"
        ]
        # Below the folder, for any content of the file.
        if not places or Path(places[0]).is_absolute() or ".." in Path(places[0]).parts:
            return None
        place = places[0]
    file = folder / place / "config.json"
    return file if file.is_file() and file.parent != folder else None


def _of_modes(config: dict) -> str | None:
    chosen = [name for name, on in config.items() if name.startswith(_STEM) and on is True]
    return {_CLS: "cls", _MEAN: "mean"}.get(chosen[0]) if len(chosen) == 1 else None


def _of_task(task: dict) -> str | None:
    name, config = str(task.get("class_name", "")), task.get("config")
    if name.endswith("TextClassifier"):
        return "cls"
    mode = config.get("pooling_mode") if isinstance(config, dict) else None
    return mode if name.endswith("TextEmbedder") and mode in ("cls", "mean") else None


def _of_kaggle(handle: str) -> str | None:
    """Returns what the `task.json` of a sentence encoder says, which Kaggle's cache keeps."""
    import kagglehub

    try:
        file = kagglehub.model_download(handle.removeprefix("kaggle://"), _TASK)
    except Exception as error:
        if getattr(getattr(error, "response", None), "status_code", None) == 404:
            return None
        raise PresetError(
            f"{_TASK} of {handle} cannot be downloaded: {error}",
            fix="check the network, or set model.pooling to cls or mean",
        ) from error
    return _of_task(_read(Path(file), dict))


def _read(file: Path, kind: type):
    try:
        found = read_json_file(file)
    except (ValueError, OSError) as error:
        raise PresetError(
            f"{file.name} cannot be read: {error}", where=str(file), fix="download the file again"
        ) from error
    return found if isinstance(found, kind) else kind()
