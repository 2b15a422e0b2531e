"""The tiny decoders under `tests/reference/decoders`, and copies of them with something changed."""

from __future__ import annotations

import functools
import json
import shutil
from pathlib import Path

import keras
import numpy as np
import safetensors.numpy

from kerasllm.models import decoders

FOLDER = Path(__file__).parents[2] / "reference" / "decoders"
NAMES = sorted(path.name for path in FOLDER.iterdir() if path.is_dir())
# One folder of each family.
FAMILIES = ("gemma", "gpt2", "llama", "mistral", "phi3", "qwen2", "qwen3")


def config_of(name: str, /, **changes) -> dict:
    """Returns a reference's config.json; a change to `...` takes the key out."""
    config = {**json.loads((FOLDER / name / "config.json").read_text()), **changes}
    return {key: value for key, value in config.items() if value is not ...}


def tensors_of(name: str) -> dict[str, np.ndarray]:
    """Returns what a reference's file holds, as float32."""
    tensors = {}
    for file in (FOLDER / name).glob("*.safetensors"):
        tensors.update(safetensors.numpy.load_file(file))
    return {key: value.astype("float32") for key, value in tensors.items()}


def copy(name: str, folder: Path, tensors: dict | None = None, **changes) -> Path:
    """Copies a reference, with other tensors or with changes to its config.json."""
    shutil.copytree(FOLDER / name, folder, dirs_exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config_of(name, **changes)))
    if tensors is not None:
        for file in folder.glob("*.safetensors*"):
            file.unlink()
        safetensors.numpy.save_file(tensors, folder / "model.safetensors")
    return folder


@functools.cache
def backbone_of(name: str) -> keras.Model:
    """Returns a reference, loaded; not to be changed."""
    return decoders.load_backbone(FOLDER / name)


def error_of(backbone: keras.Model, name: str) -> float:
    """Returns the largest error of the logits of a reference, as a share of the largest logit."""
    expected = np.load(FOLDER / name / "expected.npz")
    hidden = backbone(
        {"token_ids": expected["token_ids"], "padding_mask": expected["mask"]}, training=False
    )
    logits = keras.ops.convert_to_numpy(backbone.token_embedding(hidden, reverse=True))
    seen = expected["mask"].astype(bool)
    error = np.abs(logits.astype("float32") - expected["logits"])[seen].max()
    return float(error / np.abs(expected["logits"][seen]).max())
