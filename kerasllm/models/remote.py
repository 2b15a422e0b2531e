"""Presets and runs that lie elsewhere, downloaded into the cache."""

from __future__ import annotations

import os
from pathlib import Path, PurePosixPath

from kerasllm.addresses import WEB, forget_credentials, scheme_of
from kerasllm.errors import PresetError, RunError, StorageError
from kerasllm.signing import SIGNATURE
from kerasllm.storage import fetch_folder, open_place
from kerasllm.storage.places import OBJECTS

FORM = "the s3://, gs://, hdfs:// or abfs:// address of one of these; https:// of a .gguf file"

# Of a run, what a trained model is made of: its checkpoints stay where they are.
_OF_A_RUN = (
    *("recipe.yaml", "environment.json", "metrics.jsonl", "metrics.json", SIGNATURE),
    *("predictions.parquet", "samples.jsonl"),
)
_FOLDERS_OF_A_RUN = ("model/", "adapter/")
# They could run code when they are read, and are never read here.
_LEFT_OUT = {".bin", ".pt", ".pth", ".pkl", ".pickle", ".py"}


def is_remote(source: object) -> bool:
    """Whether a preset or a run is named by the address of where it lies."""
    return scheme_of(os.fspath(source) if isinstance(source, Path) else source) in (*OBJECTS, *WEB)


def fetch_model(address: str) -> Path:
    """Returns the folder of a preset or of a finished run on this machine, or a GGUF file.

    What was downloaded before and did not change there is taken from the cache.

    Args:
        address: Its address.

    Raises:
        PresetError: There is no such folder or file, or it cannot be read.
        RunError: It is a run that did not finish.
    """
    try:
        place = open_place(address)
        if place.is_file():
            return _gguf(place.fetch(), str(place.address))
        names = place.files()
        if not names:
            raise PresetError(
                "There is no such folder", where=str(place.address), fix="check the address"
            )
        if not any(map(_tells_a_model, names)):
            raise PresetError(
                "The folder holds neither a run nor a model: no recipe.yaml, no config.json",
                where=str(place.address),
                fix="give the folder that contains these files",
            )
        if "recipe.yaml" in names and "metrics.json" not in names:
            raise RunError(
                "This run did not finish: it has no trained model",
                where=str(place.address),
                fix=f"continue it: `kerasllm finetune --resume --output {place.address}`",
            )
        if "recipe.yaml" in names:
            names = [n for n in names if n in _OF_A_RUN or n.startswith(_FOLDERS_OF_A_RUN)]
        # A signature is of all files, of those too that are never read.
        return fetch_folder(place, names if SIGNATURE in names else filter(_is_read, names))
    except StorageError as error:
        forget_credentials(address)
        raise PresetError(error.what, where=error.where, fix=error.fix) from error


def local(source: str | Path) -> str | Path:
    """Returns a run or a preset as it is, or downloaded where it is named by an address."""
    return fetch_model(str(source)) if is_remote(source) else source


def _tells_a_model(name: str) -> bool:
    # An .index is of a TensorFlow checkpoint.
    return name in ("recipe.yaml", "config.json") or (
        "/" not in name and name.endswith((".gguf", ".index"))
    )


def _is_read(name: str) -> bool:
    path = PurePosixPath(name)
    hidden = any(part.startswith(".") for part in path.parts)
    return not hidden and path.suffix.lower() not in _LEFT_OUT


def _gguf(file: Path, address: str) -> Path:
    if file.suffix.lower() != ".gguf":
        raise PresetError(
            f"A single file is a preset if it ends in .gguf. Received: {file.name}",
            where=address,
            fix="give the folder of the model, of an object store (s3://...)",
        )
    return file
