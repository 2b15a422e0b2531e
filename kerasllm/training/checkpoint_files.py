"""The files of a checkpoint: arrays and JSON in, a folder that is verified when read.

A checkpoint folder holds:

- `arrays.safetensors`: the arrays. Any safetensors reader opens it, and nothing in it can run. Of
  a training in shards `arrays-1.safetensors`, ... have the parts of the other processes.
- `state.json`: everything else, as plain JSON.
- `manifest.json`: format version, step, whether it is the best, and size and SHA-256 of each.
- `manifest.sha256`: the manifest's SHA-256, in the format of `sha256sum`.

The last two keep their names and their first key in every format to come, so that an old kerasllm
can say that a checkpoint is too new for it.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
import stat
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ml_dtypes  # noqa: F401  registers bfloat16 in NumPy, which safetensors needs
import numpy as np
import safetensors
import safetensors.numpy

from kerasllm.errors import RunError
from kerasllm.json_files import read_json_file
from kerasllm.safetensors_file import save_tensors
from kerasllm.training.checkpoint_parts import joined

FORMAT = 1

ARRAYS = "arrays.safetensors"
STATE = "state.json"
MANIFEST = "manifest.json"
DIGEST = "manifest.sha256"
# Of the other processes of a training in shards.
_OTHER_ARRAYS = re.compile(r"arrays-[1-9][0-9]*\.safetensors")

# What safetensors both writes from NumPy and reads into it.
_DTYPES = (
    *("bool", "int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64"),
    *("bfloat16", "float16", "float32", "float64", "complex64"),
)
_RESERVED_NAME = "__metadata__"

# JSON has no word for these, and readers disagree about Python's. {"$float": "inf"} is for all.
_FLOAT = "$float"


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint that was read and verified.

    Args:
        step: The step that it was saved at.
        state: What was saved as `state`.
        arrays: The arrays by name, with the dtypes and shapes that they were saved with.
    """

    step: int
    state: dict
    arrays: Mapping[str, np.ndarray]


class DamagedCheckpointError(RunError):
    """A file of a checkpoint is missing, cut off or changed."""

    def __init__(self, folder: Path, name: str, why: str):
        super().__init__(
            f"Checkpoint {folder.name} is damaged: {name} {why}",
            where=str(folder / name),
            fix="remove the checkpoint, and resume from the previous one with --resume",
        )


def write_checkpoint(
    folder: Path,
    step: int,
    arrays: Mapping[str, np.ndarray],
    state: str,
    best: bool,
    parts: Sequence[Path] = (),
) -> None:
    """Writes a new folder and waits until it is on the disk.

    The checksums are those of the files as the operating system gives them back. What they hold
    was checked against what was asked for: the header of the arrays covers its whole file, with
    every name in it.

    Args:
        folder: The folder to make.
        step: The step of the checkpoint.
        arrays: What `check_arrays` let pass.
        state: What `encode_state` returned.
        best: Whether this is the best checkpoint up to its step.
        parts: The files that other processes wrote by `write_part`, which are moved. Defaults to
            none.

    Raises:
        OSError, safetensors.SafetensorError: If something cannot be written.
    """
    folder.mkdir()
    (folder / STATE).write_text(state, encoding="utf-8")
    _write_arrays(folder / ARRAYS, arrays)
    for path in parts:
        os.rename(path, folder / path.name)
    names = (ARRAYS, *(path.name for path in parts), STATE)
    manifest = {
        "format": FORMAT,
        "step": step,
        "best": best,
        "files": {name: _facts(folder / name) for name in names},
    }
    (folder / MANIFEST).write_text(json.dumps(manifest, indent=2) + "\n", encoding="utf-8")
    (folder / DIGEST).write_bytes(_digest_line((folder / MANIFEST).read_bytes()))
    for name in (*names, MANIFEST, DIGEST):
        fsync(folder / name)
    fsync(folder)


def part_file(process: int) -> str:
    """Returns the name of the file with the parts of a process, from 1."""
    return f"arrays-{process}.safetensors"


def write_part(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Writes what another process than the first has of a checkpoint, for `write_checkpoint`.

    Args:
        path: A `part_file` in a folder for the parts of this checkpoint, which is made.
        arrays: Its parts of the arrays, named by `checkpoint_parts.part_name`.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    _write_arrays(path, arrays)
    fsync(path)


def _write_arrays(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    # safetensors writes from the arrays' own memory. That needs rows that lie one after the other.
    dense = {
        name: np.ascontiguousarray(array).reshape(array.shape) for name, array in arrays.items()
    }
    save_tensors(dense, path)
    with safetensors.safe_open(path, framework="numpy") as opened:
        if set(opened.keys()) != set(arrays):
            raise OSError(f"{path} does not contain what was written")


def read_checkpoint(folder: Path, step: int) -> Checkpoint:
    """Reads a checkpoint and verifies every byte of it.

    Args:
        folder: The checkpoint's folder.
        step: The step that the folder is named after.

    Raises:
        DamagedCheckpointError: If a file is missing, cut off or changed.
        RunError: If a newer kerasllm wrote it, or it may not be read.
    """
    manifest = read_manifest(folder, step)
    for name, expected in manifest["files"].items():
        found = _read(_facts, folder, name)
        if found["size"] != expected["size"]:
            why = f"has {found['size']} bytes, not {expected['size']}"
            raise DamagedCheckpointError(folder, name, why)
        if found != expected:
            raise DamagedCheckpointError(folder, name, "does not match its checksum")
    return Checkpoint(
        step=step,
        state=_read(_state_of, folder, STATE),
        arrays=_arrays_of(folder, [name for name in manifest["files"] if name != STATE]),
    )


def _arrays_of(folder: Path, names: list[str]) -> dict[str, np.ndarray]:
    files = [_read(safetensors.numpy.load_file, folder, name) for name in names]
    try:
        return joined(files)
    except ValueError as error:
        raise DamagedCheckpointError(folder, ARRAYS, f"cannot be read: {error}") from error


def read_state(folder: Path, step: int) -> dict:
    """Reads the state of a checkpoint, verified, and not its arrays.

    Args:
        folder: The checkpoint's folder.
        step: The step that the folder is named after.

    Raises:
        DamagedCheckpointError: If the manifest or the state is missing, cut off or changed.
        RunError: If a newer kerasllm wrote it, or it may not be read.
    """
    expected = read_manifest(folder, step)["files"][STATE]
    if _read(_facts, folder, STATE) != expected:
        raise DamagedCheckpointError(folder, STATE, "does not match its checksum")
    return _read(_state_of, folder, STATE)


def read_manifest(folder: Path, step: int) -> dict:
    """Returns the verified manifest of a checkpoint, whose files may be damaged all the same.

    Args:
        folder: The checkpoint's folder.
        step: The step that the folder is named after.

    Raises:
        DamagedCheckpointError: If the manifest or its checksum is missing, cut off or changed.
        RunError: If a newer kerasllm wrote it, or it may not be read.
    """
    text = _read(Path.read_bytes, folder, MANIFEST)
    if _read(Path.read_bytes, folder, DIGEST) != _digest_line(text):
        raise DamagedCheckpointError(folder, MANIFEST, f"does not match {DIGEST}")
    manifest = _read(read_json_file, folder, MANIFEST)
    known = manifest.get("format") if isinstance(manifest, dict) else None
    if not isinstance(known, int) or (known == FORMAT and not _is_manifest(manifest)):
        raise DamagedCheckpointError(
            folder, MANIFEST, "contains something that kerasllm does not write"
        )
    if known != FORMAT:
        raise RunError(
            f"Checkpoint {folder.name} has format {known}; this kerasllm reads format {FORMAT}",
            where=str(folder),
            fix="resume with the version of kerasllm that wrote it, or a newer one",
        )
    if manifest["step"] != step:
        raise DamagedCheckpointError(folder, MANIFEST, f"is of step {manifest['step']}")
    return manifest


def check_arrays(arrays: Mapping[str, np.ndarray]) -> None:
    """Raises a `TypeError` or `ValueError` for what would not come back as it is."""
    for name, array in arrays.items():
        if not isinstance(array, np.ndarray) or array.dtype.name not in _DTYPES:
            kind = getattr(array, "dtype", None) or type(array).__name__
            raise TypeError(
                f"arrays[{name!r}] cannot be stored. Received: {kind}. "
                f"Expected a NumPy array of one of {', '.join(_DTYPES)}."
            )
        if name == _RESERVED_NAME:
            raise ValueError(f"No array can be named {_RESERVED_NAME!r}: safetensors uses it.")


def encode_state(state: dict) -> str:
    """Returns the state as JSON that any reader takes and that comes back exactly.

    Args:
        state: Dicts with string keys, lists, strings, numbers (infinite and NaN too), booleans
            and `None`.

    Raises:
        TypeError, ValueError: If something in it would come back as something else: a tuple, a
            key that is not a string, an array.
    """
    return json.dumps(_plain(state, "state"), indent=2, allow_nan=False) + "\n"


def decode_state(text: str | bytes) -> dict:
    """Returns the state that `encode_state` made the text of.

    Raises:
        ValueError: If it is the text of nothing that `encode_state` takes.
    """
    try:
        state = json.loads(
            text, object_hook=lambda found: float(found[_FLOAT]) if _FLOAT in found else found
        )
    except (RecursionError, TypeError, UnicodeDecodeError) as error:
        raise ValueError(f"it is not a state: {error}") from None
    if not isinstance(state, dict):
        raise ValueError("it is not an object")
    return state


def _state_of(path: Path) -> dict:
    return decode_state(path.read_bytes())


def _is_manifest(manifest: dict) -> bool:
    files = manifest.get("files")
    return (
        isinstance(manifest.get("step"), int)
        and isinstance(manifest.get("best"), bool)
        and isinstance(files, dict)
        and {ARRAYS, STATE} <= files.keys()
        and all(map(_OTHER_ARRAYS.fullmatch, files.keys() - {ARRAYS, STATE}))
        and all(isinstance(facts, dict) and "size" in facts for facts in files.values())
    )


def fsync(path: Path) -> None:
    """Waits until a file's content, or a folder's list of names, is on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _plain(value: object, place: str) -> object:
    match value:
        case float() if not math.isfinite(value):
            return {_FLOAT: str(float(value))}
        case None | bool() | int() | float() | str():
            return value
        case list():
            return [_plain(item, f"{place}[{number}]") for number, item in enumerate(value)]
        case dict():
            for key in value:
                if not isinstance(key, str) or key == _FLOAT:
                    raise ValueError(f"{place} has the key {key!r}, which JSON cannot keep here.")
            return {key: _plain(item, f"{place}[{key!r}]") for key, item in value.items()}
    raise TypeError(
        f"{place} cannot be stored. Received: {type(value).__name__}. "
        "Expected dicts, lists, strings, Python numbers, booleans or None."
    )


def _facts(path: Path) -> dict:
    with open(path, "rb") as file:
        checksum = hashlib.file_digest(file, "sha256").hexdigest()
        return {"size": file.tell(), "sha256": checksum}


def _digest_line(manifest: bytes) -> bytes:
    return f"{hashlib.sha256(manifest).hexdigest()}  {MANIFEST}\n".encode()


def _read(reader: Callable[[Path], Any], folder: Path, name: str) -> Any:
    """Calls a reader of a path; says what is wrong with the file if it cannot be read."""
    try:
        if not stat.S_ISREG(os.stat(folder / name).st_mode):
            raise OSError(None, "it is not a regular file")
        return reader(folder / name)
    except (ValueError, safetensors.SafetensorError) as error:
        why = f"cannot be read: {str(error)[:200]}"
        raise DamagedCheckpointError(folder, name, why) from error
    except FileNotFoundError:
        raise DamagedCheckpointError(folder, name, "is missing") from None
    except PermissionError as error:
        raise RunError(
            f"Checkpoint {folder.name} may not be read: {error.strerror}",
            where=str(folder / name),
            fix="make it readable for the user who resumes",
        ) from error
    except OSError as error:
        why = f"cannot be read: {error.strerror or error}"
        raise DamagedCheckpointError(folder, name, why) from error
