"""Where kerasllm keeps its cache, and what machine and versions a run was made with."""

from __future__ import annotations

import os
import platform
import sys
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path

from kerasllm.addresses import redact

PACKAGES = (
    "kerasllm",
    "tensorflow",
    "tensorflow-text",
    "keras",
    "keras-hub",
    "tokenizers",
    "pyarrow",
    "numpy",
)


def cache_dir() -> Path:
    """Returns the cache folder: `KERASLLM_CACHE`, else `kerasllm` in the user's cache folder."""
    if folder := os.environ.get("KERASLLM_CACHE"):
        return Path(folder).expanduser()
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "kerasllm"
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "kerasllm"


def store_dir() -> Path:
    """Returns the folder of the token stores."""
    return cache_dir() / "tokens"


def versions() -> dict[str, str]:
    """Returns the versions of Python and of the packages that results depend on."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            found[package] = "not installed"
    return found


def describe_environment(command: str, seed: int, fingerprints: dict[str, str]) -> dict:
    """Returns what a run was made with, for its `environment.json`.

    Args:
        command: The command that was typed.
        seed: The seed of the run.
        fingerprints: The fingerprint of each part of the data.
    """
    import tensorflow as tf

    return {
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": redact(command),
        "seed": seed,
        "data": fingerprints,
        "versions": versions(),
        "platform": platform.platform(),
        "cpus": os.cpu_count(),
        "devices": [device.name for device in tf.config.list_physical_devices()],
    }
