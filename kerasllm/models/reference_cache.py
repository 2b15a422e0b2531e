"""Log-probabilities of the reference model, cached by its weights and the rows."""

from __future__ import annotations

import hashlib
import json
import os
import uuid
from collections.abc import Callable

import keras
import numpy as np

from kerasllm.data.pairs import SIDES, Pairs
from kerasllm.distribution.strategies import worker_count
from kerasllm.environment import cache_dir, versions
from kerasllm.training.host_values import spans_processes, value_of


class ReferenceCache:
    """Finds the log-probabilities that a model gave before, of the same weights, to the last bit.

    Args:
        model: The model as it is now.
        settings: What else decides how its sums are rounded, as JSON takes it.
    """

    def __init__(self, model: keras.Model, settings: list):
        # Several workers compute together, and one of them alone may have them in its cache.
        alone = worker_count(model.distribute_strategy) == 1
        self._used = alone and not spans_processes(model)
        self._key = self._used and _digest(model, settings)

    def get(self, pairs: Pairs, compute: Callable[[], np.ndarray]) -> np.ndarray:
        """Returns the log-probabilities of pairs, float32 `[pairs, 2]`, computed where needed."""
        if not self._used:
            return compute()
        key = hashlib.sha256(f"{self._key} {pairs.store.fingerprint}".encode())
        key.update(np.ascontiguousarray(pairs.numbers, np.int64).tobytes())
        path = cache_dir() / "references" / f"{key.hexdigest()}.npy"
        try:
            found = np.load(path, allow_pickle=False)
            if found.shape == (len(pairs), SIDES) and found.dtype == np.float32:
                return found
        except (OSError, ValueError, EOFError):
            pass
        computed = compute()
        temporary = path.with_name(f".{uuid.uuid4().hex}.tmp.npy")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            np.save(temporary, computed)
            os.replace(temporary, path)
        except OSError:
            # A cache that cannot be written costs time and nothing else.
            temporary.unlink(missing_ok=True)
        return computed


def _digest(model: keras.Model, settings: list) -> str:
    digest = hashlib.sha256(json.dumps([versions(), settings], sort_keys=True).encode())
    for variable in model.task.variables:
        # Dropout is off.
        if variable.name != "seed_generator_state":
            value = np.ascontiguousarray(value_of(variable))
            digest.update(f"{variable.path} {value.dtype} {value.shape}".encode())
            digest.update(value.reshape(-1).view(np.uint8))
    return digest.hexdigest()
