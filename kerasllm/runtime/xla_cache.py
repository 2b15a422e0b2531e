"""Programs that XLA has compiled for this processor, kept for the next run.

A program takes XLA some tenths of a second, and a training has one for each of a dozen pieces of a
layer and each length of a batch: together tens of seconds, which only the first run has to wait.
"""

from __future__ import annotations

import hashlib
import os
import platform
import shutil
import sys
from pathlib import Path

from kerasllm.environment import cache_dir, versions

_VARIABLE = "TF_XLA_FLAGS"
# XLA's reductions by YNNPACK share data that only one call of a program at a time may read: two
# parts of a batch, computed on two cores, end the process. XLA's own are as fast. Of all that
# YNNPACK computes the products stay, which are nearly twice as fast by it for a few rows.
_XLA_VARIABLE = "XLA_FLAGS"
_YNN = "--xla_cpu_experimental_ynn_fusion_type="
_PRODUCTS_ALONE = f"{_YNN}individual_dot"
# XLA ends the process over a flag that it does not know.
_FIRST_WITH_YNN = (2, 21)
_FLAG = "--tf_xla_persistent_cache_directory"
# Of all programs; above it the oldest are forgotten.
_MOST_BYTES = 1 << 30
# TensorFlow fails where it cannot write one.
_LEAST_FREE_BYTES = 2 << 30


def keep_programs() -> Path | None:
    """Makes TensorFlow, which must not be imported yet, keep what XLA compiles in the cache folder.

    Returns:
        The folder. `None` where nothing is kept: `TF_XLA_FLAGS` names a folder already, TensorFlow
        is imported, or there is no folder with room.
    """
    if "tensorflow" in sys.modules:
        return None
    own = os.environ.get(_XLA_VARIABLE, "")
    if _YNN not in own and _tensorflow() >= _FIRST_WITH_YNN:
        os.environ[_XLA_VARIABLE] = f"{own} {_PRODUCTS_ALONE}".strip()
    flags = os.environ.get(_VARIABLE, "")
    if _FLAG in flags:
        return None
    folder = cache_dir() / "xla" / _machine()
    # TensorFlow takes its flags apart at spaces.
    if any(character.isspace() for character in str(folder)):
        return None
    try:
        # They are run: nobody else may write there.
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        forget_old(folder, _MOST_BYTES)
        if shutil.disk_usage(folder).free < _LEAST_FREE_BYTES:
            return None
    except OSError:
        return None
    os.environ[_VARIABLE] = f"{flags} {_FLAG}={folder}".strip()
    return folder


def calls_at_once() -> bool:
    """Returns whether XLA's programs may be called while another call of them is going on.

    Programs without products of matrices, that is. Not where a user wants more of YNNPACK.
    """
    flags = os.environ.get(_XLA_VARIABLE, "").split()
    return _PRODUCTS_ALONE in flags or _YNN in flags


def forget_old(folder: Path, most_bytes: int) -> None:
    """Deletes the oldest programs, until the others fill no more than `most_bytes`."""
    files = {path: path.stat() for path in folder.iterdir()}
    there = sum(state.st_size for state in files.values())
    for path in sorted(files, key=lambda path: files[path].st_mtime):
        if there <= most_bytes:
            break
        path.unlink(missing_ok=True)
        there -= files[path].st_size


def _tensorflow() -> tuple[int, ...]:
    """Returns the major and the minor number of the version that is installed."""
    return tuple(int(part) for part in versions()["tensorflow"].split(".")[:2] if part.isdigit())


def _machine() -> str:
    """Returns a name for what programs depend on beside themselves: processor and TensorFlow."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = [platform.processor()]
    known = [line for line in lines if line.startswith(("model name", "flags", "Features"))]
    flags = os.environ.get(_XLA_VARIABLE, "")
    told = [platform.machine(), versions()["tensorflow"], flags, *sorted(set(known or lines[:1]))]
    told = "\n".join(told)
    return hashlib.sha256(told.encode()).hexdigest()[:16]
