"""Checks that loaded weights are finite numbers."""

from __future__ import annotations

from pathlib import Path

import keras
import numpy as np

from kerasllm.errors import PresetError


def check_finite(model: keras.Model, preset: str | Path) -> None:
    """Checks that no weight holds NaN or infinity: what is computed with it says nothing.

    Raises:
        PresetError: If one does.
    """
    for weight in model.weights:
        if not _is_finite(weight):
            raise PresetError(
                f"the weight {weight.path} holds NaN or infinity",
                where=str(preset),
                fix="download the files again, or use another model",
            )


def _is_finite(weight: keras.Variable) -> bool:
    if keras.config.backend() == "jax":
        # Where its parts lie: they are never together.
        return bool(keras.ops.all(keras.ops.isfinite(weight.value)))
    value = weight.numpy()
    return np.issubdtype(value.dtype, np.integer) or bool(np.isfinite(value).all())
