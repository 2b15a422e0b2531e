"""The values of variables in the memory of the host, on either backend."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

import keras
import numpy as np


def value_of(variable: keras.Variable) -> np.ndarray:
    """Returns a variable's whole value; of one split over processes, all of them must ask."""
    if keras.config.backend() != "jax":
        return np.asarray(variable.numpy())
    from kerasllm.training.sharded import host

    return host.value_of(variable)


def kept_value(variable: keras.Variable):
    """Returns a copy of a variable's value that `assign` takes; each process keeps its own part."""
    if keras.config.backend() != "jax":
        return variable.numpy()
    from kerasllm.training.sharded import host

    return host.kept(variable)


def spans_processes(model: keras.Model) -> bool:
    """Tells whether a model is in parts that several processes hold."""
    if keras.config.backend() != "jax":
        return False
    from kerasllm.training.sharded import host

    return host.spans_processes(model)


def built_on_host(build: Callable[[], keras.Model]) -> keras.Model:
    """Builds a model whose weights are quantized or cast while it is built.

    In shards this happens in the memory of the host: no device holds a part of the weights as they
    were read.

    Args:
        build: Returns the model.
    """
    if keras.config.backend() != "jax":
        return build()
    from kerasllm.training.sharded import host

    return host.built_on_host(build)


def whole_weights(model: keras.Model) -> AbstractContextManager:
    """Returns a context in which one process can read weights that are split over several.

    Args:
        model: The model; all processes enter the context together.
    """
    if keras.config.backend() != "jax":
        return nullcontext()
    from kerasllm.training.sharded import host

    return host.whole_weights(model)
