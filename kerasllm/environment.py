"""Where kerasllm keeps its cache, which Keras it runs on, and what a run was made with."""

from __future__ import annotations

import importlib.util
import os
import platform
import sys
import tempfile
from contextlib import suppress
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path

from kerasllm.addresses import redact
from kerasllm.errors import CommandError

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

# The backend of Keras in this process.
_backend = "tensorflow"


def cache_dir() -> Path:
    """Returns the cache folder: `KERASLLM_CACHE`, else `kerasllm` in the user's cache folder."""
    if folder := os.environ.get("KERASLLM_CACHE"):
        return Path(folder).expanduser()
    if sys.platform == "darwin":
        return home() / "Library" / "Caches" / "kerasllm"
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else home() / ".cache") / "kerasllm"


def home() -> Path:
    """Returns the home directory; where a user has none, one that is made for temporary files.

    Containers run as users that no one has entered anywhere. Packages that need a home when they
    are imported find the same one: `HOME` is set.

    Raises:
        CommandError: If the folder is another user's.
    """
    try:
        return Path.home()
    except RuntimeError:
        folder = Path(tempfile.gettempdir()) / f"kerasllm-{os.getuid()}"
    with suppress(OSError):
        folder.mkdir(mode=0o700, exist_ok=True)
    # Anyone can make a folder there, and wait for what is read from it.
    if not folder.is_dir() or folder.is_symlink() or folder.stat().st_uid != os.getuid():
        raise CommandError(
            "There is no home directory, and a folder in its place cannot be made",
            where=str(folder),
            fix="set HOME to a folder that can be written",
        )
    os.environ["HOME"] = str(folder)
    return folder


def use_jax() -> None:
    """Makes Keras compute with JAX in this process, for `--strategy sharded`; before its import.

    Raises:
        CommandError: If JAX is not installed, or Keras computes with TensorFlow already.
    """
    global _backend
    if importlib.util.find_spec("jax") is None:
        raise CommandError(
            "strategy 'sharded' needs JAX, which is not installed",
            fix="pip install 'kerasllm[jax]' (on GPUs: pip install 'jax[cuda12]'; on TPUs: "
            "pip install 'jax[tpu]')",
        )
    if "keras" in sys.modules and sys.modules["keras"].config.backend() != "jax":
        raise CommandError(
            "strategy 'sharded' came too late: Keras computes with TensorFlow in this process",
            fix="use the command: kerasllm finetune --strategy sharded ...",
        )
    _backend = os.environ["KERAS_BACKEND"] = "jax"


def uses_jax() -> bool:
    """Tells whether `use_jax` was called."""
    return _backend == "jax"


def keras_problem() -> CommandError | None:
    """Returns why the Keras that the environment asks for is not the one that kerasllm runs on."""
    keras = sys.modules.get("keras")
    backend = keras.config.backend() if hasattr(keras, "config") else None
    backend = backend or os.environ.get("KERAS_BACKEND") or "tensorflow"
    if backend != _backend:
        return CommandError(
            f"kerasllm runs on Keras' TensorFlow backend. Received: KERAS_BACKEND={backend}",
            where="the environment variable KERAS_BACKEND",
            fix="unset KERAS_BACKEND, or set it to tensorflow, before Keras is imported",
        )
    if (legacy := os.environ.get("TF_USE_LEGACY_KERAS")) in ("1", "true", "True"):
        return CommandError(
            f"kerasllm runs on Keras 3, and TF_USE_LEGACY_KERAS={legacy} asks for Keras 2",
            where="the environment variable TF_USE_LEGACY_KERAS",
            fix="unset TF_USE_LEGACY_KERAS",
        )
    return None


def refuse_other_keras() -> None:
    """Raises the `keras_problem`, if there is one."""
    if problem := keras_problem():
        raise problem


def store_dir() -> Path:
    """Returns the folder of the token stores."""
    return cache_dir() / "tokens"


def versions() -> dict[str, str]:
    """Returns the versions of Python and of the packages that results depend on."""
    found = {"python": platform.python_version()}
    for package in (*PACKAGES, "jax") if uses_jax() else PACKAGES:
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
